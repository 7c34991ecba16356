"""Generated layer stacks: our merge and a naive one give the same tree, or both refuse."""

import tempfile
from pathlib import Path

from hypothesis import event, given

from lxdocker_lxd.convert.layer.errors import LayerError
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.rootfs_stream import SQUASHFS_FORM
from tests.harness.snapshots import differences
from tests.layers.model import RefusedError, Stack, acceptable, run_model
from tests.layers.stacks import stacks
from tests.layers.tar_builder import archive, scanned, store_layers
from tests.layers.trees import emitted, snapshot


@given(stacks)
def test_same_as_the_naive_model(stack: Stack) -> None:
    stack = acceptable(stack, usual_only=False)
    with tempfile.TemporaryDirectory() as name:
        paths = store_layers(Path(name), [archive(*layer) for layer in stack])
        tree = merge([scanned(path) for path in paths], LayerLimits())
        expected = run_model(stack).snapshot()
        assert differences(snapshot(tree, paths), expected, directory_times=True) == []


@given(stacks)
def test_refused_as_in_the_naive_model(stack: Stack) -> None:
    """Whole stacks, refusals included; only links that wait for their target are beyond it."""
    try:
        expected = run_model(stack).snapshot()
    except RefusedError:
        expected = None
    event("refused" if expected is None else "accepted")
    with tempfile.TemporaryDirectory() as name:
        paths = store_layers(Path(name), [archive(*layer) for layer in stack])
        try:
            found = snapshot(merge([scanned(path) for path in paths], LayerLimits()), paths)
        except LayerError as error:
            found = None
            named = bool(error.layer) and error.entry is not None
        else:
            named = True
        assert named
        if expected is not None:
            assert found is not None
            assert differences(found, expected, directory_times=True) == []


@given(stacks)
def test_output_is_deterministic_and_ordered(stack: Stack) -> None:
    stack = acceptable(stack, usual_only=False)
    with tempfile.TemporaryDirectory() as name:
        paths = store_layers(Path(name), [archive(*layer) for layer in stack])
        headers = [scanned(path) for path in paths]
        first = emitted(merge(headers, LayerLimits()), paths, SQUASHFS_FORM)
        assert emitted(merge(headers, LayerLimits()), paths, SQUASHFS_FORM) == first


@given(stacks)
def test_merging_its_own_output_changes_nothing(stack: Stack) -> None:
    """The final archive is itself a layer, and the whole image is that one layer."""
    stack = acceptable(stack, usual_only=False)
    with tempfile.TemporaryDirectory() as name:
        paths = store_layers(Path(name), [archive(*layer) for layer in stack])
        tree = merge([scanned(path) for path in paths], LayerLimits())
        flat = Path(name) / "flat"
        flat.write_bytes(emitted(tree, paths))
        again = merge([scanned(flat)], LayerLimits())
        assert emitted(again, [flat]) == flat.read_bytes()
