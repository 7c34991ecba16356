"""Pulling an image: which one, what is fetched, what is refused, what is reported."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.oci import UnsupportedImageError
from lxdocker_lxd.convert.pull import (
    INDEX_ENTRY_LIMIT,
    PlatformNotFoundError,
    PulledImage,
    pull,
)
from lxdocker_lxd.convert.source import BlobInterruptedError
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import Digest, DigestMismatchError
from lxdocker_lxd.errors import NotFoundError, VerificationError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import BytesDone, Event, Notice, StageStarted
from tests.harness.fake_source import FakeSource
from tests.harness.tiny_image import TinyImage, digest_of, tiny_image, tiny_index

AMD64 = Platform.parse("amd64")


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event, /) -> None:
        self.events.append(event)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache")
    with store.using():
        yield store


def bring(
    source: FakeSource,
    store: Store,
    wanted: str = "amd64",
    *,
    jobs: int = 2,
    progress: Listener | None = None,
    known: Digest | None = None,
) -> PulledImage:
    return pull(
        source,
        Platform.parse(wanted),
        store,
        image="app",
        jobs=jobs,
        progress=progress or Listener(),
        known=known,
    )


def image(name: str = "app", architecture: str = "amd64", layers: int = 3) -> TinyImage:
    files: list[dict[str, bytes]] = [{f"{name}-{n}": b"x" * 100} for n in range(layers)]
    return tiny_image(*files, architecture=architecture, config={"Cmd": ["/" + name]})


def rewritten(original: TinyImage, **fields: Any) -> TinyImage:
    """The image with other fields in its manifest."""
    manifest = json.dumps(json.loads(original.manifest) | fields).encode()
    media_type = fields.get("mediaType", original.media_type)
    return TinyImage(manifest, media_type, original.config, original.layers, original.blobs)


def nest(inner: TinyImage, **entry: Any) -> TinyImage:
    """An index whose only entry is ``inner``."""
    described = {
        "mediaType": inner.media_type,
        "digest": inner.digest,
        "size": len(inner.manifest),
    } | entry
    document = json.dumps(
        {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [described]}
    ).encode()
    blobs = inner.blobs | {inner.digest: inner.manifest}
    return TinyImage(document, oci.OCI_INDEX, inner.config, inner.layers, blobs)


# --- one manifest ------------------------------------------------------------------------------


def test_a_single_manifest(store: Store) -> None:
    app = image()
    pulled = bring(FakeSource(app), store)
    assert str(pulled.top_digest) == str(pulled.manifest_digest) == app.digest
    assert pulled.config.cmd == ("/app",)
    assert pulled.config_raw == app.config
    assert [layer.path.read_bytes() for layer in pulled.layers] == list(app.layers)
    assert [layer.diff_id for layer in pulled.layers] == list(pulled.config.diff_ids)
    assert store.path(pulled.manifest_digest).read_bytes() == app.manifest


def test_pulled_again_only_the_name_is_asked_for(store: Store) -> None:
    source = FakeSource(image())
    bring(source, store)
    source.asked.clear()
    bring(source, store)
    assert dict(source.asked) == {"top": 1}


def test_with_a_known_digest_in_the_store_nothing_is_asked(store: Store) -> None:
    app = tiny_index({"linux/amd64": image()})
    source = FakeSource(app)
    first = bring(source, store)
    source.asked.clear()
    assert bring(source, store, known=Digest.parse(app.digest)) == first
    assert not source.asked


def test_with_a_known_digest_exactly_that_is_pulled(store: Store) -> None:
    """Between HEAD and GET the tag may have moved."""
    old, new = image("old"), image("new")
    source = FakeSource(old)
    source.retag(new)
    pulled = bring(source, store, known=Digest.parse(old.digest))
    assert pulled.config.cmd == ("/old",)


def test_a_new_tag_fetches_only_what_is_new(store: Store) -> None:
    one = tiny_image({"base": b"b"}, {"app": b"1"})
    two = tiny_image({"base": b"b"}, {"app": b"2"})
    source = FakeSource(one)
    bring(source, store)
    source.retag(two)
    source.asked.clear()
    bring(source, store)
    assert source.blob_requests() == sorted(
        [f"{digest_of(two.config)}@0", f"{two.layer_digests[1]}@0"]
    )


def test_a_layer_that_occurs_twice_is_fetched_once(store: Store) -> None:
    app = tiny_image({"same": b"x"}, {"other": b"x"}, {"same": b"x"})
    source = FakeSource(app)
    pulled = bring(source, store)
    assert len(pulled.layers) == 3
    assert pulled.layers[0].path == pulled.layers[2].path
    assert len(source.blob_requests()) == 3


def test_an_image_without_layers(store: Store) -> None:
    assert bring(FakeSource(tiny_image()), store).layers == ()


# --- indexes -----------------------------------------------------------------------------------


def test_the_platform_chooses(store: Store) -> None:
    images = {
        "linux/amd64": image("amd"),
        "linux/arm64/v8": image("arm", "arm64"),
        "linux/arm/v7": image("armhf", "arm"),
    }
    app = tiny_index(images)
    source = FakeSource(app)
    pulled = bring(source, store, "arm64")
    assert pulled.config.cmd == ("/arm",)
    assert str(pulled.top_digest) == app.digest
    assert str(pulled.manifest_digest) == images["linux/arm64/v8"].digest
    assert source.asked[images["linux/amd64"].digest] == 0


def test_docker_lists_are_indexes(store: Store) -> None:
    app = tiny_index({"linux/amd64": image()})
    manifest = json.dumps(json.loads(app.manifest) | {"mediaType": oci.DOCKER_LIST}).encode()
    docker = TinyImage(manifest, oci.DOCKER_LIST, app.config, app.layers, app.blobs)
    assert bring(FakeSource(docker), store).config.cmd == ("/app",)


def test_a_missing_platform_names_what_there_is(store: Store) -> None:
    app = tiny_index({"linux/amd64": image(), "linux/s390x": image("z", "s390x")})
    with pytest.raises(PlatformNotFoundError) as caught:
        bring(FakeSource(app), store, "riscv64")
    assert caught.value.message == (
        "app: there is no image for linux/riscv64; it is offered for linux/amd64, linux/s390x"
    )


def test_the_32_bit_sibling_is_taken_with_a_notice(store: Store) -> None:
    listener = Listener()
    app = tiny_index({"linux/386": image("small", "386")})
    assert bring(FakeSource(app), store, progress=listener).config.cmd == ("/small",)
    assert [event.text for event in listener.events if isinstance(event, Notice)] == [
        "no image for linux/amd64: taking the one for linux/386"
    ]


def test_a_nested_index_is_followed(store: Store) -> None:
    app = nest(nest(tiny_index({"linux/arm64": image("a", "arm64"), "linux/amd64": image()})))
    assert bring(FakeSource(app), store).config.cmd == ("/app",)


def test_a_nested_index_for_another_platform_is_not_fetched(store: Store) -> None:
    inner = tiny_index({"linux/arm64": image("a", "arm64")})
    app = nest(inner, platform={"os": "linux", "architecture": "s390x"})
    source = FakeSource(app)
    with pytest.raises(PlatformNotFoundError):
        bring(source, store)
    assert source.asked[inner.digest] == 0


def test_too_deep_an_index_is_refused(store: Store) -> None:
    app = tiny_index({"linux/amd64": image()})
    for _ in range(3):
        app = nest(app)
    assert bring(FakeSource(app), store).config.cmd == ("/app",)
    with pytest.raises(VerificationError, match="nested too deeply"):
        bring(FakeSource(nest(app)), store)


def test_an_entry_without_platform_is_the_last_resort(store: Store) -> None:
    app = nest(image())
    assert bring(FakeSource(app), store).config.cmd == ("/app",)
    with pytest.raises(PlatformNotFoundError, match="offered for linux/amd64"):
        bring(FakeSource(app), store, "s390x")


def test_the_index_decides_on_variants_configurations_do_not_tell(store: Store) -> None:
    """Many arm/v6 images say just "arm", which would mean v7."""
    app = tiny_index({"linux/arm/v6": image("old", "arm")})
    assert bring(FakeSource(app), store, "arm/v6").config.cmd == ("/old",)


# --- what is refused ---------------------------------------------------------------------------


def test_a_single_manifest_for_another_machine(store: Store) -> None:
    with pytest.raises(PlatformNotFoundError, match="it is offered for linux/arm64"):
        bring(FakeSource(image("a", "arm64")), store)


def test_artifacts(store: Store) -> None:
    chart = {"mediaType": "application/vnd.cncf.helm.config.v1+json"}
    app = image()
    config = json.loads(app.manifest)["config"] | chart
    with pytest.raises(UnsupportedImageError, match="helm"):
        bring(FakeSource(rewritten(app, config=config)), store)


def test_layers_without_diff_id(store: Store) -> None:
    app = image()
    layers = json.loads(app.manifest)["layers"][:-1]
    with pytest.raises(VerificationError, match="2 layers, the configuration 3 diff_ids"):
        bring(FakeSource(rewritten(app, layers=layers)), store)


@pytest.mark.parametrize("part", ["config", "layers"])
def test_content_with_a_wrong_digest(store: Store, part: str) -> None:
    app = image()
    source = FakeSource(app)
    victim = digest_of(app.config) if part == "config" else app.layer_digests[1]
    content = source.contents[victim]
    source.contents[victim] = b"?" + content[1:]
    with pytest.raises(DigestMismatchError, match=victim):
        bring(source, store)
    assert not store.path(Digest.parse(victim)).exists()


def test_a_manifest_whose_size_is_not_the_described_one(store: Store) -> None:
    app = nest(image(), size=7)
    with pytest.raises(DigestMismatchError, match="expected 7 bytes"):
        bring(FakeSource(app), store)


def test_documents_too_large_are_not_even_fetched(store: Store) -> None:
    app = image()
    config = json.loads(app.manifest)["config"] | {"size": oci.CONFIG_LIMIT_BYTES + 1}
    source = FakeSource(rewritten(app, config=config))
    with pytest.raises(VerificationError, match="more than 4194304"):
        bring(source, store)
    assert source.blob_requests() == []
    source = FakeSource(nest(app, size=oci.MANIFEST_LIMIT_BYTES + 1))
    with pytest.raises(VerificationError, match="larger than 4194304"):
        bring(source, store)


def test_a_manifest_of_another_kind_than_described(store: Store) -> None:
    app = nest(image(), mediaType=oci.DOCKER_MANIFEST)
    with pytest.raises(VerificationError, match="mediaType is"):
        bring(FakeSource(app), store)


def test_a_missing_foreign_layer_says_what_it_is(store: Store) -> None:
    app = image()
    layers = json.loads(app.manifest)["layers"]
    layers[1] |= {"mediaType": oci.OCI_FOREIGN_LAYER + "+gzip", "urls": ["https://x/y"]}
    source = FakeSource(rewritten(app, layers=layers))
    del source.contents[app.layer_digests[1]]
    with pytest.raises(NotFoundError) as caught:
        bring(source, store)
    assert "may not be redistributed" in caught.value.hint


# --- damage, breaks, threads -------------------------------------------------------------------


def test_what_the_disk_damaged_is_fetched_again(store: Store, tmp_path: Path) -> None:
    app = tiny_index({"linux/amd64": image()})
    source = FakeSource(app)
    pulled = bring(source, store)
    layer = pulled.layers[0].descriptor.digest
    config = pulled.manifest.config.digest
    for digest in (pulled.top_digest, pulled.manifest_digest, config, layer):
        path = store.path(digest)
        path.write_bytes(b"?" * path.stat().st_size)
    later = Store(tmp_path / "cache")
    with later.using():
        assert bring(source, later, known=pulled.top_digest) == pulled
    assert Digest.of(store.path(layer).read_bytes()) == layer


def test_the_first_failure_ends_the_others_and_is_the_one_reported(store: Store) -> None:
    app = image(layers=4)
    source = FakeSource(app)
    source.break_next(app.layer_digests[0], 10)
    with pytest.raises(BlobInterruptedError):
        bring(source, store, jobs=4)
    before = set(source.asked)
    pulled = bring(source, store)
    assert [layer.path.read_bytes() for layer in pulled.layers] == list(app.layers)
    assert f"{app.layer_digests[0]}@10" in set(source.asked) - before


def test_layers_are_fetched_side_by_side_but_never_more_than_asked(store: Store) -> None:
    app = image(layers=6)
    source = FakeSource(app)
    together = threading.Barrier(2, timeout=10)
    layers = set(app.layer_digests)

    def meet(digest: str) -> None:
        if digest in layers:
            together.wait()

    source.on_blob = meet
    bring(source, store, jobs=2)
    assert len(source.blob_requests()) == 7


def test_events(store: Store) -> None:
    listener = Listener()
    app = image(layers=2)
    bring(FakeSource(app), store, progress=listener)
    stages = [event.stage for event in listener.events if isinstance(event, StageStarted)]
    assert stages == ["resolve", "download"]
    for digest, layer in zip(app.layer_digests, app.layers, strict=True):
        done = [
            event
            for event in listener.events
            if isinstance(event, BytesDone) and str(event.digest) == digest
        ]
        assert {(event.image, event.stage, event.total_bytes) for event in done} == {
            ("app", "download", len(layer))
        }
        assert [event.done_bytes for event in done] == sorted(event.done_bytes for event in done)
        assert done[-1].done_bytes == len(layer)


def test_events_for_layers_already_here(store: Store) -> None:
    source = FakeSource(image(layers=2))
    bring(source, store)
    listener = Listener()
    bring(source, store, progress=listener)
    done = [event for event in listener.events if isinstance(event, BytesDone)]
    assert len(done) == 2
    assert all(event.done_bytes == event.total_bytes for event in done)


def test_indexes_of_very_many_images_are_refused(store: Store) -> None:
    """Thirty-three of them, four megabytes each, took 850 in memory."""
    app = image()
    half = tiny_index([("linux/arm64", app)] * (INDEX_ENTRY_LIMIT // 2 - 1))
    other = tiny_index([("linux/amd64", app)] * (INDEX_ENTRY_LIMIT // 2))

    def listing(*inner: TinyImage) -> TinyImage:
        manifests = [
            {"mediaType": one.media_type, "digest": one.digest, "size": len(one.manifest)}
            for one in inner
        ]
        document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": manifests}
        blobs = {key: value for one in inner for key, value in one.blobs.items()}
        blobs |= {one.digest: one.manifest for one in inner}
        raw = json.dumps(document).encode()
        return TinyImage(raw, oci.OCI_INDEX, app.config, app.layers, blobs)

    third = tiny_index([("linux/arm64", app)] * 2)
    with pytest.raises(VerificationError, match="list more than 30000 images"):
        bring(FakeSource(listing(half, other, third)), store)
