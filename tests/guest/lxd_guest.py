"""LXD images for tests of the guest: a tree made by hand, the real guest files, a real import."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lxdocker_lxd.convert.guest_files import GuestImage, GuestReport, add_guest
from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from lxdocker_lxd.convert.image_config import Healthcheck, ImageConfig
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.layer.rootfs_stream import ARCHIVE_FORM, write_tar
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.metadata import ImageMetadata, metadata_tarball
from lxdocker_lxd.convert.overrides import config_fields
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run

BUSYBOX = Path("/bin/busybox")
APPLETS = [
    "sh",
    "cat",
    "echo",
    "env",
    "id",
    "sleep",
    "ls",
    "kill",
    "ps",
    "test",
    "stat",
    "readlink",
    "nc",
    "httpd",
    "wget",
    "ip",
    "mount",
    "yes",
    "head",
]


def host_file(path: Path | str) -> HostFile:
    """A file of this machine, links followed."""
    real = Path(path).resolve()
    return HostFile(real, real.stat().st_size)


# Says what arrived, then lives until its stop signal.
PROBE = b"""#!/bin/sh
echo "probe $$ $#: $*"
trap 'echo got TERM; exit 7' TERM
trap 'echo got QUIT; exit 8' QUIT
trap 'echo got INT; exit 9' INT
trap 'echo got HUP' HUP
echo ready
while :; do sleep 60 & wait $!; done
"""


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


def image_facts(config: ImageConfig) -> bytes:
    """``/lxd-image.json`` as a conversion writes it, as far as instances are asked by it."""
    fields = config_fields(config)
    document = {
        "format": 1,
        "config": fields,
        "healthcheck": fields.get("Healthcheck"),
        "volumes": list(config.volumes),
        "ports": list(config.exposed_ports),
    }
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


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
            image_json=image_facts(config),
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


def put_program(tree: Tree, path: str) -> None:
    """Put a program of this machine into the tree, with the libraries it needs."""
    tree.put_file(path.encode(), host_file(path), mode=0o755)
    listed = run("ldd", path, check=False).stdout
    for library in re.findall(r"(?:=> )?(/\S+) \(0x", listed):
        tree.put_file(library.encode(), host_file(library), mode=0o755)


class Guests:
    """Images and instances of one test; leaving it deletes the instances."""

    def __init__(self, lxd: PrivateLxd, directory: Path) -> None:
        self.lxd = lxd
        self._directory = directory
        self._names: list[str] = []

    def image(self, tree: Tree, config: ImageConfig, **how: Any) -> str:
        """Import an image and return its alias."""
        return import_guest(self.lxd, self._directory, tree, config, **how)[0]

    def launch(
        self,
        alias: str,
        *,
        config: Mapping[str, str] | None = None,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        start: bool = True,
    ) -> str:
        """Launch an instance and return its name."""
        name = f"t{secrets.token_hex(4)}"
        self._names.append(name)
        return self.lxd.launch(alias, name, config=config, devices=devices, start=start)

    def run(self, tree: Tree, config: ImageConfig, **how: Any) -> str:
        """Import an image, launch an instance of it, return its name."""
        return self.launch(self.image(tree, config, **how))

    def close(self) -> None:
        """Delete the instances."""
        for name in self._names:
            self.lxd.lxc("delete", "--force", name, check=False)

    def state(self, name: str) -> dict[str, Any]:
        """What the guest keeps in /.lxdocker/state."""
        raw = self.lxd.file_pull(name, "/.lxdocker/state")
        found: dict[str, Any] = json.loads(raw) if raw else {}
        return found

    def log(self, name: str) -> str:
        """The log file."""
        return (self.lxd.file_pull(name, "/.lxdocker/log") or b"").decode("utf-8", "replace")

    def wait_log(self, name: str, text: str, *, timeout_seconds: float = 20) -> str:
        """Wait until ``text`` is in the log file, and return the log."""
        try:
            eventually(
                lambda: text in self.log(name), timeout_seconds=timeout_seconds, what=repr(text)
            )
        except AssertionError as error:
            shown = f"log:\n{self.log(name)}\nconsole:\n{self.lxd.console_log(name)}"
            raise AssertionError(f"{error}\n{shown}") from None
        return self.log(name)

    def process(self, name: str, argument: str) -> int:
        """The number, inside, of the first process whose arguments contain ``argument``; waited for.

        The needle travels in the environment, else the search would find itself.
        """
        script = (
            "for p in /proc/[0-9]*; do c=$(tr '\\0' ' ' <$p/cmdline 2>/dev/null);"
            ' case $c in *"$NEEDLE"*) echo "${p#/proc/}"; break;; esac; done'
        )
        shown = eventually(
            lambda: (
                self.lxd.exec(
                    name, "/busybox-lxd", "sh", "-c", script, env={"NEEDLE": argument}
                ).stdout
            ),
            timeout_seconds=20,
            what=f"a process {argument!r} in {name}",
        )
        return int(shown)

    def environ(self, name: str, process: int) -> dict[str, str]:
        """The environment of a process inside."""
        raw = self.lxd.exec(name, "/busybox-lxd", "cat", f"/proc/{process}/environ").stdout
        pairs = (item.partition("=") for item in raw.split("\0") if item)
        return {key: value for key, _, value in pairs}
