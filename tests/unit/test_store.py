"""The store: what it promises about blobs, names, locks and removal."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.source import BlobInterruptedError
from lxdocker_lxd.convert.store import DamagedCacheError, Store
from lxdocker_lxd.digest import ByteStream, Digest, DigestMismatchError
from lxdocker_lxd.errors import NotFoundError, StorageError, VerificationError
from tests.harness.fake_source import BrittleStream

CONTENT = bytes(range(256)) * 4


def describe(content: bytes, media_type: str = oci.OCI_LAYER) -> Descriptor:
    return Descriptor(
        media_type=media_type,
        digest=Digest.of(content),
        size_bytes=len(content),
        platform=None,
        annotations={},
        urls=(),
        data=None,
    )


class Streams:
    """Opens a content at offsets; remembers them; may break or lie."""

    def __init__(self, content: bytes, *break_after_bytes: int | None) -> None:
        self.content = content
        self.breaks = list(break_after_bytes)
        self.offsets: list[int] = []

    @contextlib.contextmanager
    def __call__(self, offset_bytes: int) -> Iterator[ByteStream]:
        self.offsets.append(offset_bytes)
        after_bytes = self.breaks.pop(0) if self.breaks else None
        yield BrittleStream(self.content[offset_bytes:], after_bytes, piece_bytes=100)


def never(_offset_bytes: int) -> AbstractContextManager[ByteStream]:
    raise AssertionError("nothing had to be fetched")


def ignore(_done_bytes: int) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    with store.using():
        yield store


def put(store: Store, content: bytes) -> Descriptor:
    descriptor = describe(content)
    store.put(descriptor, Streams(content), on_bytes=ignore)
    return descriptor


def files(tmp_path: Path) -> list[str]:
    """The files of the cache, but for those that are always there."""
    root = tmp_path / "cache"
    names = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    return sorted(names - {"oci-layout", "index.json", "lock", "index.lock"})


def image(store: Store, *layers: bytes) -> Descriptor:
    """Put a whole image and return its manifest's descriptor."""
    config = store.put_bytes(oci.OCI_CONFIG, b'{"config of": "' + b"".join(layers) + b'"}')
    raw = oci.render_manifest(config, [put(store, layer) for layer in layers])
    return store.put_bytes(oci.OCI_MANIFEST, raw)


# --- putting and reading -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1024])
def test_a_blob_is_at_its_digest(store: Store, tmp_path: Path, size: int) -> None:
    content = CONTENT[:size]
    descriptor = describe(content)
    seen: list[int] = []
    path = store.put(descriptor, Streams(content), on_bytes=seen.append)
    assert path.read_bytes() == content
    assert path == store.path(descriptor.digest)
    assert store.has(descriptor)
    assert seen == sorted(seen)
    assert seen[-1] == size
    assert files(tmp_path) == [f"blobs/sha256/{descriptor.digest.encoded}"]


def test_a_present_blob_is_not_fetched(store: Store) -> None:
    descriptor = put(store, CONTENT)
    seen: list[int] = []
    store.put(descriptor, never, on_bytes=seen.append)
    assert seen == [len(CONTENT)]


def test_embedded_content_is_not_fetched(store: Store) -> None:
    descriptor = Descriptor(
        media_type=oci.OCI_CONFIG,
        digest=Digest.of(b"{}"),
        size_bytes=2,
        platform=None,
        annotations={},
        urls=(),
        data=b"{}",
    )
    assert store.put(descriptor, never, on_bytes=ignore).read_bytes() == b"{}"


@pytest.mark.parametrize("broken_after", [0, 1, 100, 555, 1023, 1024])
def test_a_broken_download_goes_on_where_it_broke(store: Store, broken_after: int) -> None:
    descriptor = describe(CONTENT)
    streams = Streams(CONTENT, broken_after)
    with pytest.raises(BlobInterruptedError):
        store.put(descriptor, streams, on_bytes=ignore)
    assert not store.has(descriptor)
    path = store.put(descriptor, streams, on_bytes=ignore)
    assert path.read_bytes() == CONTENT
    # All bytes had come in the last case; only the check was missing.
    assert streams.offsets == ([0] if broken_after == 1024 else [0, broken_after])


def test_held_bytes_that_are_wrong_are_fetched_again(store: Store, tmp_path: Path) -> None:
    """A crash may leave zeros where data was."""
    descriptor = describe(CONTENT)
    partial = tmp_path / "cache" / "partial" / f"sha256-{descriptor.digest.encoded}"
    partial.write_bytes(bytes(500))
    streams = Streams(CONTENT)
    assert store.put(descriptor, streams, on_bytes=ignore).read_bytes() == CONTENT
    assert streams.offsets == [500, 0]


