"""``launch``, ``ps`` and ``logs`` against a real LXD: what an image asks for is what it gets."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.image_server import free_port
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.lxd.data_image import PORT, USER_ID, VOLUME, write_data_layout
from tests.lxd.test_real_images import page
from tests.lxd.user import User

pytestmark = [pytest.mark.lxd, pytest.mark.tools]


@pytest.fixture(scope="module")
def somebody(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> User:
    """Somebody with LXD and one image in a layout."""
    home = tmp_path_factory.mktemp("launch")
    write_data_layout(home / "db")
    return User(lxd=private_lxd, home=home)


@pytest.fixture
def user(somebody: User) -> Iterator[User]:
    """The same; instances, volumes and images end with each test."""
    somebody.clean()
    yield somebody
    somebody.clean()


def source(user: User) -> str:
    """The image, as a user names it."""
    return f"oci:{user.home}/db:1.0"


def inside(user: User, name: str, script: str) -> str:
    """What a shell of the guest says."""
    return user.lxd.shell(name, script)


class TestLaunch:
    """One command from an image's name to an answer."""

    def test_it_gets_what_it_asks_for(self, user: User) -> None:
        port = free_port()
        (user.home / "env").write_text("# of the shop\nSECRET=hunter2 with blanks\nHOME\n")
        said = user.run(
            *("launch", source(user), "db", "--publish", f"127.0.0.1:{port}:{PORT}"),
            *("--env-file", user.home / "env", "--env", "COLOUR=blue", "--wait"),
            *("--progress", "plain", "--debug", "--", "two", "more words"),
        )
        assert said.out.splitlines()[0] == f"db: {user.lxd.address('db')}"
        assert page(f"http://127.0.0.1:{port}/first") == "the first content\n"
        assert "with: two more words" in user.run("logs", "db").out
        # The owner of the image's path is the owner of the volume, and its content is there.
        listed = inside(user, "db", f"/bin/stat -c '%u:%g %a %n' {VOLUME} {VOLUME}/*")
        owner = f"{USER_ID}:{USER_ID}"
        assert listed.splitlines() == [
            f"{owner} 700 {VOLUME}",
            f"{owner} 644 {VOLUME}/boots",
            f"{owner} 640 {VOLUME}/first",
        ]
        environment = inside(user, "db", "/.lxdocker/run /bin/env")
        assert "SECRET=hunter2 with blanks" in environment
        assert "COLOUR=blue" in environment
        # A secret is on the instance, and nowhere else.
        assert "hunter2" not in said.out + said.err + user.run("logs", "db").out
        assert "hunter2" not in json.dumps(user.images())
        assert "hunter2" not in (user.lxd.home / "lxd.log").read_text(errors="replace")
        kept = [*user.home.rglob("*.json"), *user.home.rglob("specs/*")]
        assert not any("hunter2" in file.read_text(errors="replace") for file in kept)
        config = user.lxd.query("GET", "/1.0/instances/db")["config"]
        assert config["user.lxdocker.image"] == "local|db/1.0"

    def test_data_survives_the_instance(self, user: User) -> None:
        user.run("launch", source(user), "db", "--wait")
        user.lxd.delete("db")
        assert user.volumes() == {"db-var-lib-data"}
        # The image is there: nothing is imported again, and nothing is filled again.
        said = user.run("launch", source(user), "db", "--wait", "--progress", "plain")
        assert said.err.splitlines() == ["db: create", "db: start", "db: wait"]
        assert inside(user, "db", f"/bin/cat {VOLUME}/boots") == "boot\nboot\n"

    def test_named_volumes(self, user: User) -> None:
        user.lxd.lxc("storage", "volume", "create", "default", "mine")
        user.run("launch", source(user), "one", "--volume", f"mine:{VOLUME}", "--wait")
        # An empty volume gets the image's content, whoever made it; no second one is made.
        assert inside(user, "one", f"/bin/ls {VOLUME}") == "boots\nfirst\n"
        assert user.volumes() == {"mine"}
        user.lxd.delete("one")
        user.run(
            *("launch", source(user), "two", "--volume", f"bare:{VOLUME}:nocopy"),
            *("--volume", "mine:/srv/mine:ro", "--user", "0:0", "--wait-timeout", "5"),
        )
        assert inside(user, "two", f"/bin/ls {VOLUME}") == "boots\n"
        assert "boots" in inside(user, "two", "/bin/ls /srv/mine")
        mounts = inside(user, "two", "/bin/cat /proc/mounts")
        assert any(" /srv/mine " in line and "ro," in line for line in mounts.splitlines())

    def test_what_was_written_by_hand_into_a_volume_of_a_killed_launch_stays(
        self, user: User
    ) -> None:
        """The next launch that named such a volume emptied it."""
        disk = ("disk", "pool=default", "source=mine", "path=/mnt/mine")
        # What a kill leaves: the copy begun, the volume not marked as filled.
        user.lxd.lxc("storage", "volume", "create", "default", "mine")
        user.lxd.lxc("storage", "volume", "set", "default", "mine", "user.lxdocker.seeded=pending")
        user.run("launch", source(user), "hand", "--volume", "other:/mnt/other:nocopy")
        user.lxd.lxc("config", "device", "add", "hand", "mine", *disk)
        inside(user, "hand", "mkdir /mnt/mine/.lxdocker-seed-db; echo precious >/mnt/mine/rows")
        user.lxd.delete("hand")
        user.run("launch", source(user), "db", "--volume", f"mine:{VOLUME}")
        assert inside(user, "db", f"cat {VOLUME}/rows") == "precious\n"
        assert "first" not in inside(user, "db", f"ls -A {VOLUME}")
        # One of an older version may hold half of the image's content, or a user's.
        user.lxd.delete("db")
        user.lxd.lxc("storage", "volume", "set", "default", "mine", "user.lxdocker.seeded=false")
        said = user.run("launch", source(user), "db", "--volume", f"mine:{VOLUME}", code=7)
        assert "hint: to keep what it holds: lxc storage volume unset default mine" in said.err
        user.lxd.lxc("storage", "volume", "unset", "default", "mine", "user.lxdocker.seeded")
        user.run("launch", source(user), "db", "--volume", f"mine:{VOLUME}")
        assert inside(user, "db", f"cat {VOLUME}/rows") == "precious\n"

    def test_the_same_volume_at_two_paths_keeps_the_first_content(self, user: User) -> None:
        """The copy for the second path began with emptying what the first had filled."""
        twice = ("--volume", f"mine:{VOLUME}", "--volume", "mine:/also")
        user.run("launch", source(user), "db", *twice, "--wait")
        assert "first" in inside(user, "db", "/bin/ls /also")

    def test_what_a_profile_mounts_is_not_the_image_s(self, user: User) -> None:
        """A directory of the host inside a volume's path was copied into the volume."""
        shared = user.home / "shared"
        shared.mkdir(exist_ok=True)
        (shared / "secret").write_text("of the host")
        user.lxd.lxc("profile", "create", "sharing")
        disk = ("disk", f"source={shared}", f"path={VOLUME}/shared")
        user.lxd.lxc("profile", "device", "add", "sharing", "host", *disk)
        try:
            both = ("--profile", "default", "--profile", "sharing")
            user.run("launch", source(user), "db", *both, "--wait")
            assert inside(user, "db", f"/bin/ls {VOLUME}/shared") == "secret\n"
            user.lxd.delete("db")
            user.run("launch", source(user), "db", "--wait")
            assert inside(user, "db", f"/bin/ls {VOLUME}/shared") == ""
        finally:
            user.lxd.lxc("delete", "--force", "db", check=False)
            user.lxd.lxc("profile", "delete", "sharing")

    def test_addresses_have_a_port_each(self, user: User) -> None:
        port = free_port()
        both = [f"--publish=127.0.0.{number}:{port}:{PORT}" for number in (1, 2)]
        user.run("launch", source(user), "db", *both, "--wait")
        for number in (1, 2):
            assert page(f"http://127.0.0.{number}:{port}/first") == "the first content\n"

    def test_exposed_ports_are_published_where_they_are_free(self, user: User) -> None:
        first = user.run("launch", source(user), "a", "--publish-all", "--format", "json").json
        second = user.run("launch", source(user), "b", "--publish-all", "--format", "json").json
        ports = [one["ports"][0]["host_port"] for one in (first, second)]
        assert ports[0] == PORT
        assert ports[1] != PORT
        assert [page(f"http://127.0.0.1:{port}/first") for port in ports] == [
            "the first content\n"
        ] * 2

    def test_projects_and_profiles(self, user: User) -> None:
        user.lxd.lxc("profile", "create", "small")
        user.lxd.lxc("profile", "set", "small", "limits.processes=100")
        user.lxd.lxc(
            *("project", "create", "shop", "-c", "features.images=true"),
            *("-c", "features.profiles=false", "-c", "features.storage.volumes=true"),
        )
        try:
            user.run(
                *("launch", source(user), "db", "--project", "shop", "--wait"),
                *("--profile", "default", "--profile", "small"),
            )
            assert user.volumes("shop") == {"db-var-lib-data"}
            assert user.aliases() == {}
            (found,) = user.run("ps", "--all-projects", "--format", "json").json["instances"]
            assert (found["project"], found["health"]) == ("shop", "healthy")
            expanded = user.lxd.query("GET", "/1.0/instances/db?project=shop")["expanded_config"]
            assert expanded["limits.processes"] == "100"
            user.run("logs", "db", code=3)
            assert "started as 70" in user.run("logs", "db", "--project", "shop").out
        finally:
            user.lxd.lxc("delete", "--force", "--project", "shop", "db", check=False)
            for name in user.volumes("shop"):
                user.lxd.lxc("storage", "volume", "delete", "default", name, "--project", "shop")
            for fingerprint in user.images("shop"):
                user.lxd.query("DELETE", f"/1.0/images/{fingerprint}?project=shop")
            user.lxd.lxc("project", "delete", "shop")
            user.lxd.lxc("profile", "delete", "small")


