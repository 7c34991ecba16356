"""``lxc-create -t download`` of Debian's lxc, from our tree: listed, created, started, stopped."""

import contextlib
import hashlib
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.convert.workshop import Workshop
from tests.harness.image_server import free_port
from tests.harness.lxc import PlainLxc
from tests.harness.processes import eventually, run
from tests.harness.small_image import write_layout
from tests.serve.openpgp import openpgp_home

pytestmark = [pytest.mark.lxd]

BUSYBOX = Path("/bin/busybox")
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORT_START = "net.ipv4.ip_unprivileged_port_start"
ROOTFS_MOUNT = "/usr/lib/x86_64-linux-gnu/lxc/rootfs"

PROBE = b"""#!/bin/busybox sh
echo "argc $#"
for word in "$@"; do printf '[%s]\\n' "$word"; done
echo "id $(/bin/busybox id -u):$(/bin/busybox id -g) $(/bin/busybox id -G)"
echo "cwd $(pwd)"
/bin/busybox tr '\\0' '\\n' </proc/$$/environ | /bin/busybox sed 's/^/env /'
echo "run $(/bin/busybox grep -c ' /run tmpfs ' /proc/mounts)" \\
	"shm $(/bin/busybox grep -c ' /dev/shm tmpfs ' /proc/mounts)"
echo "pid $$"
[ "${0##*/}" != once ] || exit 0
trap 'echo stopped by USR1; exit 0' USR1
trap 'echo stopped by TERM; exit 0' TERM
echo ready
while :; do /bin/busybox sleep 1 & wait $!; done
"""
PASSWD = b"root:x:0:0::/root:/bin/sh\nweb:x:33:330::/srv/web:/bin/false\n"
GROUP = b"root:x:0:\nwww:x:330:\nlog:x:50:web\nadm:x:60:web\n"
FILES = {
    "bin/busybox": BUSYBOX.read_bytes() if BUSYBOX.exists() else b"",
    "probe": PROBE,
    "etc/passwd": PASSWD,
    "etc/group": GROUP,
}

AWKWARD_WORDS = ["two words", "", "'\"", "$(touch /x)`x`;", "new\nlxc.init.uid = 0", " blank "]
AWKWARD_ENV = [
    "PATH=/opt/app:/bin",
    "LINES=one\nlxc.hook.pre-start = /bin/touch /tmp/never",
    "WITH.DOT=kept",
    "TRAIL=blank ",
    "PLACE=LXC_ROOTFS",
    "SHOWN=plain value",
]


def specifications(workshop: Workshop, image_layout: Path | None, *, mark: Path) -> None:
    """Write the images, and a specification for each; one leaves ``mark`` where it comes to run."""
    layout = workshop.specs / "images.layout"
    images: dict[str, tuple[list[str], dict[str, object]]] = {
        "probe": (
            ["/probe"],
            {
                "Cmd": ["one", "two"],
                "Env": [f"PATH={STANDARD_PATH}", "GREETING=hello  world", "EMPTY="],
                "User": "web",
                "WorkingDir": "/srv/web",
                "StopSignal": "SIGUSR1",
            },
        ),
        "awkward": (
            ["probe"],
            {"Cmd": AWKWARD_WORDS, "Env": AWKWARD_ENV, "User": "1000", "WorkingDir": "/a  b"},
        ),
        "quoted": (["/opt/app/once"], {"Cmd": ["two words", '"', ""]}),
        "odd": (["once"], {"Cmd": AWKWARD_WORDS, "Env": AWKWARD_ENV, "User": "1000"}),
        "hostile": (
            ["/probe"],
            {
                "Env": [
                    f"PATH={ROOTFS_MOUNT}/evil:{STANDARD_PATH}",
                    f"LD_PRELOAD={ROOTFS_MOUNT}/evil/readlink",
                    "LXC_ROOTFS_MOUNT=/",
                    "PS4=$(touch /tmp/never)",
                ]
            },
        ),
    }
    evil = f"#!/bin/sh\ntouch {mark}\n".encode()
    for name, (entrypoint, config) in images.items():
        files = FILES | {"opt/app/probe": PROBE, "opt/app/once": PROBE, "evil/readlink": evil}
        write_layout(layout, tag=name, files=files, entrypoint=entrypoint, config=config)
        workshop.spec(name, f"image: oci:images.layout:{name}\n")
    if image_layout is not None:
        workshop.spec("nginx", f"image: oci:{image_layout}:nginx\n")