def test_a_partial_file_that_is_too_long_is_dropped(store: Store, tmp_path: Path) -> None:
    descriptor = describe(CONTENT)
    partial = tmp_path / "cache" / "partial" / f"sha256-{descriptor.digest.encoded}"
    partial.write_bytes(CONTENT + b"x")
    streams = Streams(CONTENT)
    assert store.put(descriptor, streams, on_bytes=ignore).read_bytes() == CONTENT
    assert streams.offsets == [0]


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT + b"x", b"x" + CONTENT[1:], b""])
def test_wrong_content_is_refused_and_leaves_nothing(
    store: Store, tmp_path: Path, wrong: bytes
) -> None:
    streams = Streams(wrong)
    with pytest.raises(DigestMismatchError):
        store.put(describe(CONTENT), streams, on_bytes=ignore)
    assert streams.offsets == [0, 0]
    assert files(tmp_path) == []


def test_a_blob_of_the_wrong_size_is_replaced(store: Store) -> None:
    descriptor = put(store, CONTENT)
    store.path(descriptor.digest).write_bytes(b"torn")
    assert not store.has(descriptor)
    assert put(store, CONTENT) == descriptor
    assert store.path(descriptor.digest).read_bytes() == CONTENT


def test_a_blob_damaged_since_an_earlier_run_is_fetched_again(store: Store, tmp_path: Path) -> None:
    """Of the right size, it was once taken for good, and packed when its header index was cached."""
    descriptor = put(store, CONTENT)
    store.path(descriptor.digest).write_bytes(b"?" + CONTENT[1:])
    later = Store(tmp_path / "cache")
    streams = Streams(CONTENT)
    with later.using():
        assert later.put(descriptor, streams, on_bytes=ignore).read_bytes() == CONTENT
    assert streams.offsets == [0]


def test_a_link_in_a_blobs_place_is_no_blob(store: Store, tmp_path: Path) -> None:
    descriptor = describe(CONTENT)
    (tmp_path / "host").write_bytes(CONTENT)
    store.path(descriptor.digest).symlink_to(tmp_path / "host")
    assert not store.has(descriptor)
    put(store, CONTENT)
    assert not store.path(descriptor.digest).is_symlink()


def test_a_link_in_a_partial_files_place_is_not_followed(store: Store, tmp_path: Path) -> None:
    descriptor = describe(CONTENT)
    (tmp_path / "host").write_bytes(b"kept")
    partial = tmp_path / "cache" / "partial" / f"sha256-{descriptor.digest.encoded}"
    partial.symlink_to(tmp_path / "host")
    with pytest.raises(StorageError):
        store.put(descriptor, Streams(CONTENT), on_bytes=ignore)
    assert (tmp_path / "host").read_bytes() == b"kept"


