"""What a registry and its client promise each other: on the fake, and on docker-registry."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import NotFoundError
from tests.harness.fake_registry import fake_registry
from tests.harness.registry import real_registry
from tests.harness.registry_client import RegistryClient, describe, read_blob, registry_client
from tests.harness.tiny_image import TinyImage, tiny_image, tiny_index

CONTENT = os.urandom(700_000)


@dataclass
class Place:
    """A registry under contract."""

    host: str
    push: Callable[[str, str, TinyImage], str]


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.registry)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "fake":
        with fake_registry() as fake:
            yield Place(fake.host, fake.push)
        return
    count = iter(range(100))
    with real_registry(tmp_path / "registry") as real:

        def push(name: str, tag: str, image: TinyImage) -> str:
            layout = image.write_layout(tmp_path / f"layout-{next(count)}", tag)
            return real.push_layout(layout, tag, name)

        yield Place(real.host, push)


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    with registry_client() as client:
        yield client


def test_head_names_the_digest_of_a_tag_and_follows_it(
    place: Place, client: RegistryClient
) -> None:
    first = place.push("library/web", "1.0", tiny_image({"a": b"1"}))
    source = client.open(f"{place.host}/library/web:1.0")
    assert str(source.head()) == first
    second = place.push("library/web", "1.0", tiny_image({"a": b"2"}))
    assert str(source.head()) == second != first


def test_a_manifest_comes_as_it_was_pushed(place: Place, client: RegistryClient) -> None:
    image = tiny_image({"a": CONTENT})
    place.push("library/web", "1.0", image)
    source = client.open(f"{place.host}/library/web:1.0")
    answer = source.manifest(None)
    assert (answer.raw, str(answer.digest)) == (image.manifest, image.digest)
    assert answer.media_type == image.media_type
    assert source.manifest(answer.digest).raw == image.manifest


def test_an_index_and_its_manifests_are_reached_by_digest(
    place: Place, client: RegistryClient
) -> None:
    arm = tiny_image({"a": b"arm"}, architecture="arm64")
    index = tiny_index({"linux/amd64": tiny_image({"a": b"amd"}), "linux/arm64/v8": arm})
    place.push("library/web", "multi", index)
    source = client.open(f"{place.host}/library/web:multi")
    assert source.manifest(None).raw == index.manifest
    assert source.manifest(Digest.parse(arm.digest)).raw == arm.manifest


def test_a_blob_comes_whole_and_from_any_byte(place: Place, client: RegistryClient) -> None:
    image = tiny_image({"a": CONTENT})
    place.push("library/web", "1.0", image)
    source = client.open(f"{place.host}/library/web:1.0")
    (layer,) = image.layers
    for offset in (0, 1, 4096, len(layer) - 1, len(layer)):
        assert read_blob(source, describe(layer), offset) == layer[offset:]


def test_a_reference_by_digest_needs_no_tag(place: Place, client: RegistryClient) -> None:
    image = tiny_image({"a": b"x"})
    place.push("library/web", "1.0", image)
    source = client.open(f"{place.host}/library/web@{image.digest}")
    assert str(source.head()) == image.digest
    assert source.manifest(None).raw == image.manifest


def test_what_is_not_there_is_not_found(place: Place, client: RegistryClient) -> None:
    place.push("library/web", "1.0", tiny_image({"a": b"x"}))
    for name in ("library/web:2.0", "library/other:1.0", f"library/web@{Digest.of(b'no')}"):
        with pytest.raises(NotFoundError) as caught:
            client.open(f"{place.host}/{name}").manifest(None)
        assert place.host in caught.value.message
        assert "MANIFEST_UNKNOWN" in caught.value.message or "NAME_UNKNOWN" in caught.value.message
        assert caught.value.exit_code == 3
        assert "check" in caught.value.hint
    source = client.open(f"{place.host}/library/web:1.0")
    with pytest.raises(NotFoundError), source.blob(describe(b"no such blob"), 0):
        pass


def test_head_of_what_is_not_there_says_the_registrys_words(
    place: Place, client: RegistryClient
) -> None:
    with pytest.raises(NotFoundError, match="UNKNOWN"):
        client.open(f"{place.host}/library/web:1.0").head()


def test_an_image_is_pulled_whole(place: Place, client: RegistryClient, tmp_path: Path) -> None:
    image = tiny_image({"a": CONTENT}, {"b": b"second"}, {"c": b"third"})
    index = tiny_index({"linux/amd64": image})
    place.push("library/web", "1.0", index)
    store = Store(tmp_path / "cache")
    pulled = client.pull(f"{place.host}/library/web:1.0", store)
    assert str(pulled.top_digest) == index.digest
    assert str(pulled.manifest_digest) == image.digest
    assert tuple(layer.path.read_bytes() for layer in pulled.layers) == image.layers
    assert not client.notices
    assert not client.slept
