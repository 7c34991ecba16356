"""Every tar dialect a layer may be written in: one content, many spellings."""

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from lxdocker_lxd.convert.layer import tar_member
from lxdocker_lxd.convert.layer.errors import CorruptArchiveError
from lxdocker_lxd.convert.layer.headers import Header, Kind
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.tar_header import parse_number
from lxdocker_lxd.convert.layer.tree import Tree
from tests.harness.snapshots import differences, read_directory
from tests.layers.tar_builder import (
    Part,
    Raw,
    archive,
    d,
    f,
    hard,
    link,
    padded,
    pax_member,
    raw_header,
    record,
    scanned,
    xattr_records,
)
from tests.layers.trees import sha256, snapshot


def headers(directory: Path, content: bytes) -> tuple[Header, ...]:
    path = directory / "layer"
    path.write_bytes(content)
    return scanned(path).headers


def tree_of(directory: Path, content: bytes) -> tuple[Tree, list[Path]]:
    path = directory / "layer"
    path.write_bytes(content)
    return merge([scanned(path)], LayerLimits()), [path]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pythons_formats(form: Literal[0, 1, 2], tmp_path: Path) -> None:
    long = "d" * 90 + "/" + "f" * 90
    parts = (
        d("d" * 90 + "/"),
        f(long, "content", uid=0o777777, mtime=0o17777777777),
        link("l", long[:99]),
    )
    found = headers(tmp_path, archive(*parts, tar_format=form))
    assert [header.path for header in found] == [b"d" * 90, long.encode(), b"l"]
    assert found[1].size_bytes == 7
    assert found[1].uid == 0o777777
    assert found[1].mtime_ns == 0o17777777777 * 10**9
    assert found[2].target == long[:99].encode()


def test_gnu_long_names_links_and_base_256(tmp_path: Path) -> None:
    name, target = "n/" * 80 + "f", "t" * 300
    parts = f(name, "x", uid=2**31, gid=2**32 - 2, mtime=-5), hard("h", name), link("l", target)
    found = headers(tmp_path, archive(*parts, tar_format=tarfile.GNU_FORMAT))
    assert found[0].path == name.encode()
    assert (found[0].uid, found[0].gid, found[0].mtime_ns) == (2**31, 2**32 - 2, -5 * 10**9)
    assert found[1].target == name.encode()
    assert found[2].target == target.encode()


def test_v7_directories_end_in_a_slash(tmp_path: Path) -> None:
    v7 = raw_header(b"old/", typeflag=b"\0", magic=bytes(8)) + raw_header(
        b"old/f", typeflag=b"\0", magic=bytes(8), size=1
    )
    found = headers(tmp_path, v7 + padded(b"x") + bytes(1024))
    assert [(header.path, header.kind) for header in found] == [
        (b"old", Kind.DIRECTORY),
        (b"old/f", Kind.FILE),
    ]


def test_v7_has_no_prefix_and_no_device_numbers(tmp_path: Path) -> None:
    block = raw_header(b"f", typeflag=b"\0", magic=bytes(8), device=b"garbage!", prefix=b"prefix")
    assert headers(tmp_path, block + bytes(1024))[0].path == b"f"


def test_ustar_and_star_prefixes(tmp_path: Path) -> None:
    ustar = raw_header(b"f", prefix=b"p" * 155)
    star = raw_header(b"f", prefix=b"s" * 131 + b"00000000000 00000000000 " + bytes(8) + b"tar\0")
    found = headers(tmp_path, ustar + star + bytes(1024))
    assert [header.path for header in found] == [b"p" * 155 + b"/f", b"s" * 131 + b"/f"]


def test_gnu_times_are_no_prefix_but_old_go_prefixes_are(tmp_path: Path) -> None:
    magic = b"ustar  \0"
    times = raw_header(b"f", magic=magic, prefix=b"00000000001\x0000000000002\0")
    old_go = raw_header(b"f", magic=magic, prefix=b"usr/share")
    found = headers(tmp_path, times + old_go + bytes(1024))
    assert [header.path for header in found] == [b"f", b"usr/share/f"]


def test_signed_checksums_of_old_writers(tmp_path: Path) -> None:
    block = raw_header("é".encode(), signed_sum=True)
    assert headers(tmp_path, block + bytes(1024))[0].path == "é".encode()


def test_pax_wins_over_long_name_over_header(tmp_path: Path) -> None:
    long_name = raw_header(b"././@LongLink", typeflag=b"L", size=5) + padded(b"long\0")
    pax_path = pax_member(b"12 path=pax\n")
    cases: list[tuple[bytes, bytes]] = [
        (long_name + raw_header(b"plain"), b"long"),
        (long_name + pax_path + raw_header(b"plain"), b"pax"),
        (pax_path + long_name + raw_header(b"plain"), b"pax"),
        (pax_member(b"8 path=\n") + raw_header(b"plain"), b"plain"),
    ]
    for content, expected in cases:
        assert headers(tmp_path, content + bytes(1024))[0].path == expected


