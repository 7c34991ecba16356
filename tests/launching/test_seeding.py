"""The first content of a volume: whole or not at all, and nothing of others is ever removed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lxdocker_lxd.launching.launch import LaunchWishes
from lxdocker_lxd.launching.seeding import (
    PENDING,
    SCRIPT,
    SEEDED_KEY,
    SeedError,
)
from lxdocker_lxd.launching.volumes import VolumeWish
from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.lxd.paths import instances_of
from lxdocker_lxd.lxd.resources import Project, Volume
from tests.harness.simulated_lxd import Behaviour, SimulatedLxd
from tests.launching.test_launch import launch, prepared

IMAGE = {"a": "1", "b/c": "2", ".hidden": "3", "b/.d": "4"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What an image has at the path."""
    directory = tmp_path / "image"
    write(directory, IMAGE)
    (directory / "link").symlink_to("nowhere")
    directory.chmod(0o750)
    return directory


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty volume."""
    directory = tmp_path / "volume"
    directory.mkdir(mode=0o711)
    return directory


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)


def seed(image: Path, volume: Path, *, alone: bool = True, doubtful: bool = False) -> int:
    """Run the script as the guest of an instance ``db`` does."""
    words = ("alone" if alone else "shared", "doubtful" if doubtful else "new")
    busybox = shutil.which("busybox") or "busybox"
    done = subprocess.run(
        [busybox, "sh", "-c", SCRIPT, "seed", str(image), str(volume), "db", *words],
        check=False,
        capture_output=True,
    )
    assert done.returncode in {0, 3}, done.stderr
    return done.returncode


def content(directory: Path) -> dict[str, str]:
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(directory))] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(directory))] = path.read_text()
    return found


WHOLE = {**IMAGE, "link": "-> nowhere"}


def test_an_empty_volume_gets_what_the_image_has(image: Path, volume: Path) -> None:
    (volume / "lost+found").mkdir()
    assert seed(image, volume) == 0
    assert content(volume) == WHOLE
    assert volume.stat().st_mode & 0o777 == 0o750
    assert {path.name for path in volume.iterdir()} == {"a", "b", ".hidden", "link", "lost+found"}


def half_copied(_image: Path, volume: Path) -> None:
    write(volume / ".lxdocker-seed-db" / "content", {"a": "1", "b/c": ""})


def copied(image: Path, volume: Path) -> None:
    copy = volume / ".lxdocker-seed-db"
    copy.mkdir()
    shutil.copytree(image, copy / "content", symlinks=True)
    (copy / "whole").touch()


def half_placed(image: Path, volume: Path) -> None:
    copied(image, volume)
    for name in ("a", "link"):
        (volume / ".lxdocker-seed-db" / "content" / name).rename(volume / name)


def placed(image: Path, volume: Path) -> None:
    copied(image, volume)
    for path in list((volume / ".lxdocker-seed-db" / "content").iterdir()):
        path.rename(volume / path.name)


KILLED = (half_copied, copied, half_placed, placed)


@pytest.mark.parametrize("state", KILLED)
@pytest.mark.parametrize("name", ["db", "other"])
def test_one_that_was_killed_is_finished_by_the_next(
    image: Path, volume: Path, state: Callable[[Path, Path], None], name: str
) -> None:
    state(image, volume)
    (volume / ".lxdocker-seed-db").rename(volume / f".lxdocker-seed-{name}")
    assert seed(image, volume) == 0
    assert content(volume) == WHOLE
    assert volume.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("state", KILLED)
def test_what_was_written_by_hand_into_a_half_filled_volume_stays(
    image: Path, volume: Path, state: Callable[[Path, Path], None]
) -> None:
    """It was emptied by the next launch that named it."""
    state(image, volume)
    mine = {"rows": "precious", "b/c": "mine", "a": "mine"}
    write(volume, mine)
    assert seed(image, volume) == 0
    assert mine.items() <= content(volume).items()
    assert not list(volume.glob(".lxdocker-seed-*"))


def test_a_volume_with_content_is_left_as_it_is(image: Path, volume: Path) -> None:
    write(volume, {"rows": "precious"})
    assert seed(image, volume) == 0
    assert content(volume) == {"rows": "precious"}
    assert volume.stat().st_mode & 0o777 == 0o711


def test_where_nobody_knows_whose_content_it_is_nothing_is_done(image: Path, volume: Path) -> None:
    """Versions before filled in place: what is there may be half of the image's, or a user's."""
    write(volume, {"a": "1"})
    assert seed(image, volume, doubtful=True) == 3
    assert content(volume) == {"a": "1"}


def test_a_copy_that_another_instance_is_at_isnt_disturbed(image: Path, volume: Path) -> None:
    half_copied(image, volume)
    other = volume / ".lxdocker-seed-other"
    (volume / ".lxdocker-seed-db").rename(other)
    before = content(other)
    assert seed(image, volume, alone=False) == 0
    assert content(other) == before
    shutil.rmtree(other)
    assert content(volume) == WHOLE


# ---- as launching asks for it


class Scripts:
    """What guests were asked to run."""

    def __init__(self, *, exit_code: int = 0) -> None:
        self.words: list[tuple[str, ...]] = []
        self._code = exit_code

    def answer(self, command: Command, _seconds: float) -> CommandResult | None:
        if SCRIPT not in command.words:
            return None
        self.words.append(command.words[command.words.index(SCRIPT) + 2 :])
        return CommandResult(exit_code=self._code, stdout=b"", stderr=b"")


def with_scripts(scripts: Scripts) -> SimulatedLxd:
    lxd = prepared({"volumes": []})
    fingerprint = lxd.user.aliases.get("web").fingerprint
    lxd.behave(fingerprint, Behaviour(answer=scripts.answer))
    return lxd


WISHES = LaunchWishes(volumes=(VolumeWish(name="mine", path="/data"),))


def test_a_new_volume_is_pending_until_it_is_filled() -> None:
    scripts = Scripts()
    lxd = with_scripts(scripts)
    seen: list[str] = []
    lxd.log.before = lambda call: (
        seen.append(lxd.user.volumes.get("default", "mine").config[SEEDED_KEY])
        if call.name == "guests.execute"
        else None
    )
    launch(lxd, WISHES)
    assert seen[0] == PENDING
    assert lxd.user.volumes.get("default", "mine").config[SEEDED_KEY] == "true"
    assert scripts.words == [("/data", "/.lxdocker/volume0", "one", "alone", "new")]


def test_a_volume_of_an_older_version_is_filled_only_when_it_is_empty() -> None:
    scripts = Scripts(exit_code=3)
    lxd = with_scripts(scripts)
    held = Volume(pool="default", name="mine", project="default", config={SEEDED_KEY: "false"})
    lxd.user.volumes.create(held)
    with pytest.raises(SeedError) as caught:
        launch(lxd, WISHES)
    assert scripts.words == [("/data", "/.lxdocker/volume0", "one", "alone", "doubtful")]
    assert "lxc storage volume unset default mine" in caught.value.hint
    assert lxd.user.volumes.get("default", "mine").config == {SEEDED_KEY: "false"}
    assert not lxd.user.instances.list()


def test_another_user_of_a_volume_may_have_the_same_name_in_another_project() -> None:
    """Only the name was compared: the other project's instance counted as this one."""
    scripts = Scripts()
    lxd = with_scripts(scripts)
    lxd.user.projects.create(Project(name="p", config={"features.storage.volumes": "false"}))
    lxd.user.volumes.create(Volume(pool="default", name="mine", project="default"))
    device = {"type": "disk", "pool": "default", "source": "mine", "path": "/data"}
    other = lxd.add_image("other", project="p")
    root = {"type": "disk", "path": "/", "pool": "default"}
    lxd.launch("one", other, devices={"root": root, "data": device}, project="p", start=False)
    assert instances_of(lxd.user.volumes.get("default", "mine").used_by) == {("p", "one")}
    launch(lxd, WISHES)
    assert [words[3] for words in scripts.words] == ["shared"]
