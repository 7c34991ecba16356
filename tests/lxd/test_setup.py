"""``lxdocker-lxd setup`` on a real, bare LXD: what it makes, that it works, and that it goes again."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdocker_lxd.setup.remote_config import FRESH
from lxdocker_lxd.setup.state_file import StateFile
from tests.harness.image_server import free_port
from tests.harness.lxd import PrivateLxd
from tests.harness.other_user import everybodys_python, readable_packages
from tests.harness.processes import run
from tests.harness.registry import real_registry
from tests.harness.small_image import write_layout
from tests.lxd.test_real_images import page

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")
KILLS = (1, 2, 5, 9, 14, 18, 21, 22, 23) if os.environ.get("LXDOCKER_TEST_FULL") else (22,)
COMMAND = (sys.executable, "-m", "lxdocker_lxd")


class BareLxd(PrivateLxd):
    """A daemon as a package leaves it: no storage, no network, an empty profile."""

    def _start(self) -> None:
        self._run_daemon()


class Host:
    """A root directory for the machine's files, and a bare LXD."""

    def __init__(self, lxd: PrivateLxd) -> None:
        self.lxd = lxd
        self.root = lxd.home / "root"
        self.bridge = lxd.reserve_bridge()
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (self.root / "etc/group").write_text("root:x:0:\n")
        (self.root / "root").mkdir(mode=0o700)

    def setup(self, *flags: str, check: bool = True) -> Any:
        """Run the command as a user does."""
        return run(
            *COMMAND,
            *("setup", "--root", str(self.root), "--bridge", self.bridge, *flags),
            env=self.lxd.environment,
            check=check,
        )

    def dump(self) -> dict[str, object]:
        """All of LXD's state that a user sees, and all files with mode, owner and time of change."""
        query = self.lxd.query
        found: dict[str, object] = {
            path: query("GET", f"/1.0/{path}?recursion=1")
            for path in ("storage-pools", "profiles", "images", "instances", "certificates")
        }
        networks = query("GET", "/1.0/networks?recursion=1")
        found["networks"] = [network for network in networks if network["managed"]]
        found["config"] = query("GET", "/1.0")["config"]
        for top in (self.root, self.lxd.home / "client"):
            for directory, names, files in os.walk(top):
                for name in (*names, *files):
                    if directory.endswith("/etc") and name.endswith("-"):
                        continue  # copies that useradd and userdel leave of the old tables
                    path = Path(directory, name)
                    status = path.lstat()
                    content = path.read_bytes() if path.is_file() else b""
                    found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, content)
        return found

    def times(self) -> dict[str, int]:
        """When each file was last changed."""
        return {str(path): path.stat().st_mtime_ns for path in self.root.rglob("*")}


@pytest.fixture
def host() -> Iterator[Host]:
    with BareLxd() as lxd:
        yield Host(lxd)


@contextlib.contextmanager
def serving(host: Host) -> Iterator[None]:
    """The server as a machine without systemd runs it: with the settings setup wrote."""
    config = host.root / "etc/lxdocker-lxd/config.yaml"
    process = subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def publish(host: Host, text: str) -> None:
    """Convert a small web server's image into the host's catalogue."""
    specs = host.root / "etc/lxdocker-lxd/specs"
    files = {"bin/busybox": BUSYBOX.read_bytes(), "www/index.html": text.encode()}
    entrypoint = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]
    write_layout(specs / "layout", tag="1", files=files, entrypoint=entrypoint)
    (specs / "web.yaml").write_text("image: oci:layout:1\n")
    config = host.root / "etc/lxdocker-lxd/config.yaml"
    # Root asks, and the owner of the directories does it: the service's user.
    run(
        *(everybodys_python(), "-P", "-m", "lxdocker_lxd", "convert", "--progress", "none"),
        *("--config", config),
        env=readable_packages(),
    )


def test_the_remote_works_for_lxc_and_for_lxd_itself(host: Host) -> None:
    lxd = host.lxd
    host.setup("--yes", "--no-self-test")
    publish(host, "hello")
    with serving(host):
        lxd.lxc("launch", "lxdocker:web", "w1")
        assert page(f"http://{lxd.address('w1')}/") == "hello"
        # What LXD's own updates use: the source with its certificate, and no client.
        copied = lxd.lxc(
            "image", "copy", "lxdocker:web", "local:", "--alias", "web", "--auto-update"
        )
        assert copied.returncode == 0
        source = lxd.query(
            "GET", f"/1.0/images/{lxd.query('GET', '/1.0/images/aliases/web')['target']}"
        )
        authority = (host.root / "var/lib/lxdocker-lxd/tls/ca.crt").read_text()
        assert source["update_source"]["certificate"].strip() == authority.strip()
        lxd.lxc("image", "refresh", "web")
        # With the server on, only the missing proof is made good; the test runs beside it.
        again = host.setup("--yes")
        assert "test: its page answers" in again.stderr
        assert "nothing to do" in host.setup("--yes").stderr
    lxd.delete("w1")


