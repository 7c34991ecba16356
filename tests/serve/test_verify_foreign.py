"""The check of other people's trees: what readers lose, and hostile ones."""

import contextlib
import gzip
import lzma
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.clients.tree import MissingError, is_inside
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.serve import lxc_rules
from lxdocker_lxd.serve import verify as verifying
from lxdocker_lxd.serve.file_check import FileCheck
from lxdocker_lxd.serve.stream_rules import IndexEntry, StreamListing, read_index, read_products
from lxdocker_lxd.serve.tree_directory import DirectoryTree
from lxdocker_lxd.serve.xz_integrity import XzIntegrity
from tests.serve.checked import (
    INDEX,
    check,
    problems,
)
from tests.serve.foreign_tree import Foreign, sha256


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path / "foreign")


def test_a_foreign_tree_is_clean(foreign: Foreign) -> None:
    report = check(foreign.directory)
    assert problems(report) == []
    assert problems(report, "remark") == [f"{INDEX}: clouds: no client of images reads it"]
    assert report.files == len(foreign.contents)


def test_every_changed_byte_of_a_foreign_file_is_found(foreign: Foreign) -> None:
    for path, content in foreign.contents.items():
        (foreign.directory / path).write_bytes(content[:-1] + b"!")
        found = problems(check(foreign.directory))
        assert any(one.startswith(f"{path}: expected sha256") for one in found)
        (foreign.directory / path).write_bytes(content)
    assert problems(check(foreign.directory)) == []


