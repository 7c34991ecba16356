"""Looking at an image without its layers."""

import pytest

from lxdocker_lxd.convert.inspection import inspect, resolve
from lxdocker_lxd.convert.pull import PlatformNotFoundError
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.platform import Platform
from tests.harness.fake_source import FakeSource
from tests.harness.tiny_image import TinyImage, tiny_image, tiny_index

AMD64 = Platform.parse("amd64")
ARM64 = Platform.parse("arm64")


def two_platforms() -> tuple[TinyImage, TinyImage, TinyImage]:
    amd64 = tiny_image({"bin/app": b"one"}, config={"Cmd": ["one"]})
    arm64 = tiny_image({"bin/app": b"two"}, architecture="arm64", config={"Cmd": ["two"]})
    return tiny_index({"linux/amd64": amd64, "linux/arm64": arm64}), amd64, arm64


def test_one_image_is_told_with_its_configuration_and_sizes() -> None:
    image = tiny_image({"a": b"x" * 1000}, {"b": b"y"}, config={"Cmd": ["run"], "User": "web"})
    source = FakeSource(image)
    found = inspect(source, AMD64, image="web")
    assert found.config.cmd == ("run",)
    assert found.resolved.offers == ()
    assert str(found.resolved.manifest_digest) == str(found.resolved.top_digest) == image.digest
    assert found.size_bytes == sum(len(layer) for layer in image.layers)
    asked = source.blob_requests()
    assert len(asked) == 1, "the configuration, no layer"


def test_an_index_offers_platforms_and_gives_the_wanted_one() -> None:
    index, _, arm64 = two_platforms()
    found = inspect(FakeSource(index), ARM64, image="web")
    assert str(found.resolved.top_digest) == index.digest
    assert str(found.resolved.manifest_digest) == arm64.digest
    assert [str(offer.platform) for offer in found.resolved.offers] == [
        "linux/amd64",
        "linux/arm64",
    ]
    assert found.config.cmd == ("two",)


def test_nested_indexes_are_followed_but_not_for_ever() -> None:
    index, amd64, _ = two_platforms()
    for _ in range(2):
        index = tiny_index({"linux/amd64": index})
    assert str(resolve(FakeSource(index), AMD64, image="web").manifest_digest) == amd64.digest
    for _ in range(4):
        index = tiny_index({"linux/amd64": index})
    with pytest.raises(VerificationError, match="nested too deeply"):
        resolve(FakeSource(index), AMD64, image="web")


def test_a_platform_it_is_not_offered_for_lists_the_others() -> None:
    index, _, _ = two_platforms()
    with pytest.raises(PlatformNotFoundError, match="linux/amd64, linux/arm64"):
        resolve(FakeSource(index), Platform.parse("s390x"), image="web")


def test_an_image_without_an_index_is_for_its_own_machine_only() -> None:
    image = tiny_image({"bin/app": b"one"}, architecture="arm64")
    with pytest.raises(PlatformNotFoundError, match="it is offered for linux/arm64"):
        inspect(FakeSource(image), AMD64, image="web")
    found = inspect(FakeSource(image), AMD64, image="web", or_another=True)
    assert str(found.config.platform) == "linux/arm64"
