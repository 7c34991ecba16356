"""Each kind of image source is opened by what reads it; registries aren't contacted yet."""

from pathlib import Path

import pytest

from lxdocker_lxd.convert.registry.settings import RegistriesSettings, RegistrySettings
from lxdocker_lxd.convert.registry.source import RegistrySource
from lxdocker_lxd.convert.sources import Sources, open_source
from lxdocker_lxd.errors import NotFoundError, StorageError
from lxdocker_lxd.reference import parse_source
from tests.harness.tiny_image import tiny_image


def quiet(_text: str) -> None:
    """Tell nobody."""


def test_a_layout(tmp_path: Path) -> None:
    image = tiny_image({"a": b"x"})
    image.write_layout(tmp_path / "layout", "1.0")
    source = open_source(
        parse_source(f"oci:{tmp_path}/layout:1.0"), RegistriesSettings(), notice=quiet
    )
    assert str(source.head()) == image.digest


def test_archives_that_are_missing(tmp_path: Path) -> None:
    for kind in ("oci-archive", "docker-archive", "oci"):
        with pytest.raises((NotFoundError, StorageError), match="missing"):
            open_source(
                parse_source(f"{kind}:{tmp_path}/missing"), RegistriesSettings(), notice=quiet
            ).head()


def test_a_registry_with_mirrors() -> None:
    settings = RegistriesSettings(
        by_host={"docker.io": RegistrySettings(host="docker.io", mirrors=("mirror.example/hub",))}
    )
    with Sources(settings) as sources:
        first, second = (
            sources.open(parse_source(name), notice=quiet) for name in ("nginx", "redis:7")
        )
        assert isinstance(first, RegistrySource)
        assert isinstance(second, RegistrySource)
        assert [place.name for place in first.places] == ["mirror.example/hub", "docker.io"]
        # What is learned about a host is learned once.
        assert first.places == second.places