LOSSES: dict[str, tuple[Callable[[Foreign], object], str]] = {
    "unknown architecture": (lambda f: f.product.update(arch="vax"), "architecture 'vax'"),
    "no date": (
        lambda f: f.product["versions"].update({"v2": f.product["versions"].pop("20260101")}),
        "doesn't begin with a date",
    ),
    "no such day": (
        lambda f: f.product["versions"].update({"20261399": f.product["versions"].pop("20260101")}),
        "doesn't begin with a date",
    ),
    "no combined sum": (
        lambda f: f.items().pop("lxd.tar.xz") and f.items().update(
            {"lxd.tar.xz": f._item("a/20260102_0302/lxd.tar.xz", "lxd.tar.xz")}),
        "has no combined_squashfs_sha256",
    ),
    "no root filesystem": (
        lambda f: [f.items().pop(name) for name in ("root.squashfs", "disk.qcow2")],
        "without a root filesystem",
    ),
    "wrong combined sum": (
        lambda f: f.items()["lxd.tar.xz"].update(combined_squashfs_sha256="0" * 64),
        "expected fingerprint 0000",
    ),
    "wrong combined sum of a disk": (
        lambda f: f.items()["lxd.tar.xz"].update({"combined_disk-kvm-img_sha256": "1" * 64}),
        "expected fingerprint 1111",
    ),
    "wrong size": (lambda f: f.items()["delta"].update(size=4), "there are more"),
    "too large a size": (lambda f: f.items()["delta"].update(size=400), "expected 400 bytes"),
    "size as text": (lambda f: f.items()["delta"].update(size="5"), "no size in bytes"),
    "wrong sha256": (lambda f: f.items()["delta"].update(sha256="2" * 64), "expected sha256 2222"),
    "no sha256": (lambda f: f.items()["delta"].pop("sha256"), "no sha256"),
    "a number as alias": (lambda f: f.product.update(aliases=3), "aliases is no text"),
    "a number as requirement": (
        lambda f: f.product.update(requirements={"secureboot": False}),
        "requirements secureboot is no text",
    ),
    "a number as label": (
        lambda f: f.product["versions"]["20260101"].update(label=1), "20260101 label is no text"),
    "a number as delta's base": (
        lambda f: f.items()["delta"].update(delta_base=20260101), "delta_base is no text"),
    "versions as list": (lambda f: f.product.update(versions=[]), "versions is no object"),
    "a product that is none": (lambda f: f.a["products"].update(x="y"), "it is no object"),
    "a number in the index": (
        lambda f: f.index["index"]["images:a"].update(products=[1]), "a product that is no text"),
    "an alias that ends like an architecture": (
        lambda f: f.b["products"]["old:1:i386:default"].update(arch="amd64", aliases="alpine/amd64"),
        "the alias alpine/amd64 (x86_64) is that of",
    ),
    "an alias with a space": (
        lambda f: f.product.update(aliases="alpine, a"), "empty or not trimmed"),
    "one alias twice": (
        lambda f: f.b["products"]["old:1:i386:default"].update(arch="amd64", aliases="alpine"),
        "the alias alpine (x86_64) is that of",
    ),
    "one fingerprint twice": (
        lambda f: f.product["versions"].update(
            {"20260103": f.product["versions"]["20260101"]}), "one fingerprint"),
    "products that LXD doesn't read": (
        lambda f: f.index["index"]["images:a"].update(products=[]), "LXD never reads it"),
    "no list of products": (
        lambda f: f.index["index"]["images:a"].pop("products"), "LXD skips streams/v1/a.json"),
    "a missing document": (
        lambda f: f.index["index"]["images:a"].update(path="streams/v1/c.json"), "it is missing"),
    "two documents of one name": (
        lambda f: f.index["index"]["images:b"].update(path="other/a.json"), "takes other/a.json"),
    "a path to elsewhere": (
        lambda f: f.items()["delta"].update(path="../../etc/passwd"), "leads out of the tree"),
    "an absolute path": (
        lambda f: f.items()["delta"].update(path="/etc/passwd"), "leads out of the tree"),
    "another server": (
        lambda f: f.items()["delta"].update(path="https://evil/x"), "leads out of the tree"),
    "a document elsewhere": (
        lambda f: f.index["index"]["images:b"].update(path="../x.json"), "leads out of the tree"),
    "no products": (lambda f: f.a.pop("products"), "no object products"),
    "no index": (lambda f: f.index.pop("index"), "no object index"),
    "a missing file": (lambda f: f.contents.pop("b/20260101/SHA256SUMS"), "there is no such file"),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_reader_loses_is_found(foreign: Foreign, loss: str) -> None:
    change, word = LOSSES[loss]
    change(foreign)
    shutil.rmtree(foreign.directory)
    foreign.write()
    assert any(word in one for one in problems(check(foreign.directory))), loss


REMARKS: dict[str, tuple[Callable[[Foreign], object], str]] = {
    "a delta from nowhere": (
        lambda f: f.items()["delta"].update(delta_base="20250101"), "a delta from '20250101'"),
    "unified beside split": (
        lambda f: f.items().update(
            u=f._item("b/20260101/lxd_combined.tar.gz", "lxd_combined.tar.gz")), "by chance"),
    "a product not in the index": (
        lambda f: f.index["index"]["images:a"].update(products=["x"]), "not in the index"),
}  # fmt: skip


@pytest.mark.parametrize("loss", REMARKS)
def test_what_is_odd_is_a_remark(foreign: Foreign, loss: str) -> None:
    change, word = REMARKS[loss]
    change(foreign)
    if loss == "unified beside split":
        foreign.b["products"] = {}
        foreign.index["index"]["images:b"]["products"] = []
    foreign.write()
    report = check(foreign.directory)
    assert problems(report) == []
    assert any(word in one for one in problems(report, "remark")), loss


LINE = "web;current;amd64;default;20260101_000000;lxc/web/amd64/20260101_000000/"
LINES = {
    f"{LINE}\n{LINE}\n": "line 2: web;current;amd64;default is listed twice",
    f"{LINE};more\n": "line 1: expected six fields",
    "web;;amd64;default;1;a/\n": "line 1: expected six fields",
    "\nweb;current;amd64;default;1;../x/\n": "line 2: the path leads out of the tree",
    "web;current;amd64;default;1;https://evil/x/\n": "line 1: the path leads out of the tree",
}


@pytest.mark.parametrize("index", LINES)
def test_lines_that_lxc_mistakes_are_found(index: str) -> None:
    (found,) = lxc_rules.read_index(index.encode(), path="meta/1.0/index-user").findings
    assert (found.severity, found.path) == ("wrong", "meta/1.0/index-user")
    assert LINES[index] in found.problem
    assert lxc_rules.read_index(f"{LINE}\n".encode(), path="x").findings == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["lxd.tar.xz", "squashfs", "amd64", "20260101", "image-downloads", "a/b"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["index", "products", "versions", "items", "ftype", "path", "sha256", "size", "arch",
             "aliases", "datatype", "20260101", "x", "combined_squashfs_sha256", "delta_base"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON, JSON)
def test_no_document_breaks_the_rules_reader(index: object, products: object) -> None:
    entries, _ = read_index(index, path=INDEX)
    listing = StreamListing()
    for entry in (*entries, IndexEntry(path="a.json", products=frozenset({"x"}))):
        read_products(products, entry, listing)
    assert all(is_inside(file.path) for file in listing.files)
    list(listing.conflicts(INDEX))


# ---- hostile trees


def test_a_link_out_of_the_tree_is_not_followed(foreign: Foreign, tmp_path: Path) -> None:
    path = "a/20260102_0302/delta.20260101.vcdiff"
    secret = tmp_path / "secret"
    secret.write_bytes(foreign.contents[path])
    (foreign.directory / path).unlink()
    (foreign.directory / path).symlink_to(secret)
    # The path is said once.
    assert f"{path}: it leads out of the tree" in problems(check(foreign.directory))
    # One that stays inside is how others lay out trees.
    (foreign.directory / path).unlink()
    (foreign.directory / "kept").write_bytes(foreign.contents[path])
    (foreign.directory / path).symlink_to("../../kept")
    assert problems(check(foreign.directory)) == []


def test_a_pipe_is_no_file(foreign: Foreign) -> None:
    path = foreign.directory / "a/20260101/lxd.tar.xz"
    path.unlink()
    os.mkfifo(path)
    assert any("it is no file" in one for one in problems(check(foreign.directory)))


@pytest.mark.parametrize(
    "path", ["%2e%2e/%2e%2e/etc/passwd", "a/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "a\\b", "a?b", "a#b",
             "a//b", "./a", "", "a/", "a\nb"]
)  # fmt: skip
def test_paths_that_mean_something_else_elsewhere(foreign: Foreign, path: str) -> None:
    foreign.items()["delta"]["path"] = path
    foreign.write()
    assert any("leads out of the tree" in one for one in problems(check(foreign.directory)))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b"1" * 10_000, b'{"index": 3}']
)
def test_documents_that_are_none(foreign: Foreign, content: bytes) -> None:
    for name in ("index.json", "a.json"):
        (foreign.directory / "streams/v1" / name).write_bytes(content)
        assert problems(check(foreign.directory))


