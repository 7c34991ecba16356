"""Signed images into a simulated LXD: as they are, converted anew, and never a part of one."""

import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.clients.chain import Trust
from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.lxc_images import LxcImage, LxcImageName
from lxdocker_lxd.clients.signature_check import BadSignatureError
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import LxdockerError, StorageError, UsageError
from lxdocker_lxd.importing.chain_import import ORIGIN, ChainImporter, ChainSource
from lxdocker_lxd.importing.image_import import Destination, ImportOutcome, Wishes
from lxdocker_lxd.importing.lxc_metadata import created_seconds, lxd_metadata
from lxdocker_lxd.importing.placing import AliasTakenError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Silent
from tests.clients.signed_servers import (
    BUILD,
    INDEX,
    LINES,
    META,
    PLACE,
    ROOTFS,
    SignedServers,
    signed_servers,
    tar_xz,
)
from tests.harness.simulated_lxd import Fault, SimulatedLxd
from tests.serve.checked import change_byte

pytestmark = pytest.mark.tools
OUR_CONFIG = b"lxc.init.cmd = /bin/app\nlxc.hook.start = /.lxdocker/lxc-hook\n"
IMAGE_JSON = {
    "image": "docker.io/library/app:1",
    "manifest_digest": "sha256:" + "5" * 64,
    "config": {"Entrypoint": ["/bin/app"], "Cmd": ["two  words", "new\nline"], "User": "33"},
    "oci": {"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z"},
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedServers]:
    with signed_servers(tmp_path_factory.mktemp("servers")) as made:
        yield made


class Bench:
    """A LXD and both servers."""

    def __init__(self, servers: SignedServers, home: Path) -> None:
        self.servers = servers
        self.lxd = SimulatedLxd()
        self.scratch = home / "scratch"
        self.scratch.mkdir()
        self.options = ConvertOptions(
            specs=home / "specs",
            cache=home / "cache",
            lxdimages=home / "lxdimages",
            host=Platform.parse("amd64"),
            registries=RegistriesSettings(),
            image_format="tar",
        )

    def bring(
        self, name: str = "alpine", *, dry_run: bool = False, **wishes: object
    ) -> ImportOutcome:
        importer = ChainImporter(
            self.options,
            Destination(lxd=self.lxd),
            Silent(),
            now=lambda: datetime.now(UTC),
            scratch=self.scratch,
        )
        source = ChainSource(address=self.servers.address, trust=self.servers.trust, name=name)
        wished = Wishes(**wishes)  # type: ignore[arg-type]  # a test's own words
        try:
            return importer.run(source, wished, dry_run=dry_run)
        finally:
            assert list(self.scratch.iterdir()) == []

    def state(self) -> tuple[set[str], dict[str, str]]:
        """Fingerprints, and aliases."""
        aliases = {one.name: one.fingerprint for one in self.lxd.user.aliases.list()}
        return {one.fingerprint for one in self.lxd.user.images.list()}, aliases

    def build(self, build: str) -> None:
        """Let the server have another build of the image."""
        lines = LINES.replace(f";{BUILD};/{PLACE}", f";{build};/{PLACE}")
        self.servers.put(self.servers.images / INDEX, lines.encode(), self.servers.server_key)

    def offer(self, rootfs: dict[str, bytes], config: bytes = OUR_CONFIG) -> None:
        """Let the server have other files for the image."""
        key = self.servers.server_key
        self.servers.put(self.servers.images / META, tar_xz({"config": config}), key)
        self.servers.put(self.servers.images / ROOTFS, tar_xz(rootfs), key)


