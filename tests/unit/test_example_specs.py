"""The examples and the documentation of specifications say what the program does."""

import re
from pathlib import Path

import pytest

from lxdocker_lxd.spec import parse_spec

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_specification(path: Path) -> None:
    assert parse_spec(path.read_text(), name=path.stem, file=str(path)).name == path.stem


def test_the_documentation_lists_exactly_the_keys_there_are() -> None:
    text = (ROOT / "docs" / "spec.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    with pytest.raises(Exception, match="unknown key") as caught:
        parse_spec("image: nginx\nqqqqqqqqq: 1\n", name="x", file="x")
    known = set(caught.value.hint.removeprefix("known keys: ").split(", "))  # type: ignore[attr-defined]  # a SpecError
    assert documented - {"content", "source", "symlink", "directory", "remove"} == known


def test_the_documented_sample_is_understood() -> None:
    text = (ROOT / "docs" / "spec.md").read_text()
    (sample,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert parse_spec(sample, name="nginx", file="nginx.yaml").disable_supervisor is False
