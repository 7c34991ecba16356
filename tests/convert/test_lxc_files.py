"""What an image's tree gets for plain LXC, and how accounts and data come out of layers."""

import gzip
from pathlib import Path

import pytest

from lxdocker_lxd.catalogue import LxcMount, LxcSettings
from lxdocker_lxd.convert.account import Account
from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.convert.layer.errors import LayerLimitError
from lxdocker_lxd.convert.layer.file_content import file_content
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import HostFile, Inode, Stored
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.lxc_files import LxcImage, add_lxc_guest
from lxdocker_lxd.convert.stop_signal import StopSignalError
from tests.convert.workshop import Workshop, outcome
from tests.guest.guest_shell import items
from tests.guest.lxd_guest import image_config

SCRIPTS = load_guest_scripts()
ACCOUNT = Account(uid=33, gid=330, groups=(50,), home="/srv/web")


def converted(
    tree: Tree, config: ImageConfig | None = None, *, tmpfs: tuple[str, ...] | None = None
) -> LxcSettings:
    image = LxcImage(
        config=config or image_config(cmd=["app"]),
        account=ACCOUNT,
        scripts=SCRIPTS,
        busybox=b"busybox",
        image_json=b"{}",
        mtime_ns=5_000_000_000,
        tmpfs=tmpfs,
    )
    return add_lxc_guest(tree, image)


def content(tree: Tree, path: bytes) -> bytes:
    inode = tree.resolve(path)
    assert inode is not None, path
    assert isinstance(inode.content, bytes)
    return inode.content


def test_an_empty_root_gets_a_hook_but_no_init() -> None:
    tree = Tree()
    settings = converted(tree)
    found = dict(tree.walk())
    assert sorted(path for path, inode in found.items() if inode.kind is not Kind.DIRECTORY) == [
        b".lxdocker/image/argv",
        b".lxdocker/image/env",
        b".lxdocker/image/working_dir",
        b".lxdocker/launch.sh",
        b".lxdocker/lxc-hook",
        b".lxdocker/lxc-start",
        b".lxdocker/network.sh",
        b".lxdocker/prepare.sh",
        b"bin/sh",
        b"busybox-lxd",
        b"etc/hostname",
        b"etc/hosts",
        b"etc/resolv.conf",
        b"lxd-image.json",
        b"lxd-udhcpc-default.script",
        b"lxd-udhcpc-default.script.real",
    ]
    assert {b"dev", b"proc", b"sys", b".lxdocker/live"} <= set(found)
    assert settings == LxcSettings(
        uid=33,
        gid=330,
        groups=(50,),
        home="/srv/web",
        stop_signal=15,
        tmpfs=(
            LxcMount(path="/tmp", mode=0o1777, uid=0, gid=0),
            LxcMount(path="/run", mode=0o755, uid=0, gid=0),
        ),
    )


def test_the_image_s_own_init_and_shell_stay() -> None:
    tree = Tree()
    tree.put_file(b"sbin/init", b"own", mode=0o755)
    tree.put_file(b"usr/bin/dash", b"shell", mode=0o755)
    tree.put_symlink(b"bin", b"usr/bin")
    tree.put_symlink(b"usr/bin/sh", b"dash")
    converted(tree)
    assert content(tree, b"sbin/init") == b"own"
    assert content(tree, b"bin/sh") == b"shell"
    assert tree.lookup(b"lxd-realinit") is None


def test_a_shell_that_leads_nowhere_is_replaced() -> None:
    tree = Tree()
    tree.put_symlink(b"bin/sh", b"/bin/none")
    converted(tree)
    assert content(tree, b"bin/sh") == b"busybox"


def test_the_command_becomes_data() -> None:
    tree = Tree()
    awkward = "'\"$(x)`y`\n\\é"
    config = image_config(
        entrypoint=["a", ""], cmd=[awkward], env=[f"A={awkward}", "PATH=/x"], working_dir="/a b"
    )
    converted(tree, config)
    assert items(content(tree, b".lxdocker/image/argv")) == [b"a", b"", awkward.encode()]
    assert items(content(tree, b".lxdocker/image/env")) == [
        b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"HOME=/srv/web",
        f"A={awkward}".encode(),
        b"PATH=/x",
    ]
    assert items(content(tree, b".lxdocker/image/working_dir")) == [b"/a b"]
    directory = tree.lookup(b"a b")
    assert directory is not None
    assert directory.kind is Kind.DIRECTORY