@contextlib.contextmanager
def served(images: Path, directory: Path, *flags: str) -> Iterator[tuple[str, Path]]:
    """Yield ``HOST:PORT`` of the image server over ``images``, and its authority's certificate."""
    host = f"127.0.0.1:{free_port()}"
    (directory / "settings.yaml").touch()
    with (directory / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "lxdocker_lxd", "serve", "--address", host),
                *("--config", str(directory / "settings.yaml")),
                *("--lxdimages", str(images), "--tls-dir", str(directory / "tls"), *flags),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert server.stdout is not None
        assert server.stdout.readline(), (directory / "serve.log").read_text()
        yield host, directory / "tls" / "ca.crt"
    finally:
        server.terminate()
        server.communicate(timeout=60)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Workshop:
    """Everything converted with ``--lxc``."""
    workshop = Workshop(tmp_path_factory.mktemp("lxc"))
    busybox = MappingProxyType({"amd64": BUSYBOX})
    workshop.options = replace(workshop.options, lxc=True, busybox=busybox)
    wanted = any("nginx" in item.name for item in request.session.items)
    layout = request.getfixturevalue("image_layout") if wanted else None
    specifications(workshop, layout, mark=workshop.root / "evil")
    report = workshop.run()
    assert [one.error for one in report.outcomes if one.error] == []
    return workshop


@pytest.fixture(scope="module")
def lxc(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainLxc]:
    """LXC, and a server of the converted images that it trusts."""
    directory = tmp_path_factory.mktemp("served")
    with (
        served(shop.options.lxdimages, directory) as (server, authority),
        PlainLxc(server, authority) as plain,
    ):
        yield plain


def fetched(server: str, authority: Path, path: str, to: Path) -> Path:
    """Download with curl, which trusts the authority alone."""
    run(
        "curl",
        "-sSf",
        "--noproxy",
        "*",
        "--cacert",
        authority,
        "-o",
        to,
        f"https://{server}/{path}",
    )
    return to


def own_lines(lxc: PlainLxc, name: str, key: str) -> list[str]:
    """The values of a key in a container's config."""
    pairs = (line.partition(" = ") for line in lxc.config(name).splitlines())
    return [value for found, _, value in pairs if found == key]


def test_the_images_are_listed(lxc: PlainLxc, shop: Workshop) -> None:
    listed = lxc.template("--list").stdout
    serial = shop.product("probe").newest.serial
    assert f"probe\tcurrent\tamd64\tdefault\t{serial}\n" in listed
    assert f"awkward\tcurrent\tamd64\tdefault\t{serial}\n" in listed


def test_a_container_has_the_image_s_settings_as_lxc_s_own(lxc: PlainLxc) -> None:
    created = lxc.create("c1", "probe")
    assert "lxc-start starts the image's command as PID 1" in created.stdout
    values = {
        "lxc.init.cmd": ["/probe one two"],
        "lxc.execute.cmd": ["/probe one two"],
        "lxc.init.uid": ["33"],
        "lxc.init.gid": ["330"],
        "lxc.init.groups": ["50,60"],
        "lxc.init.cwd": ["/srv/web"],
        "lxc.signal.halt": ["10"],
        "lxc.environment": [
            f"PATH={STANDARD_PATH}",
            "HOSTNAME=c1",
            "HOME=/srv/web",
            "GREETING=hello  world",
            "EMPTY=",
        ],
        "lxc.uts.name": ["c1"],
        "lxc.include": ["/usr/share/lxc/config/common.conf"],
    }
    assert {key: own_lines(lxc, "c1", key) for key in values} == values
    lxc.start("c1")
    said = lxc.wait_console("c1", "ready")
    lines = said.splitlines()
    assert "argc 2" in lines
    assert "[one]" in lines
    assert "id 33:330 330 50 60" in lines
    assert "cwd /srv/web" in lines
    assert {"env GREETING=hello  world", "env EMPTY=", "env HOSTNAME=c1"} <= set(lines)
    assert "run 1 shm 1" in lines
    # The command itself is the container's first process.
    assert "pid 1" in lines
    assert lxc.address("c1")
    lxc.stop("c1")
    assert lxc.state("c1") == "STOPPED"
    lxc.wait_console("c1", "stopped by USR1")


