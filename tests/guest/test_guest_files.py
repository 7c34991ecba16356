"""What the converter puts into an image's tree, and what it finds out on the way."""

import pytest

from lxdocker_lxd.convert.guest_files import GuestImage, GuestReport, add_guest
from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.stop_signal import StopSignalError
from lxdocker_lxd.errors import VerificationError
from tests.guest.guest_shell import items
from tests.guest.lxd_guest import image_config

SCRIPTS = load_guest_scripts()


def converted(tree: Tree, config: ImageConfig | None = None, **how: object) -> GuestReport:
    guest = GuestImage(
        config=config or image_config(cmd=["app"]),
        scripts=SCRIPTS,
        busybox=b"busybox",
        image_json=b"{}",
        mtime_ns=5_000_000_000,
        **how,  # type: ignore[arg-type]  # the record's own fields
    )
    return add_guest(tree, guest)


def content(tree: Tree, path: bytes) -> bytes:
    inode = tree.resolve(path)
    assert inode is not None, path
    assert isinstance(inode.content, bytes)
    return inode.content


def settings(tree: Tree) -> dict[bytes, bytes]:
    pairs = [item.partition(b"=") for item in items(content(tree, b".lxdocker/image/settings"))]
    return {name: value for name, _, value in pairs}


def test_an_empty_root_gets_all_a_start_needs() -> None:
    tree = Tree()
    report = converted(tree)
    found = dict(tree.walk())
    assert sorted(path for path, inode in found.items() if inode.kind is not Kind.DIRECTORY) == [
        b".lxdocker/image/cmd",
        b".lxdocker/image/entrypoint",
        b".lxdocker/image/env",
        b".lxdocker/image/health",
        b".lxdocker/image/settings",
        b".lxdocker/image/tmpfs",
        b".lxdocker/in/settings",
        b".lxdocker/launch.sh",
        b".lxdocker/logger.sh",
        b".lxdocker/network.sh",
        b".lxdocker/prepare.sh",
        b".lxdocker/run",
        b".lxdocker/words.sh",
        b"busybox-lxd",
        b"etc/hostname",
        b"etc/hosts",
        b"etc/resolv.conf",
        b"lxd-image.json",
        b"lxd-prelaunch",
        b"lxd-udhcpc-default.script",
        b"lxd-udhcpc-default.script.real",
        b"sbin/init",
    ]
    assert content(tree, b"sbin/init") == SCRIPTS.init
    assert found[b"sbin/init"].mode == 0o755
    assert found[b"lxd-prelaunch"].mode == 0o700
    assert found[b".lxdocker/in"].mode == 0o700
    assert {inode.mtime_ns for path, inode in found.items() if b"lxd" in path} == {5_000_000_000}
    assert report == converted(Tree())
    assert (report.etc_templates, report.real_init) == (True, False)
    assert report.tmpfs == ("/tmp", "/run")


def test_a_config_becomes_data() -> None:
    tree = Tree()
    awkward = "'\"$(x)`y`\n\\é"
    config = image_config(
        entrypoint=["a", ""],
        cmd=[awkward],
        env=[f"A={awkward}", "B.c="],
        user="web:log",
        working_dir="/a b",
        stop_signal="SIGRTMIN+3",
        health=["check", awkward],
    )
    converted(tree, config, restart="on-failure:3")
    assert items(content(tree, b".lxdocker/image/entrypoint")) == [b"a", b""]
    assert items(content(tree, b".lxdocker/image/cmd")) == [awkward.encode()]
    assert items(content(tree, b".lxdocker/image/env")) == [f"A={awkward}".encode(), b"B.c="]
    assert items(content(tree, b".lxdocker/image/health")) == [b"check", awkward.encode()]
    assert settings(tree) == {
        b"user": b"web:log",
        b"working_dir": b"/a b",
        b"stop_signal": b"37",
        b"stop_timeout": b"10",
        b"restart": b"on-failure:3",
        b"mode": b"supervise",
        b"init": b"",
        b"halt_signal": b"",
        b"health_timeout": b"2",
    }
    # No script differs from image to image.
    assert content(tree, b"sbin/init") == SCRIPTS.init


def test_a_stop_signal_that_is_none_is_an_error() -> None:
    with pytest.raises(StopSignalError):
        converted(Tree(), image_config(cmd=["x"], stop_signal="SIGNONE"))


def test_what_the_image_has_under_our_names_is_replaced_never_followed() -> None:
    tree = Tree()
    tree.put_file(b"precious", b"precious", mode=0o644)
    for name in (b".lxdocker", b"busybox-lxd", b"lxd-prelaunch", b"lxd-image.json"):
        tree.put_symlink(name, b"/precious")
    tree.put_symlink(b"lxd-udhcpc-default.script", b"precious")
    tree.put_symlink(b"lxd-realinit", b"/precious")
    report = converted(tree)
    assert content(tree, b"precious") == b"precious"
    inode = tree.lookup(b".lxdocker")
    assert inode is not None
    assert inode.kind is Kind.DIRECTORY
    assert tree.lookup(b"lxd-realinit") is None
    assert not report.real_init


@pytest.mark.parametrize("target", [b"usr/sbin", b"/usr/sbin", b"../../usr/sbin"])
def test_a_linked_sbin_is_written_through_inside_the_root(target: bytes) -> None:
    tree = Tree()
    tree.put_file(b"usr/sbin/init", b"own", mode=0o755)
    tree.put_symlink(b"sbin", target)
    assert converted(tree).real_init
    assert content(tree, b"usr/sbin/init") == SCRIPTS.init
    assert content(tree, b"lxd-realinit") == b"own"


