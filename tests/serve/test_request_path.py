"""Request paths become names of a site, or nothing: never places on a disk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.serve.request_path import PathError, parse, spell


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", ""),
        (b"//", ""),
        (b"/streams/v1/index.json", "streams/v1/index.json"),
        (b"/images//web/amd64/default//20260301_1200/", "images/web/amd64/default/20260301_1200/"),
        (b"/lxe/docker.io/", "lxe/docker.io/"),
        (b"/a%20b", "a b"),
        (b"/caf%C3%A9", "café"),
        (b"/ghcr.io:home-assistant", "ghcr.io:home-assistant"),
        # Decoded once: what is left is a name like any other, and nothing has it.
        (b"/%252e%252e/etc", "%2e%2e/etc"),
        (b"/a%2Fb", "a/b"),
        (b"/...", "..."),
        (b"http://other.example/a//b", "a/b"),
        (b"https://other.example", ""),
        (b"/http://other.example/", "http:/other.example/"),
    ],
)
def test_a_path_is_decoded_once_and_loses_empty_segments(raw: bytes, path: str) -> None:
    assert parse(raw) == path


@pytest.mark.parametrize(
    "raw",
    [
        b"/..",
        b"/../etc/passwd",
        b"/images/../../../etc/passwd",
        b"/images/..%2f..%2fetc%2fpasswd",
        b"/images/%2e%2e/%2e%2e/etc/passwd",
        b"/images/.%2E/x",
        b"/images/./x",
        b"/images/..\\..\\x",
        b"/images/..%5c..%5cx",
        b"/images/\xff",
        b"/%ff%fe",
        b"/%c0%ae%c0%ae/etc/passwd",
        b"/a%00b",
        b"/a%0d%0aSet-Cookie:x",
        b"/a%e2%80%aeb",
        b"relative",
        b"ftp://other.example/",
        b"*",
        b"",
        b"/" + b"a" * 5000,
    ],
)
def test_what_can_name_nothing_is_refused(raw: bytes) -> None:
    with pytest.raises(PathError) as caught:
        parse(raw)
    assert "\n" not in caught.value.message


@given(st.binary(max_size=60))
def test_no_path_ever_leaves_the_site(tail: bytes) -> None:
    try:
        path = parse(b"/" + tail)
    except PathError:
        return
    segments = path.removesuffix("/").split("/")
    assert not {"", ".", ".."} & set(segments) or path == ""
    assert not path.startswith("/")
    assert path.isprintable()


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
def test_a_spelled_path_leads_back(segments: list[str]) -> None:
    path = "/".join(segments)
    spelled = spell(path)
    assert spelled.isascii()
    try:
        assert parse(spelled.encode()) == path.strip("/") or "//" in f"/{path}/"
    except PathError:
        assert not path.isprintable() or {".", ".."} & set(path.split("/")) or "\\" in path