def test_a_document_without_end(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MOST_DOCUMENT_BYTES", 10_000)
    with (foreign.directory / "streams/v1/a.json").open("ab") as file:
        file.truncate(1 << 40)
    assert any("longer than" in one for one in problems(check(foreign.directory)))
    foreign.write()
    with gzip.open(foreign.directory / f"{INDEX}.gz", "wb") as bomb:
        for _ in range(100):
            bomb.write(bytes(1 << 20))
    assert any("longer than" in one for one in problems(check(foreign.directory)))


def test_no_tree_at_all(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="neither"):
        check(tmp_path)
    with pytest.raises(NotFoundError, match="no such directory"):
        check(tmp_path / "none")


def test_a_rootfs_that_is_metadata_too_is_still_added_up(foreign: Foreign) -> None:
    """What is read first for others' sums must not escape its own."""
    meta = foreign.contents["a/20260101/lxd.tar.xz"]
    item = foreign._item("a/20260101/lxd.tar.xz", "squashfs")
    foreign.items("20260101")["root.squashfs"] = item
    foreign.items("20260101")["lxd.tar.xz"]["combined_squashfs_sha256"] = sha256(meta + meta)
    foreign.write()
    assert problems(check(foreign.directory)) == []
    foreign.items("20260101")["lxd.tar.xz"]["combined_squashfs_sha256"] = "3" * 64
    foreign.write()
    assert any("expected fingerprint 3333" in one for one in problems(check(foreign.directory)))


# ---- xz


@given(st.binary(max_size=2000), st.integers(0, 1999), st.integers(1, 500))
def test_xz_files_are_whole_or_not(content: bytes, place: int, step: int) -> None:
    whole = lzma.compress(content) + lzma.compress(b"more")

    def problem(data: bytes) -> str:
        integrity = XzIntegrity()
        for start in range(0, len(data), step):
            integrity.take(data[start : start + step])
        return integrity.problem

    assert problem(whole) == ""
    assert problem(whole + b"\0\0\0\0") == ""
    broken = bytearray(whole)
    broken[place % len(whole)] ^= 1
    assert problem(bytes(broken))
    assert problem(whole[: -1 - place % 20])
    assert problem(b"")


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A file is never held as a whole: checked by the greatest block that is asked for."""
    asked: list[int] = []

    class Endless:
        def read(self, size_bytes: int, /) -> bytes:
            asked.append(size_bytes)
            return bytes(size_bytes)

    class Hostile(DirectoryTree):
        @contextlib.contextmanager
        def open(self, *_: object, **__: object) -> Iterator[Endless]:
            yield Endless()

    files = FileCheck(Hostile(tmp_path), Silent())
    files.promise("x").size_bytes.add(50_000_000)
    (finding,) = files.findings(1)
    assert "there are more" in finding.problem
    assert max(asked) <= 1 << 18
    assert sum(asked) == 50_000_001
