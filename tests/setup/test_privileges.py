"""Who may do what on a machine that was set up: the table of docs/setup.md, tried by each of them.

The machine is a directory with users and groups of its own (``--root``), so that nothing of this one is
touched; rights are tried under the numbers of those users.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lxdocker_lxd.errors import StorageError, UsageError
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.key_groups import KeyGroups
from lxdocker_lxd.setup.wish import SERVER_USER, USER
from tests.convert.workshop import Workshop
from tests.harness.other_user import everybodys_python, readable_packages

DOCUMENT = (Path(__file__).parents[2] / "docs" / "setup.md").read_text("utf-8")
ROW = re.compile(r"^\| `(/\S+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = {path: tuple(map(str.strip, rights)) for path, *rights in ROW.findall(DOCUMENT)}
PERSON, LXD_GROUP = 4321, 4322
KEY = "/var/lib/lxdocker-lxd/tls/server.key"
TRIED = """
import os, sys
for path in sys.argv[1:]:
    print(*(name for name, way in (("reads", 4), ("writes", 2)) if os.access(path, way)), sep=", ")
"""


@dataclass(frozen=True)
class Host:
    """A machine below a directory."""

    root: Path

    def setup(self, *words: str, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Run setup below the directory."""
        flags = ("--no-lxd", f"--root={self.root}", "--address=127.0.0.1:8443")
        return self.run(("setup", *flags, *words), user=user)

    def run(
        self, words: Sequence[str], *, user: int = 0, group: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command as a user."""
        return self.python(
            ("-P", "-m", "lxdocker_lxd", *words), user=user, group=user if group is None else group
        )

    def python(
        self, words: Sequence[str], *, user: int, group: int
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            # Without packages of the system's, which may not fit those named.
            (everybodys_python(), "-S", *words),
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=user,
            group=group,
            extra_groups=[LXD_GROUP] if user == PERSON else [],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **readable_packages()},
            timeout=120,
        )

    def ids(self, name: str) -> tuple[int, int]:
        """User and group number of a user of the machine."""
        for line in (self.root / "etc/passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
        raise AssertionError(f"no user {name}")

    def rights(self, user: tuple[int, int], *paths: str) -> list[str]:
        """What a user may do with each place, in the words of the table."""
        words = ("-c", TRIED, *(str(self.root / path.lstrip("/")) for path in paths))
        tried = self.python(words, user=user[0], group=user[1])
        return [line or "nothing" for line in tried.stdout.splitlines()]

    def owned(self) -> dict[str, tuple[int, int, int]]:
        """Owner, group and mode of everything."""
        found = {}
        for path in (self.root, *self.root.rglob("*")):
            status = path.lstat()
            # What useradd and userdel leave of the old tables.
            if not path.name.endswith("-"):
                place = str(path.relative_to(self.root))
                found[place] = (status.st_uid, status.st_gid, status.st_mode)
        return found


def own_directory() -> Path:
    """A directory that every user reaches."""
    root = Path(tempfile.mkdtemp(prefix="lxprivileges-", dir="/tmp"))
    root.chmod(0o755)
    return root


@pytest.fixture(scope="module")
def bare() -> dict[str, str]:
    """The tables of users as they are before anything."""
    return {"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}


@pytest.fixture(scope="module")
def made(bare: dict[str, str]) -> Iterator[Host]:
    """A machine that was set up."""
    root = own_directory()
    try:
        (root / "etc").mkdir(mode=0o755)
        for name, text in {**bare, "shadow": "", "gshadow": ""}.items():
            (root / "etc" / name).write_text(text)
        host = Host(root)
        done = host.setup("--yes", "--no-self-test")
        assert done.returncode == 0, done.stderr
        yield host
    finally:
        shutil.rmtree(root)


@pytest.fixture
def host(made: Host) -> Iterator[Host]:
    """A machine of the test's own, with logins of registries."""
    root = own_directory()
    try:
        subprocess.run(("cp", "-a", "--", f"{made.root}/.", str(root)), check=True)
        for name in ("var/lib/lxdocker-lxd/setup.json", "etc/lxdocker-lxd/config.yaml"):
            text = (root / name).read_text().replace(str(made.root), str(root))
            (root / name).write_text(text)
        host = Host(root)
        logins = root / "var/lib/lxdocker-lxd/.docker"
        logins.mkdir(mode=0o700)
        (logins / "config.json").write_text("{}")
        (logins / "config.json").chmod(0o600)
        for path in (logins, logins / "config.json"):
            os.chown(path, *host.ids(USER))
        yield host
    finally:
        shutil.rmtree(root)


def as_an_older_version_left_it(host: Host) -> None:
    """One user that converts and serves: what setup did before the server had its own."""
    old, old_group = host.ids(USER)
    state = host.root / "var/lib/lxdocker-lxd/setup.json"
    content = json.loads(state.read_text())
    content["records"] = [one for one in content["records"] if one["name"] != SERVER_USER]
    text = json.dumps(content).replace(f"root:{SERVER_USER}", f"root:{USER}")
    state.write_text(text)
    tls = host.root / "var/lib/lxdocker-lxd/tls"
    for path in (tls, *tls.iterdir()):
        os.chown(path, 0, old_group)
    for name in ("passwd", "group", "shadow", "gshadow"):
        path = host.root / "etc" / name
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith(SERVER_USER)))
    assert host.rights((old, old_group), KEY) == ["reads"]


