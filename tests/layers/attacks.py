"""Hostile images as data: what each holds, the error it must meet and the rule that says so."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace

from backports import zstd

from lxdocker_lxd.convert.layer.errors import (
    CorruptArchiveError,
    CorruptStreamError,
    LayerLimitError,
    UnsafeLinkError,
    UnsafeNameError,
    UnsupportedCompressionError,
    UnsupportedEntryError,
)
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.errors import LxdockerError
from tests.layers.tar_builder import (
    Raw,
    archive,
    char,
    d,
    f,
    hard,
    link,
    pax_member,
    raw_header,
    record,
    xattr_records,
)

UP = "../" * 30
SMALL = LayerLimits(
    entries=50,
    header_bytes=4096,
    metadata_bytes=20_000,
    inflated_bytes=2 << 20,
    content_bytes=1 << 20,
    ratio=20,
    ratio_free_bytes=256 << 10,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One hostile image: its layers for a host directory, and the refusal it must meet."""

    name: str
    layers: Callable[[str], list[bytes]]
    error: type[LxdockerError]
    says: str
    """A part of the message: the rule."""

    limits: LayerLimits = SMALL


ATTACKS: list[Attack] = []


def attack(
    name: str,
    error: type[LxdockerError],
    says: str,
    *layers: bytes | Callable[[str], bytes],
    limits: LayerLimits = SMALL,
) -> None:
    def built(host: str) -> list[bytes]:
        return [layer if isinstance(layer, bytes) else layer(host) for layer in layers]

    ATTACKS.append(Attack(name=name, layers=built, error=error, says=says, limits=limits))


# --- names ----------------------------------------------------------------------------------------
attack("name climbs out", UnsafeNameError, "leaves the root", archive(f("../../evil")))
attack(
    "name climbs out below a directory",
    UnsafeNameError,
    "leaves the root",
    archive(d("a/"), f("a/../../evil")),
)
attack(
    "pax path climbs out",
    UnsafeNameError,
    "leaves the root",
    archive(Raw(pax_member(record("path", "../evil"))), f("harmless")),
)
attack(
    "GNU long name climbs out",
    UnsafeNameError,
    "leaves the root",
    raw_header(b"././@LongLink", typeflag=b"L", size=8)
    + b"../evil\0".ljust(512, b"\0")
    + archive(f("harmless")),
)
attack(
    "global pax path climbs out",
    UnsafeNameError,
    "leaves the root",
    archive(Raw(pax_member(record("path", "../evil"), typeflag=b"g")), f("harmless")),
)
attack(
    "pax path with a NUL byte",
    UnsafeNameError,
    "NUL",
    archive(Raw(pax_member(record("path", "etc/passwd\0.txt"))), f("harmless")),
)
attack("empty name", UnsafeNameError, "empty", raw_header(b"") + bytes(1024))
attack("name part over 255 bytes", UnsafeNameError, "longer than", archive(f("n" * 256)))
attack(
    "name over 4096 bytes",
    UnsafeNameError,
    "longer than",
    archive(f("/".join(["n" * 200] * 21))),
    limits=LayerLimits(),
)
attack(
    "root becomes a link", UnsafeNameError, "root itself", lambda host: archive(link("./", host))
)
attack("root becomes a file", UnsafeNameError, "root itself", archive(f("./")))
attack("root becomes a device", UnsafeNameError, "root itself", archive(char("/", 1, 3)))
attack("whiteout of nothing", UnsafeNameError, "whiteout names", archive(f(".wh.")))
attack("whiteout of its directory", UnsafeNameError, "whiteout names", archive(f("a/.wh..")))
attack("whiteout of the directory above", UnsafeNameError, "whiteout names", archive(f("a/.wh...")))
attack("child of a whiteout", UnsafeNameError, "whiteout name", archive(f(".wh.a/../.wh.b/f")))
attack("child of an opaque mark", UnsafeNameError, "whiteout name", archive(f("a/.wh..wh..opq/f")))