def test_a_second_container_needs_no_second_download(lxc: PlainLxc) -> None:
    lxc.create("c2", "hostile")
    again = lxc.create("c3", "hostile").stdout
    assert "The cache is already up to date" in again


def test_words_that_lxc_can_t_hold_arrive_all_the_same(lxc: PlainLxc) -> None:
    lxc.create("a1", "awkward")
    assert own_lines(lxc, "a1", "lxc.init.cmd") == ["/.lxdocker/lxc-start"]
    assert own_lines(lxc, "a1", "lxc.init.uid") == ["1000"]
    assert own_lines(lxc, "a1", "lxc.init.cwd") == ["/a  b"]
    assert own_lines(lxc, "a1", "lxc.environment") == ["HOSTNAME=a1", "HOME=/", "SHOWN=plain value"]
    assert own_lines(lxc, "a1", "lxc.hook.pre-start") == []
    lxc.start("a1")
    said = lxc.wait_console("a1", "ready")
    assert "argc 6\n" + "".join(f"[{word}]\n" for word in AWKWARD_WORDS) in said
    lines = said.splitlines()
    assert "id 1000:0 0" in lines
    assert "cwd /a  b" in lines
    assert "pid 1" in lines
    for entry in AWKWARD_ENV:
        assert "env " + entry.split("\n")[0] in lines
    assert "lxc.hook.pre-start = /bin/touch /tmp/never" in said
    assert not (lxc.rootfs("a1") / "x").exists()
    assert lxc.address("a1")
    lxc.stop("a1")
    lxc.wait_console("a1", "stopped by TERM")


@pytest.mark.parametrize(
    ("image", "command", "words"),
    [
        ("quoted", '/opt/app/once "two words" \'"\' ""', ["two words", '"', ""]),
        ("odd", "/.lxdocker/lxc-start", AWKWARD_WORDS),
    ],
)
def test_lxc_execute_starts_the_image_s_command_too(
    lxc: PlainLxc, image: str, command: str, words: list[str]
) -> None:
    """A small init of its own is PID 1 then; lxc.execute.cmd knows quotes."""
    lxc.create(f"e-{image}", image)
    assert own_lines(lxc, f"e-{image}", "lxc.execute.cmd") == [command]
    said = lxc.lxc("lxc-execute", f"e-{image}").stdout.replace("\r\n", "\n")
    assert f"argc {len(words)}\n" + "".join(f"[{word}]\n" for word in words) in said
    assert lxc.state(f"e-{image}") == "STOPPED"


def test_an_image_s_variables_reach_no_program_of_the_host(lxc: PlainLxc, shop: Workshop) -> None:
    """Hooks run as the host's root with lxc.environment, while the image is mounted."""
    mark, seen = shop.root / "evil", lxc.home / "seen"
    hook = lxc.home / "hook.sh"
    hook.write_text(f'#!/bin/sh\nreadlink -f "$LXC_ROOTFS_MOUNT" >{seen}\nenv >>{seen}\n')
    hook.chmod(0o755)
    lxc.create("h1", "hostile", settings={"lxc.hook.mount": str(hook)})
    lxc.start("h1")
    said = lxc.wait_console("h1", "ready")
    assert f"env PATH={ROOTFS_MOUNT}/evil:{STANDARD_PATH}" in said
    assert f"env LD_PRELOAD={ROOTFS_MOUNT}/evil/readlink" in said
    assert "env LXC_ROOTFS_MOUNT=/" in said
    text = seen.read_text()
    assert text.splitlines()[0] == ROOTFS_MOUNT
    assert "evil" not in text
    assert "touch" not in text
    assert not mark.exists()
    lxc.stop("h1")


