"""Directories for temporary files: gone afterwards, whatever happened; never anybody else's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.importing.scratch import scratch_directory

WAITING = """
import sys, time
from pathlib import Path
from lxdocker_lxd.importing.scratch import scratch_directory
with scratch_directory(Path(sys.argv[1])) as made:
    (made / "file").write_bytes(b"x")
    print(made, flush=True)
    time.sleep(60)
"""


def broken_off(directory: Path) -> None:
    with scratch_directory(directory) as made:
        assert made.stat().st_mode & 0o777 == 0o700
        (made / "file").write_bytes(b"x")
        raise ZeroDivisionError


def test_it_goes_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        broken_off(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_s_goes_with_the_next(tmp_path: Path) -> None:
    command = (sys.executable, "-c", WAITING, str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with scratch_directory(tmp_path):
            assert (theirs / "file").exists()
        process.kill()
        process.wait()
    with scratch_directory(tmp_path) as ours:
        assert list(tmp_path.iterdir()) == [ours]


@pytest.mark.root
def test_what_isn_t_ours_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / ".lock").touch()
    (tmp_path / "lxdocker-chain-link").symlink_to(target)
    (tmp_path / "lxdocker-chain-new").mkdir()
    shutil.copytree(target, tmp_path / "lxdocker-chain-other")
    os.chown(tmp_path / "lxdocker-chain-other", 65534, 65534)
    before = set(tmp_path.iterdir())
    with scratch_directory(tmp_path):
        pass
    assert set(tmp_path.iterdir()) == before
    assert target.exists()


def test_no_place_for_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="none"), scratch_directory(tmp_path / "none"):
        pass