@pytest.mark.full
class TestDebianPackage:
    """A database from Debian's package, with a user, a volume and a port, as images of such are."""

    def test_its_data_outlives_it(self, user: User, image_layout: Path) -> None:
        port = free_port()
        words = ("launch", f"oci:{image_layout}:redis", "db", "--publish", f"{port}:6379", "--wait")
        user.run(*words)
        owner = inside(user, "db", "/usr/bin/id -u redis; /usr/bin/stat -c %u /data").split()
        assert owner[0] == owner[1] != "0"
        assert ask(port, b"SET key kept\r\nSAVE\r\n") == b"+OK\r\n+OK\r\n"
        user.lxd.stop("db")
        user.lxd.delete("db")
        user.run(*words)
        assert ask(port, b"GET key\r\n") == b"$4\r\nkept\r\n"


def ask(port: int, request: bytes) -> bytes:
    """What a server on this port of the host says, until it has said two lines or is silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while answer.count(b"\n") < 2:
                answer += connection.recv(1000)
    return answer


class TestFailures:
    """What goes wrong is told in a line, and nothing of it stays."""

    @pytest.fixture(autouse=True)
    def image(self, user: User) -> None:
        user.image(source(user), "--alias", "db")

    def left(self, user: User) -> tuple[list[str], set[str]]:
        return user.lxd.instances(), user.volumes()

    def test_a_name_that_is_taken(self, user: User) -> None:
        user.run("launch", "db", "web")
        said = user.run("launch", "db", "web", code=7)
        assert said.err.splitlines() == [
            "error: there is an instance web in project default already",
            "hint: choose another name, or remove it: lxc delete --force web",
        ]
        assert user.lxd.status("web") == "Running"

    def test_a_port_of_another_instance(self, user: User) -> None:
        port = free_port()
        user.run("launch", "db", "one", "--publish", f"{port}:{PORT}")
        before = self.left(user)
        said = user.run("launch", "db", "two", "--publish", f"{port}:{PORT}", code=7)
        assert f"error: the instance one has the host's tcp port {port}" in said.err
        assert self.left(user) == before

    def test_a_port_of_another_program(self, user: User) -> None:
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            port = taken.getsockname()[1]
            said = user.run("launch", "db", "two", "--publish", f"{port}:{PORT}", code=7)
        assert "hint: another program of the host probably has that port" in said.err
        assert self.left(user) == ([], set())

    def test_a_volume_where_none_can_be(self, user: User) -> None:
        """LXD 5.0 never ended reading a FIFO; copying /proc filled the pool."""
        before = self.left(user)
        for path, problem in (
            ("/pipe/x", "/pipe is a file in the image"),
            ("/entrypoint", "/entrypoint is a file in the image"),
            ("/processes", "leads to /proc: /proc is the kernel's or LXD's"),
        ):
            said = user.run("launch", "db", "web", "--volume", f"v:{path}", code=2)
            assert problem in said.err
            assert len(said.err.splitlines()) == 2
            assert self.left(user) == before

    def test_a_command_that_does_not_exist(self, user: User) -> None:
        said = user.run(
            *("launch", "db", "web", "--wait"), *("--set", "user.lxdocker.entrypoint=/no"), code=7
        )
        assert "error: web started, and does not run any more: /no" in said.err
        assert "lxdocker-lxd logs web shows what it said" in said.err
        (found,) = user.run("ps", "--format", "json").json["instances"]
        assert (found["status"], found["exit_code"]) == ("stopped", 127)
        assert "/no" in user.run("logs", "web").out

    def test_a_pool_that_is_full(self, user: User) -> None:
        directory = user.lxd.home / "small"
        directory.mkdir(exist_ok=True)
        with small_disk(user, directory):
            user.lxd.lxc("storage", "create", "small", "dir", f"source={directory}")
            user.lxd.lxc("profile", "copy", "default", "small")
            user.lxd.lxc("profile", "device", "set", "small", "root", "pool=small")
            try:
                said = user.run("launch", "db", "web", "--profile", "small", code=7)
                assert "hint: make room" in said.err, said.err
                assert len(said.err.splitlines()) == 2
                assert self.left(user) == ([], set())
            finally:
                user.lxd.lxc("profile", "delete", "small")
                user.lxd.lxc("storage", "delete", "small")

    def test_a_launch_that_is_killed(self, user: User) -> None:
        command = user.start("launch", "db", "web", "--progress", "json")
        assert command.stderr is not None
        for line in command.stderr:
            if json.loads(line).get("stage") == "volumes":
                break
        command.kill()
        command.communicate()
        said = user.run("launch", "db", "web", code=7)
        assert "of a launch that was interrupted" in said.err
        user.lxd.delete("web")
        # The volume it began to fill is filled anew.
        user.run("launch", "db", "web", "--wait")
        assert inside(user, "web", f"/bin/ls {VOLUME}") == "boots\nfirst\n"
        assert self.left(user) == (["web"], {"web-var-lib-data"})

    def test_what_cannot_be_meant(self, user: User) -> None:
        for words, hint in (
            (("--publish", "80:http"), "8080:80"),
            (("--volume", "/srv:/data"), "lxc config device add"),
            (("--env", "A B=c"), "NAME=VALUE"),
            (("--set", "nonsense"), "limits.memory"),
        ):
            assert hint in user.run("launch", "db", "web", *words, code=2).err
        said = user.run("launch", "db", "web", "--profile", "nosuch", code=7)
        assert "hint: `lxc profile list` shows those there are" in said.err
        assert "can't name an instance" in user.run("launch", "db", "web_1", code=2).err
        said = user.run("launch", "nothing", "w", "--pull", "never", code=3)
        assert "hint: lxdocker-lxd import nothing" in said.err
        assert self.left(user) == ([], set())


@contextlib.contextmanager
def small_disk(user: User, directory: Path) -> Iterator[None]:
    """A file system of one megabyte at ``directory``."""
    run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0711", "tmpfs", directory)
    try:
        yield
    finally:
        run("umount", directory)


class TestLogs:
    """The log is followed until the instance stops."""

    def test_it_is_followed_to_the_end(self, user: User) -> None:
        user.run("launch", source(user), "db", "--wait")
        follower = user.start("logs", "db", "--follow")
        assert follower.stdout is not None
        assert "started as 70" in "".join(follower.stdout.readline() for _ in range(2))
        user.lxd.exec("db", "/busybox-lxd", "sh", "-c", "echo later >/.lxdocker/live/out")
        assert follower.stdout.readline() == "later\n"
        user.lxd.stop("db")
        _, err = follower.communicate(timeout=30)
        assert (follower.returncode, err) == (0, "")

    def test_updates_are_told(self, user: User) -> None:
        user.image(source(user), "--alias", "db")
        user.run("launch", "db", "web", "--update", "notify", "--wait")
        (found,) = user.run("ps", "--format", "json").json["instances"]
        assert (found["update"], found["health"]) == ("current", "healthy")
        other = user.home / "other"
        write_data_layout(other, version="2")
        user.image(f"oci:{other}:1.0", "--alias", "db", "--replace")
        (found,) = user.run("ps", "--format", "json").json["instances"]
        assert found["update"] == "available"
        table = user.run("ps").out.splitlines()
        assert table[0].split()[:3] == ["NAME", "PROJECT", "STATUS"]
        assert table[1].split()[0] == "web"
