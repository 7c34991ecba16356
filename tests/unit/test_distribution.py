"""Wheel and sdist: complete, with a bill of materials, and the same bytes wherever they are built."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEN = "1700000000"
OLD, NEW = 1_000_000_000, 1_750_000_000
UNTRACKED = (
    ".git",
    ".venv",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
)


def copy_source(target: Path, *, mode: int, changed: int) -> Path:
    """Copy what a checkout holds, with other modes and times."""
    ignored = shutil.ignore_patterns(*UNTRACKED)
    shutil.copytree(ROOT, target, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / ".gitignore", target)
    for path in sorted(target.rglob("*"), reverse=changed == NEW):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & mode)
            os.utime(path, (changed, changed))
    return target


def build(source: Path, *kinds: str) -> dict[str, bytes]:
    """Build in ``source`` and return what was made, by name."""
    words = (sys.executable, "-P", "-m", "hatchling", "build", "--directory", "made")
    subprocess.run(
        [*words, *(word for kind in kinds for word in ("--target", kind))],
        check=True,
        cwd=source,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": WHEN, "PYTHONPATH": ""},
    )
    return {path.name: path.read_bytes() for path in (source / "made").iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which both were built."""
    source = copy_source(tmp_path_factory.mktemp("a") / "source", mode=0o777, changed=OLD)
    build(source, "sdist", "wheel")
    return source / "made"


def only(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


def test_two_builds_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    source = copy_source(tmp_path / "elsewhere", mode=0o700, changed=NEW)
    again = build(source, "sdist", "wheel")
    assert sorted(again) == sorted(path.name for path in made.iterdir())
    for path in made.iterdir():
        assert path.read_bytes() == again[path.name], path.name


def test_the_sdist_builds_the_same_wheel(made: Path, tmp_path: Path) -> None:
    with tarfile.open(only(made, "*.tar.gz")) as archive:
        # Debian 12's Python has no filter for what is unpacked.
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)  # noqa: S202 - it was made here
    (source,) = tmp_path.iterdir()
    assert build(source, "wheel") == {path.name: path.read_bytes() for path in made.glob("*.whl")}


def test_the_wheel_holds_the_package_and_its_bill_of_materials(made: Path) -> None:
    with zipfile.ZipFile(only(made, "*.whl")) as wheel:
        names = wheel.namelist()
        bills = [name for name in names if ".dist-info/sboms/" in name]
        assert [Path(name).name for name in bills] == ["lxdocker-lxd.cdx.json"]
        expected = (ROOT / "packaging/lxdocker-lxd.cdx.json").read_bytes()
        assert wheel.read(bills[0]) == expected
    package = {name for name in names if ".dist-info/" not in name}
    assert package == {
        str(path.relative_to(ROOT))
        for path in (ROOT / "lxdocker_lxd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