def test_devices_and_links_where_the_host_writes_are_gone() -> None:
    """lxc-create makes dev/pts below the root filesystem as the host's root."""
    tree = Tree()
    tree.put_symlink(b"dev", b"/etc")
    tree.put_symlink(b"proc", b"/etc")
    chroot = Inode(Kind.CHARACTER_DEVICE, mode=0o666, device=(1, 3))
    tree.put_directory(b"var/chroot", mode=0o755).put_child(b"null", chroot)
    converted(tree)
    for name in (b"dev", b"proc", b"sys"):
        inode = tree.lookup(name)
        assert inode is not None
        assert inode.kind is Kind.DIRECTORY
        assert not inode.children
    assert tree.lookup(b"var/chroot/null") is None


def test_a_tmpfs_covers_what_is_empty_as_it_was() -> None:
    tree = Tree()
    tree.put_directory(b"run", mode=0o711, uid=7, gid=8)
    tree.put_directory(b"data", mode=0o700, uid=9)
    assert converted(tree).tmpfs == (
        LxcMount(path="/tmp", mode=0o1777, uid=0, gid=0),
        LxcMount(path="/run", mode=0o711, uid=7, gid=8),
    )
    asked = converted(tree, tmpfs=("/data", "/new", "/var/tmp/"))
    assert [(mount.path, mount.mode, mount.uid) for mount in asked.tmpfs] == [
        ("/data", 0o700, 9),
        ("/new", 0o755, 0),
        ("/var/tmp/", 0o1777, 0),
    ]


def test_a_working_directory_or_volume_below_tmp_keeps_the_tmpfs_away() -> None:
    config = image_config(cmd=["app"], working_dir="/tmp/work", volumes=["/run/data"])
    assert converted(Tree(), config).tmpfs == ()


def test_a_stop_signal_that_is_none_is_an_error() -> None:
    with pytest.raises(StopSignalError):
        converted(Tree(), image_config(cmd=["x"], stop_signal="SIGNONE"))


def test_small_files_come_out_of_layers(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.write_bytes(gzip.compress(bytes(1000) + b"first" + bytes(3_000_000) + b"second"))
    tree = Tree()
    etc = tree.put_directory(b"etc", mode=0o755)
    for name, offset_bytes, size_bytes, sparse in (
        (b"a", 1000, 5, None),
        (b"b", 3_001_005, 6, None),
        (b"holes", 1000, 9, ((2, 2), (6, 3))),
        (b"empty", 0, 0, None),
    ):
        inode = Inode(Kind.FILE, mode=0o644, size_bytes=size_bytes)
        inode.content = Stored(0, offset_bytes, sparse)
        etc.put_child(name, inode)
    tree.put_symlink(b"etc/link", b"/etc/b")
    host = tmp_path / "host"
    host.write_bytes(b"of the machine")
    tree.put_file(b"etc/host", HostFile(host, 14), mode=0o644)
    tree.put_file(b"etc/given", b"given", mode=0o644)

    def read(name: bytes) -> bytes:
        return file_content(tree, [layer], b"etc/" + name, most_bytes=100)

    assert [read(name) for name in (b"a", b"b", b"link", b"empty", b"host", b"given")] == [
        *(b"first", b"second", b"second", b"", b"of the machine", b"given")
    ]
    assert read(b"holes") == b"\0\0fi\0\0rst"
    assert [read(name) for name in (b"missing", b".")] == [b"", b""]
    with pytest.raises(LayerLimitError, match="more than 4"):
        file_content(tree, [layer], b"etc/a", most_bytes=4)


def test_an_image_whose_user_nobody_knows_is_refused_and_the_old_one_stays(
    workshop: Workshop,
) -> None:
    """Docker would not start it either; for LXC there is no number to write down."""
    workshop.both("web", b"one", "lxc: true\n")
    workshop.run()
    serial = workshop.product("web").newest.serial
    workshop.both("web", b"two", "lxc: true\nuser: nobody-knows\n")
    error = outcome(workshop.run(hours_later=1), "web").error
    assert error is not None
    assert "nobody-knows" in error.message
    assert workshop.product("web").newest.serial == serial
    workshop.spec("web", "user: nobody-knows\n")
    assert outcome(workshop.run(hours_later=1), "web").error is None
    assert workshop.product("web").newest.lxc is None


def test_the_catalogue_holds_the_account_of_the_image(workshop: Workshop) -> None:
    files = {
        "etc/passwd": b"web:x:33:330::/srv/web:/bin/sh\n",
        "etc/group": b"log:x:50:web\n",
    }
    workshop.image(
        "web", files, config={"User": "web", "Cmd": ["/bin/app"], "StopSignal": "SIGINT"}
    )
    workshop.spec("web", "lxc: true\ntmpfs: [/scratch]\n")
    assert outcome(workshop.run(), "web").error is None
    assert workshop.product("web").newest.lxc == LxcSettings(
        uid=33,
        gid=330,
        groups=(50,),
        home="/srv/web",
        stop_signal=2,
        tmpfs=(LxcMount(path="/scratch", mode=0o755, uid=0, gid=0),),
    )
