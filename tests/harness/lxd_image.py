"""A LXD image of a few files, made in memory: busybox, an init, nothing else."""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxdocker_lxd.digest import Digest

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "cat",
    "echo",
    "env",
    "id",
    "sleep",
    "ls",
    "ip",
    "kill",
    "mkdir",
    "head",
    "yes",
    "pwd",
)

# Takes the address that LXD's bridge offers is nobody's wish here; a clean shutdown is.
INIT = """#!/bin/sh
echo "init of {version} as $$"
trap 'echo shutting down; exit 0' PWR
while :; do sleep 1000 & wait $!; done
"""


@dataclass(frozen=True, kw_only=True)
class LxdImage:
    """A split image: both halves, and the fingerprint LXD computes."""

    metadata: bytes
    rootfs: bytes
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """sha256 of metadata and root filesystem, one after the other."""
        return Digest.of(self.metadata + self.rootfs).encoded


def _archive(files: Mapping[str, bytes | str | None]) -> bytes:
    """A tar: bytes make a file, text a link to it, None a directory."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def lxd_image(
    version: str = "1",
    *,
    init: str = INIT,
    files: Mapping[str, bytes] | None = None,
    properties: Mapping[str, str] | None = None,
) -> LxdImage:
    """An image that starts ``init``; each version has a content, so a fingerprint, of its own."""
    given = {"os": "tiny", "version": version, "description": f"tiny {version}"}
    given |= properties or {}
    document = {
        "architecture": "x86_64",
        "creation_date": 1767225600,
        "properties": given,
        "templates": {},
    }
    rootfs: dict[str, bytes | str | None] = dict.fromkeys(
        ("bin", "sbin", "dev", "proc", "sys", "tmp", "etc", "run", "root", "data")
    )
    rootfs["bin/busybox"] = BUSYBOX.read_bytes()
    rootfs |= {f"bin/{applet}": "busybox" for applet in APPLETS}
    rootfs["sbin/init"] = init.replace("{version}", version).encode()
    rootfs["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\n"
    rootfs["etc/version"] = version.encode()
    rootfs |= files or {}
    metadata = _archive({"metadata.yaml": json.dumps(document).encode()})
    return LxdImage(metadata=metadata, rootfs=_archive(rootfs), properties=given)