def test_threads_fetch_one_blob_once(store: Store) -> None:
    streams = Streams(CONTENT)
    threads = [
        threading.Thread(
            target=store.put, args=(describe(CONTENT), streams), kwargs={"on_bytes": ignore}
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert streams.offsets == [0]


def test_small_documents(store: Store) -> None:
    descriptor = store.put_bytes(oci.OCI_CONFIG, b"{}")
    assert (descriptor.media_type, descriptor.size_bytes) == (oci.OCI_CONFIG, 2)
    assert store.put_bytes(oci.OCI_CONFIG, b"{}") == descriptor
    assert store.read(descriptor.digest, limit_bytes=2, what="config") == b"{}"
    with pytest.raises(VerificationError, match="config: larger than 1 bytes"):
        store.read(descriptor.digest, limit_bytes=1, what="config")
    store.path(descriptor.digest).write_bytes(b"[]")
    with pytest.raises(DigestMismatchError, match="config: expected digest"):
        store.read(descriptor.digest, limit_bytes=9, what="config")
    store.discard(descriptor.digest)
    store.discard(descriptor.digest)
    with pytest.raises(NotFoundError, match="not in the cache"):
        store.read(descriptor.digest, limit_bytes=9, what="config")


def test_suffixes_of_derived_files_are_plain_words(store: Store) -> None:
    digest = Digest.of(b"")
    assert store.derived(digest, "headers-1").name == digest.encoded + ".headers-1"
    with pytest.raises(ValueError, match="suffix"):
        store.derived(digest, "../x")


def test_an_unwritable_cache_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(StorageError, match="create directory"), Store(tmp_path / "cache").using():
        pass


@given(st.binary(max_size=300), st.lists(st.integers(0, 120), max_size=6))
def test_however_often_it_breaks_the_bytes_are_right(content: bytes, breaks: list[int]) -> None:
    descriptor = describe(content)
    streams = Streams(content, *breaks)
    with tempfile.TemporaryDirectory() as directory, (store := Store(Path(directory))).using():
        for _ in range(len(breaks) + 1):
            with contextlib.suppress(BlobInterruptedError):
                path = store.put(descriptor, streams, on_bytes=ignore)
                break
        assert path.read_bytes() == content
        assert streams.offsets == sorted(streams.offsets)


# --- names -------------------------------------------------------------------------------------


def test_the_cache_is_an_oci_layout(store: Store, tmp_path: Path) -> None:
    manifest = image(store, b"layer")
    store.tag("nginx/amd64", manifest)
    root = tmp_path / "cache"
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads((root / "index.json").read_bytes())["manifests"][0]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "nginx/amd64"}
    assert entry["digest"] == str(manifest.digest)


def test_names_come_and_go(store: Store) -> None:
    one, two = image(store, b"1"), image(store, b"2")
    store.tag("a", one)
    store.tag("b", one)
    store.tag("a", two)
    assert {name: entry.digest for name, entry in store.tags().items()} == {
        "a": two.digest,
        "b": one.digest,
    }
    store.untag(["a", "unheard of"])
    assert list(store.tags()) == ["b"]


def test_a_damaged_index_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "cache" / "index.json").write_bytes(b"{")
    with pytest.raises(DamagedCacheError) as caught:
        store.tags()
    assert "remove" in caught.value.hint