def test_killed_after_any_step_it_is_completed_and_taken_back(host: Host) -> None:
    before = host.dump()
    for after_lines in KILLS:
        process = subprocess.Popen(
            [*COMMAND, "setup", "--root", str(host.root), "--bridge", host.bridge, "--yes"],
            env=host.lxd.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        lines: list[str] = []
        while len(lines) < after_lines:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        process.kill()
        process.communicate()
        host.setup("--yes", "--no-self-test")
        assert "nothing to do" in host.setup("--no-self-test").stderr
        host.setup("--undo", "--yes")
        assert host.dump() == before, lines


def test_a_bare_host_is_made_ready_and_taken_back(host: Host) -> None:
    before = host.dump()
    planned = json.loads(host.setup("--dry-run", "--format", "json").stdout)
    assert host.dump() == before
    assert {step["action"] for step in planned["steps"]} == {"create"}
    done = json.loads(host.setup("--yes", "--format", "json").stdout)
    assert len(done["self_test"]) == 6
    after, times = host.dump(), host.times()
    again = host.setup()
    assert "nothing to do" in again.stderr
    assert (host.dump(), host.times()) == (after, times)
    host.setup("--undo", "--yes")
    assert host.dump() == before


@pytest.fixture(scope="class")
def used_lxd() -> Iterator[PrivateLxd]:
    """A LXD that has been in use."""
    with PrivateLxd() as lxd:
        yield lxd


class TestAHostInUse:
    """LXD has what it needs, users have remotes of their own, and some of it is in the way."""

    @pytest.fixture
    def used(self, used_lxd: PrivateLxd) -> Iterator[Host]:
        host = Host(used_lxd)
        with (host.root / "etc/passwd").open("a") as passwd:
            passwd.write("ann:x:4321:4321::/home/ann:/bin/sh\n")
        with (host.root / "etc/group").open("a") as group:
            group.write("ann:x:4321:\n")
        home = host.root / "home/ann"
        home.mkdir(parents=True)
        os.chown(home, 4321, 4321)
        yield host
        for left in (host.root, used_lxd.home / "client"):
            shutil.rmtree(left)
        (used_lxd.home / "client").mkdir()

    def test_only_what_is_missing_is_made_and_users_files_stay_theirs(self, used: Host) -> None:
        config = used.lxd.home / "client/config.yml"
        text = f"# mine\n{FRESH}future: [1]\n"
        config.write_text(text)
        before = used.dump()
        plan = json.loads(
            used.setup(
                "--dry-run", "--user", "ann", "--format", "json", "--auto-update-interval", "3"
            ).stdout
        )
        kinds = {step["kind"] for step in plan["steps"]}
        assert not kinds & {"pool", "network", "profile-device"}
        address = used.lxd.query("GET", f"/1.0/networks/{used.lxd.network}")["config"][
            "ipv4.address"
        ]
        assert plan["url"].startswith(f"https://{address.partition('/')[0]}")
        used.setup("--yes", "--user", "ann", "--auto-update-interval", "3")
        assert used.lxd.query("GET", "/1.0")["config"]["images.auto_update_interval"] == "3"
        theirs = list((used.root / "home/ann").rglob("*"))
        assert {path.name for path in theirs} == {
            *(".config", "lxc", "servercerts", "lxdocker.crt", "config.yml")
        }
        assert {path.stat().st_uid for path in theirs} == {4321}
        assert "# mine" in config.read_text()
        assert "future: [1]" in config.read_text()
        used.setup("--undo", "--yes")
        assert used.dump() == before
        assert config.read_text() == text

    def test_a_users_link_leads_nowhere_the_user_may_not_go(self, used: Host) -> None:
        secret, config = used.root / "etc/secret", used.root / "home/ann/.config"
        secret.mkdir(mode=0o755)
        config.mkdir()
        (config / "lxc").symlink_to(secret)
        os.chown(config, 4321, 4321)
        failed = used.setup("--yes", "--no-self-test", "--user", "ann", check=False)
        assert failed.returncode == 8
        assert "Permission denied" in failed.stderr
        assert list(secret.iterdir()) == []
        used.setup("--undo", "--yes")
        assert not (used.root / "etc/lxdocker-lxd").exists()

    def test_a_name_that_is_taken_stops_before_anything_changes(self, used: Host) -> None:
        used.lxd.lxc("remote", "add", "lxdocker", "https://other.lan", "--protocol=simplestreams")
        before = used.dump()
        failed = used.setup("--yes", check=False)
        assert failed.returncode == 2
        assert "https://other.lan" in failed.stderr
        assert "--remote-name" in failed.stderr
        assert used.dump() == before
        used.setup("--yes", "--remote-name", "shop", "--no-self-test")
        assert "nothing to do" in used.setup("--remote-name", "shop", "--no-self-test").stderr
        # Without the flag, the settings file knows the name.
        assert "nothing to do" in used.setup("--no-self-test").stderr
        used.setup("--undo", "--yes")
        assert used.dump() == before

    def test_a_broken_configuration_is_told_before_anything_changes(self, used: Host) -> None:
        before = used.dump()
        config = used.lxd.home / "client/config.yml"
        config.write_text("remotes: [\n")
        failed = used.setup("--yes", check=False)
        assert failed.returncode == 2
        assert "client/config.yml: the file is broken" in failed.stderr
        assert failed.stderr.count("\n") == 2
        assert config.read_text() == "remotes: [\n"
        config.unlink()
        assert used.dump() == before

    def test_nobody_to_ask_means_no(self, used: Host) -> None:
        before = used.dump()
        failed = used.setup(check=False)
        assert failed.returncode == 2
        assert "--yes" in failed.stderr
        assert used.dump() == before

    def test_what_somebody_changed_stays_and_is_told(self, used: Host) -> None:
        used.setup("--yes", "--no-self-test")
        settings = used.root / "etc/lxdocker-lxd/config.yaml"
        with settings.open("a") as file:
            file.write("jobs: 1\n")
        (used.root / "etc/lxdocker-lxd/specs/mine.yaml").write_text("image: nginx\n")
        assert "nothing to do" in used.setup("--no-self-test").stderr
        undone = used.setup("--undo", "--yes")
        assert f"left: file {settings}: changed by somebody since" in undone.stderr
        assert "specs: 1 entries are in it" in undone.stderr
        assert "jobs: 1" in settings.read_text()
        assert not (used.root / "var/lib/lxdocker-lxd").exists()

    def test_a_certificate_is_renewed_without_lxd(self, used: Host) -> None:
        used.setup("--yes", "--no-self-test")
        assert "no certificate is due" in used.setup("--renew").stderr
        tls = used.root / "var/lib/lxdocker-lxd/tls"
        authority = (tls / "ca.crt").read_bytes()
        (used.root / "var/lib/lxdocker-lxd/authority/server.crt").unlink()
        old = (tls / "server.crt").read_bytes()
        run(
            *COMMAND,
            *("setup", "--renew", "--root", used.root),
            env=os.environ | {"LXD_DIR": "/nonexistent"},
        )
        assert (tls / "server.crt").read_bytes() != old
        assert (tls / "ca.crt").read_bytes() == authority
        assert "nothing to do" in used.setup("--no-self-test").stderr


def test_a_state_file_without_records_goes_too(host: Host) -> None:
    """Killed between making the state file and the first step."""
    before = host.dump()
    file = StateFile(host.root / "var/lib/lxdocker-lxd/setup.json")
    with file.locked():
        pass
    assert host.dump() != before
    host.setup("--undo", "--yes")
    assert host.dump() == before
    assert "nothing to do" in host.setup("--undo").stderr


def test_a_bare_lxd_stays_bare_when_asked_for(host: Host) -> None:
    before = host.dump()
    done = host.setup("--yes", "--no-init")
    assert "no root disk" in done.stderr
    after = host.dump()
    for kind in ("storage-pools", "networks", "profiles", "images", "config"):
        assert after[kind] == before[kind]
    host.setup("--undo", "--yes")
    assert host.dump() == before


def test_a_lxd_that_is_away_is_one_clear_line(tmp_path: Path) -> None:
    failed = run(
        *COMMAND,
        *("setup", "--dry-run", "--root", tmp_path),
        env=os.environ | {"LXD_DIR": str(tmp_path / "none")},
        check=False,
    )
    assert failed.returncode == 7
    assert failed.stderr.count("\n") == 2
    assert "hint: start the LXD" in failed.stderr


@pytest.mark.registry
def test_the_test_image_comes_from_a_registry_where_one_answers(host: Host, tmp_path: Path) -> None:
    """Settings that are there before the first run are kept, and used."""
    write_layout(tmp_path / "layout", tag="stable", files={"etc/hostname": b"x"}, entrypoint=["/x"])
    with real_registry(tmp_path / "registry") as registry:
        registry.push_layout(tmp_path / "layout", "stable", "library/busybox:stable")
        config = host.root / "etc/lxdocker-lxd/config.yaml"
        config.parent.mkdir()
        root = host.root
        config.write_text(
            f"address: 127.0.0.1:{free_port()}\n"
            f"specs: {root}/specs\ncache: {root}/cache\nlxdimages: {root}/images\n"
            f"tls_dir: {root}/tls\n"
            f"registries:\n  docker.io: {{mirrors: ['{registry.host}']}}\n"
            f"  '{registry.host}': {{insecure: true}}\n"
        )
        before = host.dump()
        said = host.setup("--yes").stderr
        assert "test: converted busybox:stable of a registry" in said
        assert "test: its page answers" in said
    host.setup("--undo", "--yes")
    assert host.dump() == before