# --- links ----------------------------------------------------------------------------------------
attack(
    "write through an absolute link",
    UnsafeLinkError,
    "leads to no directory",
    lambda host: archive(link("x", host), f("x/canary", "evil")),
)
attack(
    "write through a link in the next layer",
    UnsafeLinkError,
    "leads to no directory",
    lambda host: archive(link("x", host)),
    archive(f("x/canary", "evil")),
)
attack(
    "write through a climbing link",
    UnsafeLinkError,
    "leads to no directory",
    lambda host: archive(link("x", UP + host.lstrip("/")), f("x/canary", "evil")),
)
attack(
    "write through a chain of links",
    UnsafeLinkError,
    "leads to no directory",
    lambda host: archive(link("z", host), link("y", "z"), link("x", "/y"), f("x/canary", "evil")),
)
attack(
    "directory made through a link",
    UnsafeLinkError,
    "leads to no directory",
    lambda host: archive(link("x", host), d("x/new/")),
)
attack(
    "write through a link to a file",
    UnsafeLinkError,
    "leads to no directory",
    archive(f("passwd"), link("x", "passwd"), f("x/y")),
)
attack(
    "links in a circle",
    UnsafeLinkError,
    "circle",
    archive(link("a", "b"), link("b", "a"), f("a/x")),
)
attack("link to itself", UnsafeLinkError, "circle", archive(link("a", "a"), f("a/x")))
attack(
    "forty-one links",
    UnsafeLinkError,
    "symbolic links",
    archive(*[link(f"l{n}", f"l{n + 1}") for n in range(41)], d("l41/"), f("l0/x")),
)
attack(
    "hard link out by climbing",
    UnsafeLinkError,
    "leaves the root",
    lambda host: archive(hard("h", UP + host.lstrip("/") + "/canary")),
)
attack(
    "hard link to the machine's file",
    UnsafeLinkError,
    "which is nowhere",
    lambda host: archive(hard("h", host + "/canary")),
)
attack(
    "hard link through a link to the machine",
    UnsafeLinkError,
    "which is nowhere",
    lambda host: archive(link("s", host), hard("h", "s/canary")),
)
attack(
    "hard link, then writing through it",
    UnsafeLinkError,
    "which is nowhere",
    lambda host: archive(hard("h", host + "/canary"), f("h", "evil")),
)
attack("hard link to a directory", UnsafeLinkError, "directory", archive(d("d/"), hard("h", "d")))
attack("hard link to the root", UnsafeLinkError, "root directory", archive(hard("h", "./")))
attack(
    "hard link with data",
    CorruptArchiveError,
    "data of its own",
    archive(hard("h", "a", content=b"D")),
)
attack(
    "symbolic link to nothing",
    UnsafeLinkError,
    "target is empty",
    raw_header(b"l", typeflag=b"2") + bytes(1024),
)
attack(
    "pax link target with a NUL byte",
    UnsafeLinkError,
    "NUL",
    archive(Raw(pax_member(record("linkpath", "a\0b"))), link("l", "t")),
)