def test_a_container_in_a_user_namespace(lxc: PlainLxc) -> None:
    ids = {"lxc.idmap": "u 0 100000 65536\nlxc.idmap = g 0 100000 65536"}
    lxc.create("u1", "probe", settings=ids)
    assert own_lines(lxc, "u1", "lxc.include") == [
        "/usr/share/lxc/config/common.conf",
        "/usr/share/lxc/config/userns.conf",
    ]
    assert (lxc.rootfs("u1") / "probe").stat().st_uid == 100000
    lxc.start("u1")
    lines = lxc.wait_console("u1", "ready").splitlines()
    # LXC sets supplementary groups only where root is the host's.
    assert "id 33:330 330" in lines
    assert "run 1 shm 1" in lines
    assert lxc.address("u1")
    lxc.stop("u1")
    lxc.wait_console("u1", "stopped by USR1")


def test_a_network_without_dhcp_holds_the_command_up_for_a_while_only(lxc: PlainLxc) -> None:
    alone = {"lxc.net.0.link": "", "lxc.environment": "LXDOCKER_NETWORK_WAIT=1"}
    lxc.create("d1", "probe", settings=alone)
    lxc.start("d1")
    said = lxc.wait_console("d1", "ready")
    assert "no address from DHCP yet; the command starts without" in said
    lxc.stop("d1")
    lxc.wait_console("d1", "stopped by USR1")


def test_names_are_made_where_the_image_has_none(lxc: PlainLxc) -> None:
    lxc.create("m1", "probe", settings={"lxc.environment": "UDHCPC_NO_DNS=1"})
    lxc.start("m1")
    lxc.wait_console("m1", "ready")
    etc = lxc.rootfs("m1") / "etc"
    assert (etc / "hostname").read_text() == "m1\n"
    assert "127.0.1.1\tm1\n" in (etc / "hosts").read_text()
    assert (etc / "resolv.conf").read_text() == ""
    shown = lxc.lxc("lxc-attach", "m1", "--", "/busybox-lxd", "sysctl", "-n", PORT_START).stdout
    assert shown == "0\n"
    lxc.stop("m1")
    lxc.create("m2", "probe")
    lxc.start("m2")
    lxc.wait_console("m2", "ready")
    resolv = (lxc.rootfs("m2") / "etc/resolv.conf").read_text()
    assert resolv.startswith("nameserver 10.")


def test_a_container_that_shares_the_host_s_network_leaves_it_alone(lxc: PlainLxc) -> None:
    lxc.create(
        "n1",
        "probe",
        settings={"lxc.net.0.type": "none", "lxc.net.0.link": "", "lxc.net.0.flags": ""},
    )
    before = Path("/etc/resolv.conf").read_bytes()
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    lxc.start("n1")
    lxc.wait_console("n1", "ready")
    started = lxc.lxc("lxc-attach", "n1", "--", "/busybox-lxd", "ps").stdout
    assert "udhcpc" not in started
    assert "network.sh" not in started
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == forward
    assert Path("/etc/resolv.conf").read_bytes() == before
    lxc.stop("n1")