def test_global_records_hold_until_changed(tmp_path: Path) -> None:
    parts: tuple[Part, ...] = (
        Raw(pax_member(b"10 uid=77\n12 mtime=50\n", typeflag=b"g")),
        f("a"),
        f("b", records={"uid": "5"}),
        Raw(pax_member(b"7 uid=\n", typeflag=b"g")),
        f("c"),
    )
    found = headers(tmp_path, archive(*parts))
    assert [header.uid for header in found] == [77, 5, 0]
    assert {header.mtime_ns for header in found} == {50 * 10**9}


def test_pax_size_rules_over_the_header(tmp_path: Path) -> None:
    content = pax_member(b"10 size=3\n") + raw_header(b"a", size=0) + padded(b"abc")
    tree, paths = tree_of(tmp_path, content + archive(f("b")))
    assert snapshot(tree, paths)[b"a"].sha256 == sha256(b"abc")
    assert snapshot(tree, paths)[b"b"].sha256 == sha256(b"x")


def test_directories_and_links_have_no_data_whatever_their_size(tmp_path: Path) -> None:
    blocks = raw_header(b"d/", typeflag=b"5", size=4096) + raw_header(
        b"l", typeflag=b"2", target=b"d", size=1
    )
    found = headers(tmp_path, blocks + archive(f("f")))
    assert [header.path for header in found] == [b"d", b"l", b"f"]


def test_xattrs_of_both_spellings(tmp_path: Path) -> None:
    records = {
        "LIBARCHIVE.xattr.user.encoded%20name": "AP8",
        "LIBARCHIVE.xattr.user.both": "bGliYXJjaGl2ZQ",
        **xattr_records({"user.both": b"plain", "user.raw": b"\0=\n\xff"}),
    }
    assert headers(tmp_path, archive(f("f", records=records)))[0].xattrs == (
        (b"user.both", b"plain"),
        (b"user.encoded name", b"\0\xff"),
        (b"user.raw", b"\0=\n\xff"),
    )


def test_an_xattr_name_with_an_equals_sign_is_refused(tmp_path: Path) -> None:
    """It came out as the attribute ``user.a`` with the value ``b=x``."""
    layer = archive(f("f", records={"LIBARCHIVE.xattr.user.a%3Db": "eA"}))
    with pytest.raises(CorruptArchiveError, match=r"'user\.a=b' has '=' in its name"):
        headers(tmp_path, layer)


def test_last_file_may_lack_its_padding(tmp_path: Path) -> None:
    tree, paths = tree_of(tmp_path, raw_header(b"a", size=3) + b"abc")
    assert snapshot(tree, paths)[b"a"].sha256 == sha256(b"abc")


def test_blocks_need_no_alignment(tmp_path: Path) -> None:
    """Headers and data fall across the pieces a decoder gives out."""
    from lxdocker_lxd.convert.layer.archive import walk  # noqa: PLC0415 - used here only
    from lxdocker_lxd.convert.layer.byte_cursor import ByteCursor  # noqa: PLC0415 - used here only

    content = archive(d("d/"), f("d/f", "x" * 3000), f("n" * 150), link("l", "d"))
    whole = tuple(walk(ByteCursor(iter([content])), layer="L", limits=LayerLimits()))
    for size in (1, 7, 511, 513, 5000):
        pieces = (content[at : at + size] for at in range(0, len(content), size))
        assert tuple(walk(ByteCursor(pieces), layer="L", limits=LayerLimits())) == whole


def test_aufs_bookkeeping_is_left_out_with_all_below(tmp_path: Path) -> None:
    content = archive(d(".wh..wh.plnk/"), f(".wh..wh.plnk/82.1"), f("d/.wh..wh.orph/x"), f("a"))
    assert [header.path for header in headers(tmp_path, content)] == [b"a"]


def test_sparse_records_without_a_map_describe_a_plain_file(tmp_path: Path) -> None:
    name_only = (
        pax_member(record("GNU.sparse.name", "name")) + raw_header(b"f", size=1) + padded(b"x")
    )
    tree, paths = tree_of(tmp_path, name_only + bytes(1024))
    assert snapshot(tree, paths)[b"name"].sha256 == sha256(b"x")


