"""LXD images for tests of the guest: a tree made by hand, the real guest files, a real import."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from lxdocker_lxd.convert.guest_files import GuestImage, GuestReport, add_guest
from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from lxdocker_lxd.convert.image_config import Healthcheck, ImageConfig
from lxdocker_lxd.convert.inode import HostFile
from lxdocker_lxd.convert.metadata import ImageMetadata, metadata_tarball
from lxdocker_lxd.convert.rootfs_stream import ARCHIVE_FORM, write_tar
from lxdocker_lxd.convert.tree import Tree
from tests.harness.lxd import PrivateLxd

BUSYBOX = Path("/bin/busybox")
APPLETS = "sh cat echo env id sleep ls kill ps test stat readlink nc httpd wget ip mount yes head".split()


def host_file(path: Path | str) -> HostFile:
    """A file of this machine, links followed."""
    real = Path(path).resolve()
    return HostFile(real, real.stat().st_size)


def image_config(
    *,
    entrypoint: Sequence[str] = (),
    cmd: Sequence[str] = (),
    env: Sequence[str] = (),
    user: str = "",
    working_dir: str = "/",
    stop_signal: str | None = None,
    volumes: Sequence[str] = (),
    health: Sequence[str] = (),
) -> ImageConfig:
    """An image configuration with these values and nothing else."""
    return ImageConfig(
        os="linux",
        architecture="amd64",
        variant="",
        created=None,
        env=tuple(env),
        entrypoint=tuple(entrypoint),
        cmd=tuple(cmd),
        user=user,
        working_dir=working_dir,
        stop_signal=stop_signal,
        volumes=tuple(volumes),
        exposed_ports=(),
        labels={},
        healthcheck=Healthcheck(
            test=("CMD", *health),
            interval_seconds=None,
            timeout_seconds=2,
            start_period_seconds=None,
            retries=None,
        )
        if health
        else None,
        shell=(),
        diff_ids=(),
        history=(),
    )


def bare_tree(files: Mapping[str, bytes] | None = None) -> Tree:
    """A root with these programs (mode 0755) and nothing else."""
    tree = Tree()
    for path, content in (files or {}).items():
        tree.put_file(path.encode(), content, mode=0o755)
    return tree


def small_tree(files: Mapping[str, bytes] | None = None) -> Tree:
    """A root with a shell and a few programs of its own, and these (mode 0755)."""
    tree = bare_tree(files)
    tree.put_file(b"bin/busybox", host_file(BUSYBOX), mode=0o755)
    for name in APPLETS:
        if tree.lookup(b"bin/" + name.encode()) is None:
            tree.put_symlink(b"bin/" + name.encode(), b"busybox")
    return tree


def import_guest(
    lxd: PrivateLxd,
    directory: Path,
    tree: Tree,
    config: ImageConfig,
    *,
    disable_supervisor: bool | None = None,
    restart: str = "no",
    tmpfs: tuple[str, ...] | None = None,
) -> tuple[str, GuestReport]:
    """Add the guest to ``tree``, import the result, and return its alias and the guest's report."""
    alias = f"i{secrets.token_hex(4)}"
    report = add_guest(
        tree,
        GuestImage(
            config=config,
            scripts=load_guest_scripts(),
            busybox=host_file(BUSYBOX),
            image_json=b"{}\n",
            mtime_ns=0,
            disable_supervisor=disable_supervisor,
            restart=restart,
            tmpfs=tmpfs,
        ),
    )
    metadata = metadata_tarball(
        ImageMetadata(
            product=alias,
            architecture="amd64",
            created_seconds=0,
            description=alias,
            properties={},
            etc_templates=report.etc_templates,
        )
    )
    meta_file, rootfs_file = directory / f"{alias}.meta", directory / f"{alias}.tar"
    meta_file.write_bytes(metadata)
    with rootfs_file.open("wb") as rootfs:
        write_tar(tree, (), rootfs.write, form=ARCHIVE_FORM)
    lxd.import_split(meta_file, rootfs_file, alias)
    rootfs_file.unlink()
    return alias, report
