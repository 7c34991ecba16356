"""Digests and the reader that verifies while it reads."""

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.digest import Digest, DigestMismatchError, VerifyingReader
from lxdocker_lxd.errors import UsageError

SIZES = [0, 1, 2, 3, 511, 512, 1024, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]


def reader(content: bytes, *, digest: Digest, size_bytes: int) -> VerifyingReader:
    return VerifyingReader(io.BytesIO(content), digest, size_bytes, what="layer")


@pytest.mark.parametrize("text", ["sha256:" + "a" * 64, "sha512:" + "0" * 128])
def test_a_digest_is_what_was_written(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:../../" + "a" * 58,
        "sha512:" + "a" * 64,
        "SHA256:" + "a" * 64,
        "sha1:" + "a" * 40,
        "sha256+b64u:" + "a" * 64,
        ":" + "a" * 64,
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(UsageError):
        Digest.parse(text)


@pytest.mark.parametrize("size", SIZES)
def test_right_content_is_read_whole(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    got = b"".join(reader(content, digest=Digest.of(content), size_bytes=size))
    assert got == content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", ["short", "long", "flipped"])
def test_wrong_content_never_ends_well(size: int, change: str) -> None:
    content = b"x" * size
    digest = Digest.of(content)
    wrong = {"short": content[:-1], "long": content + b"x", "flipped": b"y" + content[1:]}[change]
    if wrong == content or (change == "flipped" and not size):
        return
    with pytest.raises(DigestMismatchError, match="layer: expected"):
        list(reader(wrong, digest=digest, size_bytes=size))


def test_sha512_is_verified_with_sha512() -> None:
    content = b"content"
    digest = Digest.parse("sha512:" + hashlib.sha512(content).hexdigest())
    assert b"".join(reader(content, digest=digest, size_bytes=7)) == content
    with pytest.raises(DigestMismatchError):
        list(reader(b"c0ntent", digest=digest, size_bytes=7))


def test_at_most_one_byte_too_many_is_asked_for() -> None:
    stream = io.BytesIO(b"x" * 100)
    with pytest.raises(DigestMismatchError, match="got more"):
        list(VerifyingReader(stream, Digest.of(b"x" * 10), 10, what="layer"))
    assert stream.tell() == 11


def test_a_swallowed_mismatch_comes_again() -> None:
    bad = reader(b"abc", digest=Digest.of(b"abd"), size_bytes=3)
    assert bad.read() == b"abc"
    for _ in range(2):
        with pytest.raises(DigestMismatchError):
            bad.read()


def test_reading_nothing_checks_nothing() -> None:
    assert reader(b"abc", digest=Digest.of(b"x"), size_bytes=3).read(0) == b""


def test_a_negative_size_is_refused() -> None:
    """It once asked the stream for everything there is."""
    with pytest.raises(ValueError, match="negative"):
        reader(b"abc", digest=Digest.of(b"abc"), size_bytes=-1)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=30))
def test_any_way_of_reading_gives_the_same(content: bytes, sizes: list[int]) -> None:
    good = reader(content, digest=Digest.of(content), size_bytes=len(content))
    parts = [good.read(size) for size in sizes]
    parts.extend(good)
    assert b"".join(parts) == content
