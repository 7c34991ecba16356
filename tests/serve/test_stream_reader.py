"""The oracle itself: it reads what LXD reads, and catches each thing LXD drops without a word."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.stream_reader import Reader, StreamError, check_files, read

META, ROOT, COMBINED = "a" * 64, "b" * 64, "c" * 64
Documents = dict[str, Any]


def item(ftype: str, **further: Any) -> Documents:
    path = "images/root" if ftype == "squashfs" else "images/meta"
    sha256 = ROOT if ftype == "squashfs" else META
    return {"ftype": ftype, "path": path, "sha256": sha256, "size": 7} | further


def tree() -> Documents:
    """A tree of one image that every reader takes."""
    metadata = {"combined_squashfs_sha256": COMBINED}
    product = {
        "aliases": "web,web/current",
        "arch": "amd64",
        "os": "web",
        "release": "current",
        "release_title": "current",
        "variant": "default",
        "requirements": {"lxdocker.image": "web"},
        "lxd_requirements": {"lxdocker.image": "web"},
        "versions": {
            "20260301_120000": {
                "label": "release",
                "items": {
                    "lxd.tar.xz": item("lxd.tar.xz", **metadata),
                    "incus.tar.xz": item("incus.tar.xz", **metadata),
                    "squashfs": item("squashfs"),
                },
            }
        },
    }
    index = {
        "datatype": "image-downloads",
        "path": "streams/v1/images.json",
        "products": ["web:amd64"],
    }
    return {
        "streams/v1/index.json": {"index": {"images": index}},
        "streams/v1/images.json": {"products": {"web:amd64": product}},
    }


def product_of(documents: Documents, key: str = "web:amd64") -> Documents:
    found: Documents = documents["streams/v1/images.json"]["products"][key]
    return found


def items_of(documents: Documents) -> Documents:
    (version,) = product_of(documents)["versions"].values()
    found: Documents = version["items"]
    return found


def index_of(documents: Documents) -> Documents:
    found: Documents = documents["streams/v1/index.json"]["index"]["images"]
    return found


def fetcher(documents: Documents) -> Callable[[str], bytes]:
    return lambda path: json.dumps(documents[path]).encode()


def second(documents: Documents, **changes: Any) -> Documents:
    """A second product of other bytes, for the changes to spoil."""
    product = copy.deepcopy(product_of(documents)) | {"os": "zoo", "aliases": "zoo"} | changes
    for version in product["versions"].values():
        for name in ("lxd.tar.xz", "incus.tar.xz"):
            version["items"][name]["combined_squashfs_sha256"] = "d" * 64
    documents["streams/v1/images.json"]["products"]["zoo:amd64"] = product
    index_of(documents)["products"].append("zoo:amd64")
    return product


@pytest.mark.parametrize("reader", list(Reader))
def test_a_sound_tree_is_read(reader: Reader) -> None:
    stream = read(fetcher(tree()), reader)
    (image,) = stream.images
    assert image.fingerprint == COMBINED
    assert (image.architecture, image.type) == ("x86_64", "container")
    assert image.aliases == ("web", "web/amd64", "web/current", "web/current/amd64")
    assert image.size_bytes == 14
    assert image.properties["requirements.lxdocker.image"] == "web"
    assert image.properties["serial"] == "20260301_120000"
    assert stream.resolve("web") == stream.resolve("web/amd64") == COMBINED
    assert stream.resolve("webb") is None
    assert stream.image("ccc") is image


def test_the_native_architecture_has_the_short_name() -> None:
    documents = tree()
    second(documents, arch="arm64", os="web", aliases="web")
    stream = read(fetcher(documents), native="aarch64")
    assert stream.resolve("web") == "d" * 64
    assert stream.resolve("web/amd64") == COMBINED
    assert read(fetcher(documents)).resolve("web") == COMBINED
    assert stream.image("c").aliases == ("web/amd64", "web/current/amd64")
    # Neither of its own: the one its machine can run, else the first.
    del product_of(documents)["aliases"]
    assert read(fetcher(documents)).resolve("web") == "d" * 64


def change(path: str, value: object) -> Callable[[Documents], None]:
    """Set (or with None drop) one key; ``path`` is dotted and begins at an item or a product."""
    *way, last = path.split(".")

    def spoil(documents: Documents) -> None:
        place = {"items": items_of, "product": product_of, "index": index_of}[way[0]](documents)
        for word in way[1:]:
            place = place[word.replace("_tar", ".tar").replace("_xz", ".xz")]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return spoil


def rename_version(name: str) -> Callable[[Documents], None]:
    def spoil(documents: Documents) -> None:
        product = product_of(documents)
        product["versions"] = {name: next(iter(product["versions"].values()))}

    return spoil


def both(key: str, value: object) -> Callable[[Documents], None]:
    """Set or drop a key of both metadata items."""

    def spoil(documents: Documents) -> None:
        for name in ("lxd_tar_xz", "incus_tar_xz"):
            change(f"items.{name}.{key}", value)(documents)

    return spoil


def combined(name: str, value: object = COMBINED) -> Callable[[Documents], None]:
    """Give the metadata this combined hash instead of the right one."""

    def spoil(documents: Documents) -> None:
        both("combined_squashfs_sha256", None)(documents)
        if value is not None:
            both(name, value)(documents)

    return spoil


def two_roots(documents: Documents) -> None:
    items_of(documents)["root"] = item("root.tar.xz")


def unified(documents: Documents) -> None:
    items_of(documents)["all"] = item("lxd_combined.tar.gz")


def odd_item(documents: Documents) -> None:
    items_of(documents)["odd"] = item("root.tar.zst")


def deltas(count: int, base: str = "20260301_120000") -> Callable[[Documents], None]:
    def spoil(documents: Documents) -> None:
        for number in range(count):
            items_of(documents)[f"d{number}"] = item("squashfs.vcdiff", delta_base=base)

    return spoil


def duplicate(documents: Documents) -> None:
    product = second(documents)
    (version,) = product["versions"].values()
    for name in ("lxd.tar.xz", "incus.tar.xz"):
        version["items"][name]["combined_squashfs_sha256"] = COMBINED


def stolen_alias(documents: Documents) -> None:
    second(documents, aliases="web")


def alias_like_another_with_its_architecture(documents: Documents) -> None:
    second(documents, aliases="web/amd64")


def second_index_of_one_name(documents: Documents) -> None:
    entry = copy.deepcopy(index_of(documents)) | {"path": "streams/v2/images.json"}
    documents["streams/v1/index.json"]["index"]["more"] = entry
    documents["streams/v2/images.json"] = {"products": {}}


def number_as_label(documents: Documents) -> None:
    (version,) = product_of(documents)["versions"].values()
    version["label"] = 1


BROKEN: dict[str, tuple[Callable[[Documents], None], str]] = {
    "datatype": (change("index.datatype", "downloads"), "skipped, its datatype"),
    "no list of products": (change("index.products", []), "never read"),
    "a number as product": (change("index.products", [1]), "whole index is lost"),
    "number as label": (number_as_label, "whole document is lost"),
    "other products listed": (change("index.products", ["other"]), "lists other products"),
    "missing products file": (change("index.path", "streams/v1/gone.json"), "no JSON document"),
    "two files of a name": (second_index_of_one_name, "second file of this name"),
    "architecture": (change("product.arch", "amd65"), "the architecture 'amd65' is unknown"),
    "no versions": (change("product.versions", {}), "invisible, it has no versions"),
    "alias with a blank": (change("product.aliases", "web, www"), "alias ' www'"),
    "empty alias": (change("product.aliases", "web,,www"), "alias ''"),
    "aliases as a list": (change("product.aliases", ["web"]), "whole document is lost"),
    "number as requirement": (change("product.requirements", {"a": 1}), "whole document is lost"),
    "size as text": (change("items.squashfs.size", "7"), "whole document is lost"),
    "size with a fraction": (change("items.squashfs.size", 7.5), "whole document is lost"),
    "one kind of requirements": (change("product.requirements", {}), "one is lost"),
    "acted on": (change("product.requirements.secureboot", "false"), "LXD acts on"),
    "short version": (rename_version("2026"), "doesn't begin with YYYYMMDD"),
    "dashes in version": (rename_version("2026-03-01"), "doesn't begin with YYYYMMDD"),
    "version with a letter": (rename_version("v20260301"), "doesn't begin with YYYYMMDD"),
    "no such day": (rename_version("20260230_1200"), "begins with no date"),
    "no metadata for LXD": (change("items.lxd_tar_xz.ftype", "incus.tar.xz"), "expected one"),
    "other metadata for Incus": (change("items.incus_tar_xz.path", "images/x"), "differ"),
    "no root": (change("items.squashfs", None), "0 root filesystems"),
    "two roots": (two_roots, "2 root filesystems"),
    "unified beside split": (unified, "chosen by chance"),
    "unknown ftype": (odd_item, "ignored, its ftype 'root.tar.zst'"),
    "no combined hash": (combined("", None), "has no combined_squashfs_sha256"),
    "combined of another root": (
        combined("combined_rootxz_sha256"),
        "has no combined_squashfs_sha256",
    ),
    "one combined hash too many": (both("combined_sha256", COMBINED), "isn't there"),
    "combined in capitals": (
        combined("combined_squashfs_sha256", "C" * 64),
        "isn't 64 hexadecimal digits",
    ),
    "no path": (both("path", ""), "doesn't lead below"),
    "absolute path": (both("path", "/images/meta"), "doesn't lead below"),
    "path upwards": (change("items.squashfs.path", "../root"), "doesn't lead below"),
    "URL as path": (change("items.squashfs.path", "https://h/root"), "doesn't lead below"),
    "no sha256": (change("items.squashfs.sha256", None), "no sha256"),
    "no size": (change("items.squashfs.size", 0), "no size"),
    "two deltas": (deltas(2), "several deltas"),
    "delta of nothing": (deltas(1, base="20250101"), "no reader can use"),
    "duplicate fingerprint": (duplicate, "listed 2 times"),
    "stolen alias": (stolen_alias, "its alias web goes to web:amd64"),
    "alias with an architecture": (
        alias_like_another_with_its_architecture,
        "its alias web/amd64 goes to web:amd64",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_silent_loss_is_named(name: str) -> None:
    spoil, words = BROKEN[name]
    documents = tree()
    spoil(documents)
    for reader in Reader:
        with pytest.raises(StreamError) as raised:
            read(fetcher(documents), reader)
        assert any(words in problem for problem in raised.value.problems), raised.value


def test_every_loss_is_named_at_once() -> None:
    documents = tree()
    second(documents, arch="vax")
    change("product.aliases", " web")(documents)
    with pytest.raises(StreamError) as raised:
        read(fetcher(documents))
    assert len(raised.value.problems) == 2


def test_no_json_at_all() -> None:
    with pytest.raises(StreamError, match="no JSON document"):
        read(lambda _: b"<html>")
    with pytest.raises(StreamError, match="no object"):
        read(lambda _: b"[]")


def test_an_older_version_of_a_product_has_no_alias() -> None:
    documents = tree()
    product = product_of(documents)
    newer = copy.deepcopy(product["versions"]["20260301_120000"])
    for name in ("lxd.tar.xz", "incus.tar.xz"):
        newer["items"][name]["combined_squashfs_sha256"] = "d" * 64
    product["versions"]["20260301_120001"] = newer
    stream = read(fetcher(documents))
    assert stream.resolve("web") == "d" * 64
    assert stream.image(COMBINED).aliases == ()
    assert [image.fingerprint[0] for image in stream.images] == ["d", "c"]


def test_a_tar_with_the_older_key_for_its_hash() -> None:
    documents = tree()
    items = items_of(documents)
    items["squashfs"]["ftype"] = "root.tar.xz"
    combined("combined_sha256")(documents)
    assert read(fetcher(documents)).image(COMBINED).properties["type"] == "root.tar.xz"


def test_one_delta_that_fits() -> None:
    documents = tree()
    deltas(1)(documents)
    assert set(read(fetcher(documents)).images[0].files) == {"meta", "root", "delta"}


def test_files_are_checked_to_the_last_byte() -> None:
    stream = read(fetcher(tree()))
    with pytest.raises(AssertionError, match="images/meta"):
        check_files(stream, lambda _: b"7 bytes")
