"""Another user of the machine, in whose directories root is asked to work."""

import os
import site
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.convert.workshop import Workshop

NOBODY = 65534
CHECKOUT = Path(__file__).parents[2]
SECRET = b"only root may read or change this"


def everybodys_python() -> str:
    """A Python of this version that every user may run; what tests run in may be root's alone."""
    for program in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        real = Path(os.path.realpath(program))
        if real.exists() and all(one.stat().st_mode & 0o001 for one in (real, *real.parents)):
            return program
    raise AssertionError("no Python here can be run by another user")


def readable_packages() -> dict[str, str]:
    """Return the environment in which that Python finds this checkout and what it needs."""
    return {"PYTHONPATH": os.pathsep.join((str(CHECKOUT), *site.getsitepackages()))}


class Machine:
    """A directory that all users reach, with another user's tree in it, and a directory of root's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workshop = Workshop(root / "work")
        self.theirs = root / "theirs"
        self.cache, self.images = self.theirs / "cache", self.theirs / "images"
        for path in (self.theirs, self.cache, self.images):
            path.mkdir()
        self.private = root / "private"
        self.private.mkdir(mode=0o700)
        (self.private / "shadow").write_bytes(SECRET)
        (self.private / "shadow").chmod(0o600)
        os.utime(self.private / "shadow", (0, 0))

    def give(self) -> None:
        """Let the other user own the whole tree."""
        for path in (self.theirs, *self.theirs.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def convert(
        self, *words: str, user: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command as a user."""
        busybox = self.workshop.options.busybox["amd64"]
        return subprocess.run(
            [
                *(everybodys_python(), "-P", "-m", "lxdocker_lxd", "convert", "--format=json"),
                *(f"--specs={self.workshop.specs}", f"--cache={self.cache}"),
                *(f"--lxdimages={self.images}", "--imageformat=tar"),
                *(f"--busybox=amd64={busybox}", *words),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.root,
            user=user,
            group=user,
            extra_groups=[],
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/root",
                **readable_packages(),
                **(env or {}),
            },
            timeout=120,
        )

    def owners(self) -> set[int]:
        """Whose files are in the other user's tree."""
        return {path.lstat().st_uid for path in (self.theirs, *self.theirs.rglob("*"))}

    def expect_private_unchanged(self) -> None:
        assert [path.name for path in self.private.iterdir()] == ["shadow"]
        assert (self.private / "shadow").read_bytes() == SECRET
        assert (self.private / "shadow").stat().st_mode & 0o777 == 0o600
