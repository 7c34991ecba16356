"""A LXD of another architecture than this machine's: what is made is what runs there."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import ToolError
from lxdocker_lxd.importing.image_import import Destination, Importer, ImportOutcome, Wishes
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.refresh import Refresh
from lxdocker_lxd.importing.source_choice import SourceChoice
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.reference import parse_source
from tests.convert.workshop import static_program
from tests.harness.simulated_lxd import SimulatedLxd
from tests.harness.tiny_image import tiny_image, tiny_index


class Bench:
    """An amd64 machine, a LXD on it, one on arm64 called ``far``, and an image for both."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.here, self.far = SimulatedLxd(), SimulatedLxd()
        self.far.server.architectures = ("aarch64", "armv7l")
        self.directory = ImportDirectory(home / "imports")
        self.busybox = {"amd64": home / "busybox-amd64", "arm64": home / "busybox-arm64"}
        for architecture, path in self.busybox.items():
            path.write_bytes(static_program(architecture))
        self.put("1")

    def put(self, version: str) -> None:
        shutil.rmtree(self.home / "web", ignore_errors=True)
        images = {
            f"linux/{architecture}": tiny_image(
                {"bin/app": f"{architecture} {version}".encode()},
                config={"Entrypoint": ["/bin/app"]},
                architecture=architecture,
            )
            for architecture in ("amd64", "arm64")
        }
        tiny_index(images).write_layout(self.home / "web")

    def options(self) -> ConvertOptions:
        return ConvertOptions(
            specs=self.home / "specs",
            cache=self.home / "cache",
            lxdimages=self.home / "lxdimages",
            host=Platform.parse("amd64"),
            registries=RegistriesSettings(),
            image_format="tar",
            busybox=MappingProxyType(self.busybox),
        )

    def bring(self, remote: str = "far") -> ImportOutcome:
        text = f"oci:{self.home}/web"
        importer = Importer(
            self.options(),
            self.directory,
            Destination(lxd=self.far if remote else self.here, remote=remote),
            Silent(),
            now=lambda: datetime.now(UTC),
            certificate=lambda _remote: "",
        )
        return importer.run(text, SourceChoice(source=parse_source(text)), Wishes())

    def refresh(self) -> dict[str, str]:
        refresh = Refresh(
            self.options(),
            self.directory,
            lambda remote: self.far if remote else self.here,
            Silent(),
            now=lambda: datetime.now(UTC),
        )
        return {one.remote or "here": one.outcome for one in refresh.run()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def held(lxd: SimulatedLxd) -> dict[str, tuple[str, bytes]]:
    """By alias: the architecture that LXD read, and the program inside."""
    return {
        alias.name: (
            lxd.user.images.get(alias.fingerprint).architecture,
            lxd.store.image_files[alias.fingerprint]["/bin/app"],
        )
        for alias in lxd.user.aliases.list()
    }


def test_each_lxd_gets_what_it_runs(bench: Bench) -> None:
    far, here = bench.bring("far"), bench.bring("")
    (name,) = held(bench.far)
    assert held(bench.far)[name] == ("arm64", b"arm64 1")
    assert held(bench.here) == {name: ("amd64", b"amd64 1")}
    # One specification each: they don't take each other's place.
    assert far.name != here.name
    assert bench.bring("far").outcome == "unchanged"
    assert bench.refresh() == {"far": "unchanged", "here": "unchanged"}


def test_both_follow_the_source(bench: Bench) -> None:
    bench.bring("far")
    bench.bring("")
    bench.put("2")
    assert bench.refresh() == {"far": "imported", "here": "imported"}
    assert [program for _, program in held(bench.far).values()] == [b"arm64 2"]
    assert [program for _, program in held(bench.here).values()] == [b"amd64 2"]
    assert [len(lxd.user.images.list()) for lxd in (bench.far, bench.here)] == [1, 1]


def test_without_a_busybox_for_it_nothing_is_begun(bench: Bench) -> None:
    del bench.busybox["arm64"]
    with pytest.raises(ToolError, match="busybox for arm64") as caught:
        bench.bring("far")
    assert "--busybox arm64=PATH" in (caught.value.hint or "")
    assert bench.far.user.images.list() == ()
    assert list(bench.directory.specs.iterdir()) == []