def test_a_real_nginx_answers(lxc: PlainLxc) -> None:
    lxc.create("w1", "nginx")
    assert own_lines(lxc, "w1", "lxc.signal.halt") == ["3"]
    assert own_lines(lxc, "w1", "lxc.execute.cmd") == [
        '/docker-entrypoint.sh nginx -g "daemon off;"'
    ]
    lxc.start("w1")
    address = lxc.address("w1")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answer() -> bytes:
        with opener.open(f"http://{address}/", timeout=5) as response:
            content: bytes = response.read()
            return content

    def look() -> bytes:
        try:
            return answer()
        except OSError:
            return b""

    assert eventually(look, timeout_seconds=20, what="nginx") == b"a real nginx\n"
    said = lxc.wait_console("w1", '"GET / HTTP/1.1" 200')
    assert "entrypoint of root: nginx -g daemon off;" in said
    lxc.stop("w1", timeout_seconds=20)
    assert lxc.state("w1") == "STOPPED"
    lxc.wait_console("w1", "signal 3 (SIGQUIT) received")


def test_a_new_version_is_taken_and_the_one_before_stays(
    lxc: PlainLxc, shop: Workshop, tmp_path: Path
) -> None:
    lxc.create("v1", "quoted")
    before = shop.product("quoted").newest
    config: dict[str, object] = {"Cmd": ["new"], "StopSignal": "SIGINT"}
    new = FILES | {"news": b"new", "opt/app/once": PROBE}
    layout = shop.specs / "images.layout"
    write_layout(layout, tag="quoted", files=new, entrypoint=["/opt/app/once"], config=config)
    shop.run("quoted", hours_later=1)
    after = shop.product("quoted").newest
    eventually(
        lambda: after.serial in lxc.template("--list").stdout,
        timeout_seconds=10,
        what="the new version",
    )
    created = lxc.create("v2", "quoted").stdout
    # The copy that the template kept has expired when it was made, so it looks again.
    assert "The cached copy has expired" in created
    assert "Downloading the rootfs" in created
    assert own_lines(lxc, "v2", "lxc.init.cmd") == ["/opt/app/once new"]
    assert (lxc.rootfs("v2") / "news").exists()
    assert not (lxc.rootfs("v1") / "news").exists()
    old = f"lxc/quoted/amd64/{before.serial}/"
    file = fetched(lxc.server, lxc.authority, f"{old}rootfs.tar.xz", tmp_path / "rootfs")
    published = before.file("lxc-rootfs")
    assert published is not None
    assert hashlib.sha256(file.read_bytes()).hexdigest() == published.sha256
    fetched(lxc.server, lxc.authority, f"{old}meta.tar.xz", tmp_path / "meta")


def test_gpg_accepts_what_is_signed(shop: Workshop, tmp_path: Path) -> None:
    """LXC before 4.0.12 looks for these; the key it is given by hand."""
    with openpgp_home() as home:
        home.make_key("server@example.org")
        flags = ("--gpg-key", "server@example.org")
        with served(shop.options.lxdimages, tmp_path, *flags) as (server, authority):
            place = f"lxc/probe/amd64/{shop.product('probe').newest.serial}"
            for path in (
                *("meta/1.0/index-system", "meta//1.0/index-user.5", "meta/1.0/index-system.7"),
                *(f"{place}//meta.tar.xz", f"/{place}//rootfs.tar.xz"),
            ):
                file = fetched(server, authority, path, tmp_path / "file")
                signature = fetched(server, authority, f"{path}.asc", tmp_path / "file.asc")
                assert "Good signature" in home.gpg("--verify", signature, file), path


def test_the_same_image_gives_the_same_file_again(shop: Workshop, tmp_path: Path) -> None:
    again = Workshop(tmp_path / "again")
    busybox = MappingProxyType({"amd64": BUSYBOX})
    again.options = replace(again.options, lxc=True, busybox=busybox)
    specifications(again, None, mark=shop.root / "evil")
    again.run("probe")
    file = again.product("probe").newest.file("lxc-rootfs")
    assert file == shop.product("probe").newest.file("lxc-rootfs")
    with tarfile.open(again.file("probe", "lxc-rootfs"), "r:xz") as archive:
        names = archive.getnames()
    assert "sbin/init" not in names
    assert "dev" in names