def test_file_of_nothing_but_holes(tmp_path: Path) -> None:
    records = record("GNU.sparse.map", "") + record("GNU.sparse.size", "999")
    tree, paths = tree_of(tmp_path, pax_member(records) + raw_header(b"f") + bytes(1024))
    assert snapshot(tree, paths)[b"f"].sha256 == sha256(bytes(999))


def test_long_sparse_map_of_version_1(tmp_path: Path) -> None:
    regions = [(at * 1000, 1) for at in range(300)]
    text = "".join(f"{number}\n" for pair in [(300,), *regions] for number in pair).encode()
    records = record("GNU.sparse.major", "1") + record("GNU.sparse.realsize", "300000")
    stored = padded(text) + b"y" * 300
    content = pax_member(records) + raw_header(b"f", size=len(stored)) + padded(stored)
    tree, paths = tree_of(tmp_path, content + archive(f("after")))
    whole = bytearray(300_000)
    for offset, _ in regions:
        whole[offset] = ord("y")
    assert snapshot(tree, paths)[b"f"].sha256 == sha256(bytes(whole))
    assert snapshot(tree, paths)[b"after"].sha256 == sha256(b"x")


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (record("GNU.sparse.map", "0"), "middle of a pair"),
        (record("GNU.sparse.numblocks", "1") + record("GNU.sparse.numbytes", "1"), "mixes"),
        (record("GNU.sparse.major", "1"), "middle of a sparse map"),
    ],
)
def test_broken_sparse_maps_are_named(tmp_path: Path, records: bytes, says: str) -> None:
    broken = pax_member(records + record("GNU.sparse.size", "999")) + raw_header(b"f", size=1)
    with pytest.raises(CorruptArchiveError, match=says):
        headers(tmp_path, broken)


def test_sizes_over_eight_gibibytes_go_into_a_pax_record() -> None:
    size = 9 << 30
    blocks = tar_member.render(
        b"big", tar_member.FILE, mode=0o644, uid=0, gid=0, mtime_seconds=0, size_bytes=size
    )
    with tarfile.open(fileobj=io.BytesIO(blocks)) as reader:
        first = reader.next()
        assert first is not None
        assert first.size == size


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"0000017\0", 0o17),
        (b"     17 ", 0o17),
        (b"17\0\0\0\0\0\0", 0o17),
        (b"17 \0\0\0\0\0", 0o17),
        (bytes(8), 0),
        (b"        ", 0),
        (b"\x80" + bytes(6) + b"\x2a", 42),
        (b"77777777", 0o77777777),
    ],
)
def test_numbers(field: bytes, number: int) -> None:
    assert parse_number(field, "number") == number


@pytest.mark.parametrize("field", [b"0o17\0\0\0\0", b"+17", b"1_7", b"-1", b"18", b"abc"])
def test_no_numbers(field: bytes) -> None:
    with pytest.raises(CorruptArchiveError):
        parse_number(field, "number")


def holes(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)


GNU_TAR_FORMS = [
    ("--format=v7",),
    ("--format=oldgnu",),
    ("--format=gnu",),
    ("--format=ustar",),
    ("--format=posix",),
    ("--format=gnu", "--sparse"),
    ("--format=posix", "--sparse", "--sparse-version=0.0"),
    ("--format=posix", "--sparse", "--sparse-version=0.1"),
    ("--format=posix", "--sparse", "--sparse-version=1.0"),
    ("--format=posix", "--xattrs", "--pax-option=globexthdr.name=g,comment=hello"),
]


@pytest.mark.tools
@pytest.mark.root
@pytest.mark.parametrize("options", GNU_TAR_FORMS, ids=" ".join)
def test_what_gnu_tar_writes(options: tuple[str, ...], tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_bytes(b"content")
    (source / "l").symlink_to("d/f")
    os.link(source / "d" / "f", source / "z-hard")
    holes(source / "sparse", 3_000_000, {0: b"a", 700_000: b"b" * 5000, 2_999_000: b"c"})
    # More regions than the first header holds, so that map blocks follow.
    holes(source / "holey", 4_000_000, {at * 100_000: b"d" * 10 for at in range(40)})
    holes(source / "nothing", 1_000_000, {})
    os.chown(source / "d" / "f", 1234, 4321)
    for path in source.rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    os.utime(source, (1e9, 1e9))
    if "--xattrs" in options:
        os.setxattr(source / "d", "user.a", b"\0v")
    packed = subprocess.run(
        ["tar", "--create", "--sort=name", *options, "--directory", source, "."],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    tree, paths = tree_of(tmp_path, packed)
    assert differences(snapshot(tree, paths), read_directory(source), directory_times=True) == []
    sparse = sum(header.sparse is not None for header in scanned(paths[0]).headers)
    assert sparse == (3 if "--sparse" in options else 0)