@pytest.mark.root
class TestFiles:
    def test_each_place_is_open_to_whom_the_table_says(self, host: Host) -> None:
        people = ((PERSON, PERSON), host.ids(USER), host.ids(SERVER_USER))
        found = zip(*(host.rights(one, *ROWS) for one in people), strict=True)
        assert len(ROWS) >= 9
        assert dict(zip(ROWS, found, strict=True)) == ROWS

    def test_an_older_installation_gets_a_server_of_its_own_and_all_of_it_goes_back(
        self, host: Host, bare: dict[str, str]
    ) -> None:
        before = host.owned()
        as_an_older_version_left_it(host)
        # A key of somebody's own, readable by the server as the documents said.
        key = host.root / "etc/own.key"
        key.write_text("a key")
        key.chmod(0o640)
        converters = host.ids(USER)[1]
        os.chown(key, 0, converters)
        done = host.setup("--yes", "--no-self-test")
        assert done.returncode == 0, done.stderr
        assert f"done: system user {SERVER_USER}" in done.stderr
        assert before.items() <= host.owned().items()
        assert "nothing to do" in host.setup("--no-self-test").stderr

        config = host.root / "etc/lxdocker-lxd/config.yaml"
        text = config.read_text()
        config.write_text(f"{text}key: {key}\ncert: {key}\n")
        done = host.setup("--yes", "--no-self-test")
        assert done.returncode == 0, done.stderr
        assert host.rights(host.ids(SERVER_USER), KEY, "/etc/own.key") == ["reads", "reads"]
        assert host.rights(host.ids(USER), KEY, "/etc/own.key") == ["nothing", "nothing"]

        config.write_text(text)
        assert host.setup("--undo", "--yes").returncode == 0
        assert {name: (host.root / "etc" / name).read_text() for name in bare} == bare
        assert key.stat().st_gid == converters
        left = [path for path in host.owned() if "lxdocker-lxd" in path]
        assert sorted(left) == [
            "var/lib/lxdocker-lxd",
            "var/lib/lxdocker-lxd/.docker",
            "var/lib/lxdocker-lxd/.docker/config.json",
        ]

    def test_a_key_of_a_group_that_somebody_chose_stays_its(self, host: Host) -> None:
        key = host.root / "etc/own.key"
        key.write_text("a key")
        os.chown(key, 0, LXD_GROUP)
        hand, wanted = KeyGroups(Accounts(host.root)), {"group": SERVER_USER}
        assert hand.look(str(key), wanted) == wanted
        assert hand.take_back(str(key), wanted, {"group": USER}) == ""
        assert key.stat().st_gid == LXD_GROUP


@pytest.mark.root
class TestCommands:
    def convert(self, host: Host, tmp: Path, user: tuple[int, int]) -> tuple[int, str]:
        workshop = Workshop(tmp / f"work{user[0]}")
        workshop.both("web", b"one")
        done = host.run(
            (
                *("convert", "--format=json", f"--specs={workshop.specs}", "--imageformat=tar"),
                f"--cache={host.root}/var/cache/lxdocker-lxd",
                f"--lxdimages={host.root}/var/lib/lxdocker-lxd/images",
                f"--busybox=amd64={workshop.options.busybox['amd64']}",
            ),
            user=user[0],
            group=user[1],
        )
        return done.returncode, done.stderr

    def test_only_who_owns_images_and_cache_converts_into_them(self, host: Host) -> None:
        images = host.root / "var/lib/lxdocker-lxd/images"
        work = host.root / "work"
        work.mkdir()
        for user in ((PERSON, PERSON), host.ids(SERVER_USER)):
            code, said = self.convert(host, work, user)
            assert code == StorageError.exit_code, said
            assert "Permission denied" in said or "belongs to" in said
            assert list(images.iterdir()) == []
        code, said = self.convert(host, work, host.ids(USER))
        assert code == 0, said
        # What was converted is what the server reads, and nobody else writes.
        server = host.ids(SERVER_USER)
        published = [path for path in images.rglob("*") if not path.name.endswith("lock")]
        assert len(published) > 2
        below = (f"/{path.relative_to(host.root)}" for path in published)
        assert set(host.rights(server, *below)) == {"reads"}

    def test_setup_is_roots(self, host: Host) -> None:
        before = host.owned()
        tried = [(PERSON, words) for words in ((), ("--renew",), ("--undo", "--yes"))]
        tried += [(host.ids(name)[0], ("--renew",)) for name in (USER, SERVER_USER)]
        for user, words in tried:
            done = host.setup(*words, user=user)
            assert done.returncode == UsageError.exit_code, done.stderr
            assert "hint: sudo lxdocker-lxd setup" in done.stderr
        assert host.owned() == before