def test_naming_at_the_same_time_loses_nothing(store: Store) -> None:
    manifest = image(store, b"layer")
    threads = [threading.Thread(target=store.tag, args=(f"name-{n}", manifest)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.tags()) == 10


# --- removal -----------------------------------------------------------------------------------


def test_prune_keeps_what_is_named_or_kept(store: Store) -> None:
    named, kept, unused = image(store, b"1", b"shared"), image(store, b"2"), image(store, b"3")
    raw = oci.render_index([named])
    store.tag("index", store.put_bytes(oci.OCI_INDEX, raw))
    lone = put(store, b"shared")
    assert store.prune([kept.digest]) == 3
    for content in (b"1", b"2", b"shared"):
        assert store.has(describe(content))
    assert store.has(named)
    assert store.has(lone)
    assert not store.has(unused)
    assert not store.has(describe(b"3"))
    assert store.prune([]) == 3
    assert store.prune([]) == 0


def test_prune_removes_derived_files_with_their_blob(store: Store) -> None:
    kept, gone = put(store, b"kept"), put(store, b"gone")
    for descriptor in (kept, gone):
        store.derived(descriptor.digest, "headers").write_bytes(b"x")
    store.prune([kept.digest])
    assert store.derived(kept.digest, "headers").exists()
    assert not store.derived(gone.digest, "headers").exists()


def test_prune_sweeps_what_crashed_runs_left(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    for place in (root, root / "blobs" / "sha256", root / "headers" / "sha512"):
        (place / ".tmp-x").write_bytes(b"")
    fresh, old = (root / "partial" / f"sha256-{c * 64}" for c in "ab")
    fresh.write_bytes(b"")
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    assert store.prune([]) == 0
    assert files(tmp_path) == [f"partial/{fresh.name}"]


def test_prune_spares_files_it_does_not_know(store: Store, tmp_path: Path) -> None:
    strange = tmp_path / "cache" / "blobs" / "sha256" / "README"
    strange.write_bytes(b"mine")
    store.prune([])
    assert strange.exists()


@pytest.mark.parametrize("damage", ["manifest", "index.json"])
def test_prune_removes_nothing_when_it_cannot_know(
    store: Store, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = image(store, b"layer")
    store.tag("a", manifest)
    victim = {
        "manifest": store.path(manifest.digest),
        "index.json": tmp_path / "cache" / "index.json",
    }[damage]
    victim.write_bytes(b"x" * victim.stat().st_size)
    assert store.prune([]) == 0
    assert store.has(describe(b"layer"))
    assert "nothing removed from this cache" in caplog.text


def test_kept_digests_may_be_anything(store: Store) -> None:
    manifest = image(store, b"layer")
    raw = store.read(manifest.digest, limit_bytes=10_000, what="manifest")
    config = oci.parse_manifest(raw, media_type=None, what="manifest")
    assert isinstance(config, oci.Manifest)
    absent = Digest.of(b"absent")
    assert store.prune([config.config.digest, describe(b"layer").digest, absent]) == 1
    assert store.has(config.config)
    assert store.has(describe(b"layer"))


def test_a_layer_two_images_share_is_followed_once(store: Store) -> None:
    one, two = image(store, b"shared", b"1"), image(store, b"shared", b"2")
    store.tag("one", one)
    store.tag("two", two)
    assert store.prune([one.digest]) == 0


def test_a_named_image_whose_manifest_is_missing_holds_nothing(store: Store) -> None:
    manifest = image(store, b"layer")
    store.tag("a", manifest)
    store.discard(manifest.digest)
    assert store.prune([]) == 2


def test_prune_waits_for_nobody_and_removes_nothing_others_may_use(
    store: Store, tmp_path: Path
) -> None:
    put(store, CONTENT)
    other = Store(tmp_path / "cache")
    with other.using():
        assert store.prune([]) == 0
        assert other.prune([]) == 0
        # The lock given up for the attempt is held again: a third run still can't prune.
        assert Store(tmp_path / "cache").prune([]) == 0
    assert store.prune([]) == 1


def test_after_pruning_the_run_still_holds_the_store(store: Store, tmp_path: Path) -> None:
    store.prune([])
    put(store, CONTENT)
    assert Store(tmp_path / "cache").prune([]) == 0
    assert store.has(describe(CONTENT))


def test_prune_works_outside_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    with store.using():
        put(store, CONTENT)
    assert store.prune([]) == 1


def test_a_run_waits_while_another_prunes(tmp_path: Path) -> None:
    """Otherwise it could find a blob that is gone a moment later."""
    store = Store(tmp_path / "cache")
    entered = threading.Event()

    def run() -> None:
        with Store(tmp_path / "cache").using():
            entered.set()

    with store._exclusive() as alone:
        assert alone
        thread = threading.Thread(target=run)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(10)
    assert entered.is_set()


# --- other processes ---------------------------------------------------------------------------

PROGRAM = """
import contextlib, os, sys, pathlib
from lxdocker_lxd.convert.store import Store
from tests.unit.test_store import CONTENT, Streams, describe, ignore

class Dying(Streams):
    def __init__(self, content, last):
        super().__init__(content)
        self.last = last
    @contextlib.contextmanager
    def __call__(self, offset):
        with super().__call__(offset) as stream:
            read = stream.read
            def dying(size=-1):
                if len(stream._content) <= self.last:
                    os.kill(os.getpid(), 9)
                return read(size)
            stream.read = dying
            yield stream

store = Store(pathlib.Path(sys.argv[1]))
with store.using():
    store.put(describe(CONTENT), Dying(CONTENT, int(sys.argv[2])), on_bytes=ignore)
"""


@pytest.mark.parametrize(
    ("left_bytes", "offsets"), [(1024, [0]), (1000, [100]), (500, [600]), (24, [1000]), (0, [])]
)
def test_a_killed_run_leaves_a_store_the_next_one_completes(
    tmp_path: Path, left_bytes: int, offsets: list[int]
) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "cache"), str(left_bytes)]
    assert subprocess.run(arguments, check=False).returncode == -9
    store = Store(tmp_path / "cache")
    streams = Streams(CONTENT)
    with store.using():
        assert not store.has(describe(CONTENT))
        assert store.put(describe(CONTENT), streams, on_bytes=ignore).read_bytes() == CONTENT
        assert store.prune([]) == 1
    assert streams.offsets == offsets
    assert files(tmp_path) == []


@pytest.mark.root
def test_a_full_disk_is_named_and_its_space_given_back(tmp_path: Path) -> None:
    """A partial download once kept the last bytes of a full disk until the next run."""
    content = bytes(2 << 20)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", tmp_path], check=True
    )
    try:
        store = Store(tmp_path / "cache")
        with store.using(), pytest.raises(StorageError, match="No space left") as caught:
            store.put(describe(content), Streams(content), on_bytes=ignore)
        assert "free some space" in caught.value.hint
        (partial,) = (tmp_path / "cache" / "partial").iterdir()
        assert partial.stat().st_size == 0
    finally:
        subprocess.run(["umount", tmp_path], check=True)
