"""The contract every source keeps, run on each of them; registries have theirs beside a server."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.convert.archive import open_archive
from lxdocker_lxd.convert.layout import open_layout
from lxdocker_lxd.convert.oci import Descriptor, Manifest, parse_manifest
from lxdocker_lxd.convert.pull import pull
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.reference import ArchiveSource, LayoutSource
from tests.harness.fake_source import FakeSource
from tests.harness.saved_image import docker_archive, oci_archive
from tests.harness.tiny_image import tiny_image

LAYERS = ({"etc/motd": b"hello"}, {"app": b"x" * 5000})
IMAGE = tiny_image(*LAYERS, config={"Cmd": ["/app"]})


def fake(_directory: Path) -> Source:
    return FakeSource(IMAGE)


def layout(directory: Path) -> Source:
    IMAGE.write_layout(directory / "layout")
    return open_layout(LayoutSource(directory=str(directory / "layout"), tag="latest"))


def archived_layout(directory: Path) -> Source:
    path = oci_archive(directory / "a.tar", IMAGE, directory / "scratch")
    return open_archive(ArchiveSource(file=str(path), kind="oci-archive", tag=None))


def saved(directory: Path) -> Source:
    path = docker_archive(directory / "a.tar", *LAYERS)
    return open_archive(ArchiveSource(file=str(path), kind="docker-archive", tag="app"))


@pytest.fixture(params=[fake, layout, archived_layout, saved])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    make: Callable[[Path], Source] = request.param
    return make(tmp_path)


def manifest_of(source: Source) -> Manifest:
    answer = source.manifest(None)
    manifest = parse_manifest(answer.raw, media_type=answer.media_type, what="image")
    assert isinstance(manifest, Manifest)
    return manifest


def content(source: Source, descriptor: Descriptor, offset_bytes: int = 0) -> bytes:
    parts = []
    with source.blob(descriptor, offset_bytes) as stream:
        while data := stream.read(1000):
            assert len(data) <= 1000
            parts.append(data)
    return b"".join(parts)


def test_head_is_the_digest_of_the_manifest(source: Source) -> None:
    answer = source.manifest(None)
    assert source.head() == answer.digest == Digest.of(answer.raw)
    assert source.manifest(answer.digest).raw == answer.raw


def test_blobs_are_what_their_descriptors_say(source: Source) -> None:
    manifest = manifest_of(source)
    assert len(manifest.layers) == 2
    for descriptor in (manifest.config, *manifest.layers):
        whole = content(source, descriptor)
        assert len(whole) == descriptor.size_bytes
        assert Digest.of(whole) == descriptor.digest


@pytest.mark.parametrize("offset_bytes", [0, 1, 100])
def test_a_blob_can_be_read_from_any_byte(source: Source, offset_bytes: int) -> None:
    layer = manifest_of(source).layers[1]
    assert content(source, layer, offset_bytes) == content(source, layer)[offset_bytes:]
    assert content(source, layer, layer.size_bytes) == b""


def test_what_is_not_there_is_not_found(source: Source) -> None:
    digest = Digest.of(b"nowhere")
    with pytest.raises(NotFoundError):
        source.manifest(digest)
    with pytest.raises(NotFoundError):
        content(source, replace(manifest_of(source).config, digest=digest))


def test_it_can_be_pulled(source: Source, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    amd64 = Platform.parse("amd64")
    with store.using():
        pulled = pull(source, amd64, store, image="app", jobs=2, progress=Silent())
    assert pulled.config.cmd == ("/app",)
    assert len(pulled.layers) == 2