@pytest.mark.parametrize(
    ("target", "moved"),
    [
        (b"/lib/systemd/systemd", b"/lib/systemd/systemd"),
        (b"../bin/busybox", b"/sbin/../bin/busybox"),
        (b"init.sysv", b"/sbin/init.sysv"),
    ],
)
def test_a_linked_init_leads_where_it_led(target: bytes, moved: bytes) -> None:
    tree = Tree()
    tree.put_symlink(b"sbin/init", target)
    converted(tree)
    inode = tree.lookup(b"lxd-realinit")
    assert inode is not None
    assert inode.target == moved


def test_a_tmpfs_only_where_the_image_ships_nothing() -> None:
    tree = Tree()
    tree.put_directory(b"tmp", mode=0o1777)
    tree.put_directory(b"run/lock", mode=0o1777)
    assert converted(tree).tmpfs == ("/tmp",)
    linked = Tree()
    linked.put_symlink(b"run", b"/var/run")
    linked.put_file(b"tmp/keep", b"", mode=0o644)
    assert converted(linked).tmpfs == ()
    assert converted(Tree(), tmpfs=("/a", "/b c")).tmpfs == ("/a", "/b c")
    asked = Tree()
    converted(asked, tmpfs=("/a", "/b c"))
    assert items(content(asked, b".lxdocker/image/tmpfs")) == [b"/a", b"/b c"]
    assert converted(Tree(), tmpfs=()).tmpfs == ()


@pytest.mark.parametrize("shape", ["etc link", "hosts link", "hosts directory", "hostname fifo"])
def test_lxd_renders_into_etc_only_where_that_is_plain(shape: str) -> None:
    tree = Tree()
    if shape == "etc link":
        tree.put_directory(b"other", mode=0o755)
        tree.put_symlink(b"etc", b"/other")
    elif shape == "hosts link":
        tree.put_symlink(b"etc/hosts", b"../run/hosts")
    elif shape == "hosts directory":
        tree.put_directory(b"etc/hosts", mode=0o755)
    else:
        tree.put_symlink(b"etc/hostname", b"/nowhere")
    assert not converted(tree).etc_templates


def test_an_etc_that_leads_nowhere_is_made() -> None:
    tree = Tree()
    tree.put_symlink(b"etc", b"/real/etc")
    assert not converted(tree).etc_templates
    assert content(tree, b"real/etc/resolv.conf") == b""


def test_missing_volumes_are_made_and_others_left() -> None:
    tree = Tree()
    tree.put_directory(b"data", mode=0o700, uid=5)
    converted(tree, image_config(cmd=["x"], volumes=["/data", "/new/one", "/"]))
    data, made = tree.lookup(b"data"), tree.lookup(b"new/one")
    assert data is not None
    assert made is not None
    assert (data.mode, data.uid) == (0o700, 5)
    assert (made.kind, made.mode) == (Kind.DIRECTORY, 0o755)


def test_an_image_made_from_a_converted_one_is_converted_anew() -> None:
    tree = Tree()
    converted(tree)
    tree.put_file(b".lxdocker/state", b"old", mode=0o644)
    report = converted(tree)
    assert tree.lookup(b".lxdocker/state") is None
    assert report.real_init  # our own init of before; it is bound over itself, which does no harm


@pytest.mark.parametrize(
    "volume",
    [
        *("/lxd-prelaunch/x", "/busybox-lxd/x", "/sbin/init/x", "/.lxdocker/image/env/x"),
        *("/.lxdocker", "/.lxdocker/data", "/lxd-image.json"),
    ],
)
@pytest.mark.parametrize("init", [True, False])
def test_a_volume_never_replaces_a_file_of_the_guest(volume: str, init: bool) -> None:
    """These images were built, with a directory where a program had to be."""
    tree = Tree()
    if init:
        tree.put_file(b"sbin/init", b"init", mode=0o755)
    with pytest.raises(VerificationError, match=volume.removeprefix("/")):
        converted(tree, image_config(cmd=["app"], volumes=[volume]))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (b"etc", b"/sbin/init"),
        (b"etc", b"/busybox-lxd"),
        (b"etc", b"/.lxdocker/in"),
        (b"sbin", b"/busybox-lxd"),
        (b"sbin", b"/lxd-prelaunch"),
        (b"sbin", b"/.lxdocker/in/settings"),
        (b"sbin", b"/.lxdocker/image/env"),
    ],
)
def test_a_link_never_leads_to_a_file_of_the_guest(name: bytes, target: bytes) -> None:
    """These images were built too."""
    tree = Tree()
    tree.put_symlink(name, target)
    with pytest.raises(VerificationError, match=rf"{name.decode()}/"):
        converted(tree)
    if name == b"etc":
        tree.put_file(target, b"program", mode=0o755)
        with pytest.raises(VerificationError, match="etc/hostname"):
            converted(tree)


def test_a_volume_is_cleaned_as_docker_cleans_it() -> None:
    tree = Tree()
    converted(tree, image_config(cmd=["app"], volumes=["", "/", "/../../data/", "//x//y", "z"]))
    assert all(tree.lookup(path) for path in (b"data", b"x/y", b"z"))
