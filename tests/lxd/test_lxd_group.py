"""A user of the machine who isn't root: in the group of LXD's socket, and outside of it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdocker_lxd.errors import AuthenticationError
from tests.harness.lxd import PrivateLxd
from tests.harness.other_user import everybodys_python, readable_packages

pytestmark = [pytest.mark.lxd, pytest.mark.root]
PERSON, GROUP = 4321, 4322


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="lxperson-", dir="/tmp"))
    os.chown(path, PERSON, PERSON)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def socket(private_lxd: PrivateLxd) -> Iterator[Path]:
    """The socket, for a group as LXD's packages have it."""
    socket, directory = private_lxd.socket, private_lxd.directory
    before, mode = socket.stat(), directory.stat().st_mode
    os.chown(socket, 0, GROUP)
    socket.chmod(0o660)
    directory.chmod(0o711)
    try:
        yield socket
    finally:
        os.chown(socket, before.st_uid, before.st_gid)
        socket.chmod(before.st_mode & 0o777)
        directory.chmod(mode & 0o777)


def test_the_group_opens_lxd_and_nothing_else_of_the_machine(
    private_lxd: PrivateLxd, socket: Path, home: Path
) -> None:
    def said(*words: str, groups: list[int]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [everybodys_python(), "-S", "-P", "-m", "lxdocker_lxd", *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=home,
            user=PERSON,
            group=PERSON,
            extra_groups=groups,
            env={
                **private_lxd.environment,
                **readable_packages(),
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "LXD_CONF": str(home / "lxc"),
            },
            timeout=120,
        )

    listed = said("ps", groups=[GROUP])
    assert listed.returncode == 0, listed.stderr
    outside = said("ps", groups=[])
    assert outside.returncode == AuthenticationError.exit_code
    assert str(socket) in outside.stderr
    assert "hint: be root or in the group lxd" in outside.stderr
    assert "Traceback" not in outside.stderr