# --- structure ------------------------------------------------------------------------------------
attack(
    "wrong checksum", CorruptArchiveError, "checksum", raw_header(b"a", checksum=1) + bytes(1024)
)
attack(
    "text as a size",
    CorruptArchiveError,
    "octal",
    raw_header(b"a", size=b"0x000000010\0") + bytes(1024),
)
attack(
    "underscored size",
    CorruptArchiveError,
    "octal",
    raw_header(b"a", size=b"0000_0000_1\0") + bytes(1024),
)
# CVE-2025-8194: tarfile walked backwards for ever.
attack(
    "negative size",
    CorruptArchiveError,
    "negative",
    raw_header(b"a", size=b"\xff" * 12) + bytes(1024),
)
attack(
    "negative owner",
    CorruptArchiveError,
    "negative",
    raw_header(b"a", uid=b"\xff" * 8) + bytes(1024),
)
attack(
    "owner over 32 bits",
    CorruptArchiveError,
    "32 bits",
    archive(Raw(pax_member(record("uid", "4294967295"))), f("a")),
)
attack(
    "negative pax size",
    CorruptArchiveError,
    "not a number",
    archive(Raw(pax_member(record("size", "-512"))), f("a")),
)
attack(
    "pax record without end",
    CorruptArchiveError,
    "wrong length",
    archive(Raw(pax_member(b"99 path=a\n")), f("a")),
)
attack(
    "pax record of length 0",
    CorruptArchiveError,
    "wrong length",
    archive(Raw(pax_member(b"0 path=a\n")), f("a")),
)
attack(
    "pax record without a key",
    CorruptArchiveError,
    "without a key",
    archive(Raw(pax_member(b"6 =ab\n")), f("a")),
)
attack(
    "pax record without a length",
    CorruptArchiveError,
    "without a length",
    archive(Raw(pax_member(b"path=a\n")), f("a")),
)
attack(
    "pax time of letters",
    CorruptArchiveError,
    "not a time",
    archive(Raw(pax_member(record("mtime", "nan"))), f("a")),
)
attack(
    "archive ends in a header",
    CorruptArchiveError,
    "middle of a header",
    archive(f("a"), end=False) + b"b" * 100,
)
attack(
    "archive ends in data",
    CorruptArchiveError,
    "middle of a file",
    raw_header(b"a", size=2000) + bytes(512),
)
attack(
    "archive ends in pax records",
    CorruptArchiveError,
    "extended header",
    raw_header(b"x", typeflag=b"x", size=2000) + b"9",
)
attack(
    "archive ends before the entry",
    CorruptArchiveError,
    "and its entry",
    pax_member(record("path", "a")),
)
attack(
    "entries after a zero block",
    CorruptArchiveError,
    "zero block",
    archive(f("a"), end=False) + bytes(512) + archive(f("b")),
)
attack(
    "unknown type",
    UnsupportedEntryError,
    "type b'Z'",
    raw_header(b"a", typeflag=b"Z") + bytes(1024),
)
attack(
    "multi-volume archive",
    UnsupportedEntryError,
    "type b'M'",
    raw_header(b"a", typeflag=b"M") + bytes(1024),
)
attack(
    "device number of another system",
    CorruptArchiveError,
    "device number",
    archive(char("c", 4096, 0)),
)
attack(
    "xattr without a name",
    CorruptArchiveError,
    "attribute",
    archive(f("a", records={"SCHILY.xattr.": "x"})),
)
attack(
    "xattr of broken base64",
    CorruptArchiveError,
    "base64",
    archive(f("a", records={"LIBARCHIVE.xattr.user.a": "%%%"})),
)


