"""A state directory is one LXD's."""

from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.update.followed_lxd import (
    FILE,
    AnotherLxdError,
    check,
    claim,
    has_updates_of,
)
from lxdocker_lxd.update.journal_record import Event
from tests.harness.simulated_lxd import GOOD, Behaviour, Call, KilledError
from tests.update.simulated_scene import Scene

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


def test_a_directory_stays_with_the_lxd_that_used_it_first(tmp_path: Path) -> None:
    assert not check(tmp_path, ONE, "here")
    claim(tmp_path, ONE, "https://one:8443")
    claim(tmp_path, ONE, "its socket")
    assert check(tmp_path, ONE, "here")
    with pytest.raises(AnotherLxdError) as caught:
        claim(tmp_path, TWO, "https://two:8443")
    assert "https://one:8443 (certificate 111111111111), not of https://two" in str(caught.value)
    assert str(tmp_path / FILE) in caught.value.hint
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


# ---- a new certificate


def left_open(behaviour: Behaviour = GOOD) -> Scene:
    """An updater was killed in the outage of ``web``."""
    scene = Scene(behaviour)

    def kill(call: Call) -> None:
        if call.name == "instances.rename":
            raise KilledError(str(call))

    scene.lxd.log.before = kill
    with pytest.raises(KilledError):
        scene.update()
    scene.lxd.log.before = lambda _call: None
    return scene


def same(scene: Scene) -> bool:
    return has_updates_of(scene.lxd.instances.list(project=None), scene.journal.read())


def test_an_open_outage_is_recovered_after_lxds_certificate_changed(tmp_path: Path) -> None:
    scene = left_open()
    claim(tmp_path, ONE, "its socket")
    # It joined a cluster.
    assert not check(tmp_path, TWO, "its socket", is_same=lambda: same(scene))
    said = claim(tmp_path, TWO, "its socket", is_same=lambda: same(scene))
    assert "its socket has a new certificate (222222222222)" in said
    assert check(tmp_path, TWO, "its socket")
    scene.recover()
    scene.settled()
    # Nothing is open any more; what the update left is still there.
    assert claim(tmp_path, THREE, "its socket", is_same=lambda: same(scene))


def test_another_lxd_at_the_same_place_or_the_same_one_elsewhere_is_refused(tmp_path: Path) -> None:
    scene, other = left_open(), Scene(GOOD)
    claim(tmp_path, ONE, "its socket")
    entries = scene.journal.read()
    with pytest.raises(AnotherLxdError):
        claim(
            tmp_path,
            TWO,
            "its socket",
            is_same=lambda: has_updates_of(other.lxd.instances.list(project=None), entries),
        )
    with pytest.raises(AnotherLxdError):
        claim(tmp_path, TWO, "https://elsewhere:8443", is_same=lambda: same(scene))
    assert check(tmp_path, ONE, "its socket")


def test_a_lxd_that_holds_copies_alone_isnt_the_same_one() -> None:
    scene = left_open()
    instances = scene.lxd.instances.list(project=None)
    entries = scene.journal.read()
    assert has_updates_of(instances, entries)
    # As `lxc copy` to another server makes them, under names of their own or in another project.
    copies = [replace(one, name=f"copy-{one.name}") for one in instances]
    assert not has_updates_of(copies, entries)
    assert not has_updates_of([replace(one, project="other") for one in instances], entries)
    # Part of what is open is missing.
    finished = [line for line in entries if line.event is not Event.OUTAGE]
    assert has_updates_of(instances, finished)
    lost = replace(entries[1], transaction=replace(entries[1].transaction, id="ffffffff"))
    assert lost.event is Event.OUTAGE
    assert not has_updates_of(instances, (*entries, lost))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_what_cannot_be_understood_is_nobodys_leave(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AnotherLxdError, match="can't be understood"):
        claim(tmp_path, ONE, "here")