@pytest.fixture
def bench(both: SignedServers, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(both, tmp_path)
    both.reset()


def test_a_stranger_s_image_arrives_as_it_is(bench: Bench) -> None:
    assert bench.bring(dry_run=True).outcome == "would-import"
    assert bench.state() == (set(), {})
    first = bench.bring()
    assert (first.outcome, first.aliases, first.serial) == ("imported", ("alpine/3.19",), BUILD)
    (image,) = bench.lxd.user.images.list()
    assert (image.architecture, image.fingerprint) == ("amd64", first.fingerprint)
    assert image.properties == {
        "architecture": "amd64",
        "description": f"alpine/3.19 amd64 ({BUILD})",
        "os": "alpine",
        "release": "3.19",
        "serial": BUILD,
        "variant": "default",
        ORIGIN: f"{bench.servers.images_web.url} alpine;3.19;amd64;default",
    }


def test_what_lxd_has_is_not_fetched_again(bench: Bench) -> None:
    first = bench.bring()
    bench.servers.images_web.asked.clear()
    assert bench.bring().outcome == "unchanged"
    assert bench.bring(dry_run=True).outcome == "would-keep"
    again = bench.bring("images/alpine/3.19/amd64/default", aliases=("mine",))
    assert (again.outcome, again.fingerprint) == ("renamed", first.fingerprint)
    assert set(bench.servers.images_web.asked) == {INDEX, f"{INDEX}.asc"}


def test_a_newer_build_takes_the_names_of_the_one_before(bench: Bench) -> None:
    first = bench.bring()
    bench.build("20260202_13:00")
    second = bench.bring()
    assert (second.outcome, second.moved) == ("imported", ("alpine/3.19",))
    assert second.deleted == (first.fingerprint,)
    assert bench.state() == ({second.fingerprint}, {"alpine/3.19": second.fingerprint})


def test_a_name_of_another_image_is_not_taken(bench: Bench) -> None:
    theirs = bench.lxd.add_image("1", alias="alpine/3.19")
    with pytest.raises(AliasTakenError):
        bench.bring()
    assert ROOTFS not in bench.servers.images_web.asked
    assert bench.bring(replace=True).moved == ("alpine/3.19",)
    assert theirs in bench.state()[0]


def test_an_image_converted_for_lxc_is_converted_for_lxd(bench: Bench) -> None:
    files = {
        "bin/app": b"#!/bin/sh\n",
        "lxd-image.json": json.dumps(IMAGE_JSON).encode(),
        ".lxdocker/lxc-hook": b"of LXC",
        "busybox-lxd": b"of LXC",
    }
    bench.offer(files)
    made = bench.bring()
    (image,) = bench.lxd.user.images.list()
    assert image.fingerprint == made.fingerprint
    assert image.properties["lxdocker.product"] == "alpine"
    assert image.properties["requirements.lxdocker.image"] == "docker.io/library/app:1"
    assert image.properties["requirements.lxdocker.manifest"] == IMAGE_JSON["manifest_digest"]
    found = bench.lxd.store.image_files[made.fingerprint]
    names = {name.strip("/") for name in found}
    assert {"sbin/init", "bin/app"} <= names
    assert ".lxdocker/lxc-hook" not in names

    # The same files give the same image, on any day, in any directory.
    bench.lxd.user.images.delete(made.fingerprint)
    assert bench.bring().fingerprint == made.fingerprint


@pytest.mark.parametrize(
    ("rootfs", "config", "match"),
    [
        ({"bin/app": b"x"}, OUR_CONFIG, "there is no lxd-image.json"),
        ({"lxd-image.json": b"{"}, OUR_CONFIG, "can't be read"),
        ({"lxd-image.json": b"[]"}, OUR_CONFIG, "expected an object"),
        ({"lxd-image.json": b'{"oci": 1}'}, OUR_CONFIG, "expected an object"),
    ],
)
def test_a_converted_image_without_its_configuration(
    bench: Bench, rootfs: dict[str, bytes], config: bytes, match: str
) -> None:
    bench.offer(rootfs, config)
    with pytest.raises(DocumentError, match=match):
        bench.bring()
    assert bench.state() == (set(), {})


def no_config() -> bytes:
    return tar_xz({"expiry": b"1"})


def too_much() -> bytes:
    return lzma.compress(bytes(32 << 20), preset=0)


def cut() -> bytes:
    return no_config()[:-20]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (no_config, "there is no config"),
        (too_much, "cut short, or too large"),
        (cut, "cut short, or too large"),
        (lambda: b"no archive", "no tar.xz archive"),
        (lambda: lzma.compress(b"no archive"), "no tar.xz archive"),
    ],
)
def test_metadata_that_is_none(bench: Bench, content: Callable[[], bytes], match: str) -> None:
    bench.servers.put(bench.servers.images / META, content(), bench.servers.server_key)
    with pytest.raises(DocumentError, match=match):
        bench.bring()
    assert bench.state() == (set(), {})