def sparse(pairs: list[tuple[int, int]], real: int, stored: int) -> bytes:
    text = ",".join(f"{offset},{length}" for offset, length in pairs)
    records = record("GNU.sparse.map", text) + record("GNU.sparse.size", str(real))
    return (
        pax_member(records) + raw_header(b"s", size=stored) + bytes(-(-stored // 512) * 512 + 1024)
    )


attack(
    "sparse regions overlap",
    CorruptArchiveError,
    "overlaps",
    sparse([(0, 512), (256, 512)], 2048, 1024),
)
attack(
    "sparse region past the end",
    CorruptArchiveError,
    "overlaps",
    sparse([(1536, 1024)], 2048, 1024),
)
attack(
    "sparse map lies about data", CorruptArchiveError, "describes", sparse([(0, 512)], 2048, 1024)
)
attack(
    "sparse map of 1.0 never ends",
    LayerLimitError,
    "header_bytes",
    pax_member(
        record("GNU.sparse.major", "1")
        + record("GNU.sparse.minor", "0")
        + record("GNU.sparse.realsize", "10"),
    )
    + raw_header(b"s", size=100_000)
    + b"99999999\n" * 12_000
    + bytes(1024),
)
attack(
    "old GNU sparse map never ends",
    LayerLimitError,
    "header_bytes",
    raw_header(b"s", typeflag=b"S", magic=b"ustar  \0", prefix=bytes(137) + b"\1")
    + (bytes(504) + b"\1" + bytes(7)) * 100,
)

# --- bombs ----------------------------------------------------------------------------------------
attack("sparse bomb", LayerLimitError, "content_bytes", sparse([(0, 512)], 1 << 50, 512))
attack(
    "files over the limit together",
    LayerLimitError,
    "content_bytes",
    archive(*[f(f"f{n}", "x" * 400_000) for n in range(3)]),
)
attack(
    "inflates too far",
    LayerLimitError,
    "inflated_bytes",
    lambda _: gzip.compress(bytes(3 << 20), 1),
    limits=replace(SMALL, ratio=1000),
)
attack(
    "inflates too far for its size",
    LayerLimitError,
    "ratio",
    lambda _: gzip.compress(archive(f("zeros", "\0" * (900 << 10)))),
)
attack(
    "zstd bomb",
    LayerLimitError,
    "ratio",
    lambda _: zstd.compress(archive(f("zeros", "\0" * (900 << 10)))),
)
attack("too many entries", LayerLimitError, "entries", archive(*[f(f"f{n}") for n in range(51)]))
attack(
    "too many implied directories",
    LayerLimitError,
    "names imply",
    archive(f("/".join("abcdefghijklmnopqrstuvwxyz" * 2))),
)
attack(
    "too many entries in layers together",
    LayerLimitError,
    "entries",
    archive(*[f(f"a{n}") for n in range(40)]),
    archive(*[f(f"b{n}") for n in range(40)]),
)
attack(
    "huge pax header",
    LayerLimitError,
    "header_bytes",
    raw_header(b"x", typeflag=b"x", size=1 << 30) + bytes(1024),
)
attack(
    "huge long name",
    LayerLimitError,
    "header_bytes",
    raw_header(b"x", typeflag=b"L", size=1 << 30) + bytes(1024),
)
attack(
    "global records pile up",
    LayerLimitError,
    "global records",
    archive(
        *[
            Raw(pax_member(record(f"SCHILY.xattr.user.{n}", "v" * 1000), typeflag=b"g"))
            for n in range(6)
        ],
        f("a"),
    ),
)
attack(
    "global records given to every entry",
    LayerLimitError,
    "more than the whole archive holds",
    archive(
        Raw(pax_member(record("SCHILY.xattr.user.a", "v" * 2000), typeflag=b"g")),
        *[f(f"a{n}") for n in range(100)],
    ),
    limits=replace(SMALL, entries=1000, metadata_bytes=1 << 20),
)
attack(
    "links lead through too many directories",
    LayerLimitError,
    "through too many directories",
    archive(
        d("d"),
        *[link(f"l{n}", "d/../" * 800 + (f"l{n + 1}" if n < 38 else "d")) for n in range(39)],
        *[f(f"l0/p{n}/f") for n in range(9)],
    ),
    limits=replace(SMALL, metadata_bytes=1 << 20, header_bytes=1 << 20),
)
attack(
    "names and attributes pile up",
    LayerLimitError,
    "metadata_bytes",
    archive(*[f(f"f{n}", records=xattr_records({"user.a": b"v" * 3000})) for n in range(9)]),
)
attack(
    "xattr over 64 KiB",
    LayerLimitError,
    "xattr_value_bytes",
    archive(f("a", records=xattr_records({"user.a": b"v" * 65537}))),
    limits=LayerLimits(),
)
attack(
    "paths grow through links",
    LayerLimitError,
    "path_bytes",
    archive(
        d("/".join(["n" * 200] * 20) + "/"),
        link("l", "/".join(["n" * 200] * 20)),
        f("l/" + "m" * 200),
    ),
    limits=LayerLimits(),
)

# --- compression ----------------------------------------------------------------------------------
PLAIN = archive(f("a", "content"))
attack("bzip2", UnsupportedCompressionError, "bzip2", b"BZh91AY&SY" + bytes(100))
attack("xz", UnsupportedCompressionError, "xz", b"\xfd7zXZ\x00" + bytes(100))
attack("gzip cut off", CorruptStreamError, "ends in the middle", gzip.compress(PLAIN)[:-12])
attack(
    "gzip with a wrong checksum",
    CorruptStreamError,
    "broken gzip",
    gzip.compress(PLAIN)[:-8] + bytes(8),
)
attack(
    "gzip with garbage behind",
    CorruptStreamError,
    "broken gzip",
    gzip.compress(PLAIN) + b"garbage",
)
attack(
    "gzip with a flipped bit",
    CorruptStreamError,
    "gzip",
    gzip.compress(PLAIN)[:20] + b"\xff\xff\xff" + gzip.compress(PLAIN)[23:],
)
attack("zstd cut off", CorruptStreamError, "ends in the middle", zstd.compress(PLAIN)[:-3])
attack(
    "zstd with garbage behind",
    CorruptStreamError,
    "broken zstd",
    zstd.compress(PLAIN) + b"garbage",
)
