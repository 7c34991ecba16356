"""Layers for tests, written by the standard library's tarfile or as raw blocks.

Independent of the product's own tar code on purpose: a mistake there must not cancel out here.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lxdocker_lxd.convert.layer.headers import LayerHeaders
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.scan import scan
from lxdocker_lxd.digest import Digest

BLOCK = 512
MTIME = 1111111111


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry; text fields hold arbitrary bytes through surrogates, as in tarfile."""

    name: str
    typeflag: bytes = tarfile.REGTYPE
    content: bytes = b""
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = MTIME
    device: tuple[int, int] = (0, 0)
    records: dict[str, str] = field(default_factory=dict)
    claimed_size: int | None = None

    def rendered(self, tar_format: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.type = self.typeflag
        info.linkname = self.target
        info.mode = self.mode
        info.uid, info.gid = self.uid, self.gid
        info.mtime = self.mtime
        info.devmajor, info.devminor = self.device
        info.size = len(self.content) if self.claimed_size is None else self.claimed_size
        info.pax_headers = dict(self.records)
        if self.name.endswith("/"):
            # tarfile keeps the slash only for directories.
            info.name = self.name.rstrip("/") or "./"
        header = info.tobuf(tar_format, "utf-8", "surrogateescape")
        return header + self.content + bytes(-len(self.content) % BLOCK)


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that stand in the archive as they are."""

    content: bytes

    def rendered(self, tar_format: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
        del tar_format
        return self.content


END = Raw(bytes(2 * BLOCK))
Part = Member | Raw


def xattr_records(xattrs: dict[str, bytes]) -> dict[str, str]:
    return {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
        for name, value in xattrs.items()
    }


def f(name: str, content: str = "x", **fields: object) -> Member:
    return replace(Member(name=name, content=content.encode()), **fields)  # type: ignore[arg-type]  # test table


def d(name: str, **fields: object) -> Member:
    member = Member(name=name, typeflag=tarfile.DIRTYPE, mode=0o755)
    return replace(member, **fields)  # type: ignore[arg-type]  # test table


def link(name: str, target: str, **fields: object) -> Member:
    member = Member(name=name, typeflag=tarfile.SYMTYPE, target=target, mode=0o777)
    return replace(member, **fields)  # type: ignore[arg-type]  # test table


def hard(name: str, target: str, **fields: object) -> Member:
    member = Member(name=name, typeflag=tarfile.LNKTYPE, target=target)
    return replace(member, **fields)  # type: ignore[arg-type]  # test table


def fifo(name: str, **fields: object) -> Member:
    return replace(Member(name=name, typeflag=tarfile.FIFOTYPE), **fields)  # type: ignore[arg-type]  # test table


def char(name: str, major: int, minor: int, **fields: object) -> Member:
    member = Member(name=name, typeflag=tarfile.CHRTYPE, device=(major, minor))
    return replace(member, **fields)  # type: ignore[arg-type]  # test table


def block(name: str, major: int, minor: int, **fields: object) -> Member:
    member = Member(name=name, typeflag=tarfile.BLKTYPE, device=(major, minor))
    return replace(member, **fields)  # type: ignore[arg-type]  # test table


def archive(
    *parts: Part, end: bool = True, tar_format: Literal[0, 1, 2] = tarfile.PAX_FORMAT
) -> bytes:
    body = b"".join(part.rendered(tar_format) for part in parts)
    return body + bytes(2 * BLOCK) if end else body


def raw_header(
    name: bytes,
    *,
    typeflag: bytes = b"0",
    size: bytes | int = 0,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    target: bytes = b"",
    magic: bytes = b"ustar\00000",
    device: bytes = b"0000000\0",
    prefix: bytes = b"",
    signed_sum: bool = False,
    checksum: int | None = None,
) -> bytes:
    """One header block with full control over each field; the checksum is right unless given."""
    size_field = size if isinstance(size, bytes) else b"%011o\0" % size
    head = name.ljust(100, b"\0") + mode + uid + gid + size_field + mtime
    tail = typeflag + target.ljust(100, b"\0") + magic + bytes(64) + device * 2 + prefix
    tail = tail.ljust(BLOCK - 156, b"\0")
    total = sum(head) + 8 * 32 + sum(tail)
    if signed_sum:
        total -= 256 * sum(byte > 127 for byte in head + tail)
    if checksum is not None:
        total = checksum
    return head + b"%06o\0 " % total + tail


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def pax_member(records: bytes, *, typeflag: bytes = b"x") -> bytes:
    return raw_header(b"PaxHeaders/x", typeflag=typeflag, size=len(records)) + padded(records)


def record(key: str, value: str) -> bytes:
    """One pax record; its length counts itself."""
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def digest_of(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def store_layers(directory: Path, layers: list[bytes]) -> list[Path]:
    """Write archives as layer files and return their paths, lowest first."""
    paths = []
    for index, content in enumerate(layers):
        path = directory / f"layer{index}"
        path.write_bytes(content)
        paths.append(path)
    return paths


def scanned(path: Path, limits: LayerLimits | None = None) -> LayerHeaders:
    """Scan a stored, uncompressed layer whose digest is right."""
    return scan(
        path,
        diff_id=digest_of(path.read_bytes()),
        layer=path.name,
        limits=limits or LayerLimits(),
    )


def in_memory(content: bytes) -> io.BytesIO:
    return io.BytesIO(content)
