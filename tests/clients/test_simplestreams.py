"""What an alias stands for, compared with the oracle that reads trees as LXD does."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.simplestreams import UnknownAliasError, find_image
from lxdocker_lxd.clients.tree import Body, MissingError
from lxdocker_lxd.clients.whole_document import OversizeError, read_whole
from lxdocker_lxd.serve.site import Site
from tests.serve.trees import NOW, content_of, made, named, roots_of, site_of, stream

ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64")}
INDEX = "streams/v1/index.json"
PRODUCTS = "streams/v1/images.json"


class Pages:
    """A tree in memory."""

    is_remote = True
    name = "https://server"

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self.pages = pages

    @contextlib.contextmanager
    def open(self, path: str, *, compressed: bool = False) -> Iterator[Body]:
        if path not in self.pages or compressed:
            raise MissingError(path)
        yield io.BytesIO(self.pages[path])

    def roots(self) -> Sequence[str]:
        return ("",)

    def signed(self, endings: tuple[str, ...]) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - none is
        return ()

    def identity(self, path: str) -> object:
        return path


def pages_of(site: Site, root: str) -> Pages:
    paths = [entry.path for entry in site.entries() if entry.path.startswith(f"{root}streams/")]
    return Pages({path.removeprefix(root): content_of(site, path) for path in paths})


def test_every_alias_of_our_trees_is_what_lxd_makes_of_it() -> None:
    """Of several versions, architectures, formats, and in the trees for LXE too."""
    site = site_of(
        named("web", made("one"), made("two", at=NOW), aliases=["www", "a/b"]),
        named("web", made("arm", at=NOW), architecture="arm64"),
        named("db", made("three", "ghcr.io/a/db:1", image_format="tar")),
        named("nginx", made("four", "docker.io/library/nginx:1.25")),
    )
    count = 0
    for root in roots_of(site):
        oracle, pages = stream(site, root), pages_of(site, root)
        for (alias, kernel), fingerprint in oracle.aliases.items():
            found = find_image(pages, alias, ARCHITECTURES[kernel])
            image = oracle.image(fingerprint)
            assert found.fingerprint == fingerprint
            assert found.serial == image.properties["serial"]
            assert found.size_bytes == image.size_bytes
            assert {(one.path, one.sha256, one.size_bytes) for one in found.files} == {
                (one.path, one.sha256, one.size_bytes) for one in image.files.values()
            }
            count += 1
    assert count > 20


def test_an_alias_that_nobody_has() -> None:
    pages = pages_of(site_of(named("web", made("one"), aliases=["www"])), "")
    with pytest.raises(UnknownAliasError, match="no image 'nosuch' for amd64") as caught:
        find_image(pages, "nosuch", ("amd64",))
    assert caught.value.hint == "it has web, web/current, web/current/default, www"
    with pytest.raises(UnknownAliasError) as caught:
        find_image(pages, "web", ("arm64",))
    assert "no images for that architecture" in caught.value.hint


def foreign(**product: Any) -> Pages:
    """A tree of other people's."""
    entry = {"datatype": "image-downloads", "path": PRODUCTS, "products": ["p"]}
    index = {"index": {"images": entry, "other": {"datatype": "other", "path": "../x"}}}
    return Pages(
        {
            INDEX: json.dumps(index).encode(),
            PRODUCTS: json.dumps({"products": {"p": product}}).encode(),
        }
    )


def version(path: str = "x/y") -> dict[str, Any]:
    file = {"path": path, "size": 3, "sha256": "0" * 64}
    return {
        "items": {
            "meta": {**file, "ftype": "lxd.tar.xz", "combined_squashfs_sha256": "f" * 64},
            "root": {**file, "ftype": "squashfs"},
        }
    }


def test_a_version_without_files_is_passed_over() -> None:
    versions = {"20260101": version(), "20260102": {"items": {}}, "soon": version()}
    pages = foreign(arch="amd64", aliases="a, b ,", versions=versions)
    found = find_image(pages, "b", ("amd64",))
    assert (found.serial, found.aliases, found.fingerprint) == ("20260101", ("a", "b"), "f" * 64)


@pytest.mark.parametrize(
    ("pages", "match"),
    [
        (Pages({INDEX: b"<html>"}), "no JSON"),
        (Pages({INDEX: b"[]"}), "expected an object"),
        (Pages({INDEX: b"[" * 100_000}), "no JSON"),
        (foreign(arch=1, versions={"20260101": version()}), "arch: expected a text"),
        (foreign(arch="amd64", aliases="a", versions={"20260101": version("../x")}), "no path"),
        (foreign(arch="amd64", versions=[]), "expected an object"),
    ],
)
def test_documents_that_are_none(pages: Pages, match: str) -> None:
    with pytest.raises(DocumentError, match=match):
        find_image(pages, "a", ("amd64",))


def test_an_index_of_very_many_lists_is_refused() -> None:
    """Each could be large, so their number is bounded beside their size."""
    entry = {"datatype": "image-downloads", "path": PRODUCTS, "products": ["p"]}
    index = {"index": {str(number): entry for number in range(17)}}
    with pytest.raises(DocumentError, match="more than 16 lists"):
        find_image(Pages({INDEX: json.dumps(index).encode()}), "a", ("amd64",))


def test_a_document_is_read_up_to_a_limit() -> None:
    pages = Pages({"x": bytes(100)})
    assert read_whole(pages, "x", most_bytes=100) == bytes(100)
    with pytest.raises(OversizeError, match="larger than 99 bytes"):
        read_whole(pages, "x", most_bytes=99)