@pytest.mark.parametrize("path", [INDEX, META, ROOTFS])
def test_a_changed_byte_leaves_nothing(bench: Bench, path: str) -> None:
    change_byte(bench.servers.images / path)
    with pytest.raises(BadSignatureError):
        bench.bring()
    assert bench.state() == (set(), {})
    # Nothing but reading was asked of LXD.
    assert not [call for call in bench.lxd.log.calls if call.writes]


# Placing has its own test with each fault; here it is that nobody else gets in between.
@pytest.mark.parametrize(
    "fault",
    [
        Fault.ANSWER_LOST,
        *(
            pytest.param(fault, marks=pytest.mark.full)
            for fault in (Fault.REQUEST_LOST, Fault.BUSY, Fault.LXD_RESTARTED)
        ),
    ],
)
def test_a_failure_of_any_call_to_lxd_leaves_all_or_nothing(bench: Bench, fault: Fault) -> None:
    bench.bring(dry_run=True)
    number = 0
    while True:
        number += 1
        bench.lxd = SimulatedLxd()
        bench.lxd.log.faults[number] = fault
        try:
            made = bench.bring()
        except LxdockerError:
            images, aliases = bench.state()
            if aliases:
                assert aliases == {"alpine/3.19": next(iter(images))}
            else:
                assert images == set()
            continue
        assert bench.state()[1] == {"alpine/3.19": made.fingerprint}
        if number > len(bench.lxd.log.calls):
            break


def test_what_makes_no_sense(bench: Bench) -> None:
    with pytest.raises(UsageError, match="--lxe"):
        bench.bring(lxe=True)
    with pytest.raises(UsageError, match=r"is for arm64, and this LXD runs amd64"):
        bench.bring("images/alpine/3.19/arm64")
    missing = replace(bench.servers.trust, keys=bench.scratch / "none")
    assert isinstance(missing, Trust)
    bench.scratch.rmdir()
    try:
        with pytest.raises(StorageError):
            ChainImporter(
                bench.options,
                Destination(lxd=bench.lxd),
                Silent(),
                now=lambda: datetime.now(UTC),
                scratch=bench.scratch,
            ).run(
                ChainSource(address=bench.servers.address, trust=missing, name="alpine"), Wishes()
            )
    finally:
        bench.scratch.mkdir()


@pytest.mark.parametrize(
    ("build", "seconds"),
    [
        ("20260102_13:00", 1767358800),
        ("20260102_130000", 1767358800),
        ("20260102", 1767312000),
        ("20269902_13:00", 315532800),
        ("latest", 315532800),
        ("1970", 315532800),
    ],
)
def test_a_build_s_name_tells_when_it_was_made(build: str, seconds: int) -> None:
    assert created_seconds(build) == seconds


def test_metadata_for_lxd_is_one_document() -> None:
    name = LxcImageName(distribution="a", release='"\n: {', architecture="arm64", variant="cloud")
    content = lxd_metadata(LxcImage(name=name, build=BUILD, path="x"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["metadata.yaml"]
        file = archive.extractfile("metadata.yaml")
        assert file is not None
        document = json.loads(file.read())
    assert document["architecture"] == "arm64"
    assert document["properties"]["release"] == '"\n: {'
