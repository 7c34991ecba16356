"""The program as an archive: complete, and the same each time."""

import io
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from lxdocker_lxd.setup import payload
from lxdocker_lxd.setup.installation import _LOCKED, _TRY, _UNPACK, PLACE, PROGRAM

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_it_knows_what_the_project_depends_on() -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    names = [re.split("[<>=~; ]", line, maxsplit=1)[0] for line in declared]
    assert sorted(names) == sorted(payload.DEPENDENCIES)


def unpacked(tmp_path: Path, *, own_only: bool) -> Path:
    """Unpack the archive as the container does; return its place."""
    place, archive = tmp_path / "opt", tmp_path / "archive"
    archive.write_bytes(payload.payload().archive(own_only=own_only))
    words = (sys.executable, "-c", _UNPACK, str(archive), str(place), "#!/bin/sh\n")
    subprocess.run(words, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["opt"]
    return place


def test_it_replaces_an_older_one_and_what_a_killed_run_left(tmp_path: Path) -> None:
    for left in ("opt/lib", "opt.new/lib", "opt.old/lib"):
        (tmp_path / left).mkdir(parents=True)
        (tmp_path / left / "stale").touch()
    place = unpacked(tmp_path, own_only=True)
    assert not (place / "lib/stale").exists()
    assert (place / PROGRAM.removeprefix(f"{PLACE}/")).stat().st_mode & 0o777 == 0o755


@pytest.mark.full
def test_unpacked_elsewhere_it_runs_with_nothing_else(tmp_path: Path) -> None:
    """Without site-packages: only what was unpacked is there. (In a container, on a real LXD, too.)"""
    place = unpacked(tmp_path, own_only=False)
    script = _TRY.replace(PLACE, str(place))
    subprocess.run((sys.executable, "-S", "-P", "-c", script), check=True, cwd=tmp_path)


def test_it_is_the_same_each_time_and_root_owns_it() -> None:
    made = payload.payload()
    assert made.digest == payload.payload().digest
    with tarfile.open(fileobj=io.BytesIO(made.archive(own_only=True))) as tar:
        members = tar.getmembers()
    names = {member.name for member in members}
    assert "lib/lxdocker_lxd/setup/units/lxdocker-lxd-serve.service" in names
    # Without the compiled modules, pip installs by it.
    assert _LOCKED.removeprefix(f"{PLACE}/") in names
    assert not any("__pycache__" in name or "/cryptography/" in name for name in names)
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "root")}


@pytest.mark.parametrize("fits", [True, False])
def test_compiled_modules_need_the_same_python(*, fits: bool) -> None:
    words = (sys.executable, "-c", payload.PROBE)
    probed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert probed.splitlines()[1] == sys.executable
    assert payload.fits(probed if fits else probed.replace("cpython-3", "cpython-4")) is fits
    assert not payload.fits("")


def test_an_old_python_is_told_apart() -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["requires-python"]
    assert declared == f">={'.'.join(map(str, payload.OLDEST))}"
    for version, enough in (("3 11", True), ("3 13", True), ("3 9", False), ("3 10", False)):
        assert payload.new_enough(f"cpython-x x86_64 glibc\n/usr/bin/python3\n{version}") is enough
