"""Images that go from the packer into LXD without a file: what is kept, and what never stays."""

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from lxdocker_lxd.annotations import CREATED, SOURCE, URL, VERSION
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.importing.image_import import Destination, Importer, ImportOutcome, Wishes
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.refresh import Refresh
from lxdocker_lxd.importing.sending import properties as sent_properties
from lxdocker_lxd.importing.source_choice import SourceChoice
from lxdocker_lxd.lxd.calls import ImageUpload
from lxdocker_lxd.lxd.failures import FingerprintMismatchError
from lxdocker_lxd.lxd.image_ports import OnTransfer
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.resources import Project
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import BytesDone, Event, Progress, Silent, StageStarted
from lxdocker_lxd.reference import parse_source
from tests.harness.simulated_lxd import Fault, SimulatedLxd
from tests.harness.small_image import write_layout

FAULTS = (
    Fault.ANSWER_LOST,
    *(
        pytest.param(fault, marks=pytest.mark.full)
        for fault in (Fault.REQUEST_LOST, Fault.BUSY, Fault.LXD_RESTARTED, Fault.LXD_KILLED)
    ),
)
# More than waits between packer and upload, and nothing a compressor could make less of.
LARGE = random.Random(1).randbytes(6 << 20)
SMALL = b"content"


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event, /) -> None:
        self.events.append(event)


class Bench:
    """A LXD, a directory of imports, and the layout ``web`` to import."""

    def __init__(self, home: Path, content: bytes = LARGE) -> None:
        self.home = home
        self.lxd = SimulatedLxd()
        self.directory = ImportDirectory(home / "imports")
        self.form: Literal["gzip", "tar"] = "tar"
        self.put(content)

    def put(self, content: bytes) -> None:
        shutil.rmtree(self.home / "web", ignore_errors=True)
        write_layout(self.home / "web", tag="1", files={"data": content}, entrypoint=["/bin/app"])

    def bring(
        self,
        *,
        wishes: Wishes | None = None,
        project: str = DEFAULT_PROJECT,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> ImportOutcome:
        text = f"oci:{self.home}/web:1"
        importer = Importer(
            self.options(),
            self.directory,
            Destination(lxd=self.lxd, project=project),
            progress or Silent(),
            now=lambda: datetime.now(UTC),
            certificate=lambda _remote: "",
        )
        choice = SourceChoice(source=parse_source(text))
        return importer.run(text, choice, wishes or Wishes(), dry_run=dry_run)

    def options(self) -> ConvertOptions:
        return ConvertOptions(
            specs=self.home / "specs",
            cache=self.home / "cache",
            lxdimages=self.home / "lxdimages",
            host=Platform.parse("amd64"),
            registries=RegistriesSettings(),
            image_format=self.form,
        )

    def refresh(self) -> ImportOutcome:
        refresh = Refresh(
            self.options(),
            self.directory,
            lambda _remote: self.lxd,
            Silent(),
            now=lambda: datetime.now(UTC),
        )
        (found,) = refresh.run()
        return found

    def files(self) -> list[str]:
        """Endings of the image files kept here, and of what was left half-written."""
        images = self.directory.images / "images"
        return sorted(path.name[-9:] for path in images.iterdir()) if images.exists() else []

    def state(self) -> tuple[set[str], dict[str, str]]:
        images = {image.fingerprint for image in self.lxd.user.images.list()}
        return images, {alias.name: alias.fingerprint for alias in self.lxd.user.aliases.list()}

    def uploads(self) -> int:
        return sum(call.name == "images.upload" for call in self.lxd.log.calls)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    # No upload goes on behind anybody's back.
    assert [thread.name for thread in threading.enumerate() if thread.name == "send"] == []


@pytest.mark.parametrize("form", ["tar", "gzip"])
def test_no_file_of_it_is_kept_and_it_is_not_made_again(
    bench: Bench, form: Literal["tar", "gzip"]
) -> None:
    bench.form = form
    heard = Heard()
    first = bench.bring(progress=heard)
    assert (first.outcome, bench.files()) == ("imported", [".meta.tar"])
    assert bench.state() == ({first.fingerprint}, {"web/1": first.fingerprint})
    image = bench.lxd.user.images.get(first.fingerprint)
    assert (image.properties["serial"], image.filename) == (
        first.serial,
        f"{first.name}.tar" + (".gz" if form == "gzip" else ""),
    )
    assert image.size_bytes == first.size_bytes
    stages = [event.stage for event in heard.events if isinstance(event, StageStarted)]
    assert stages[-2:] == ["send", "publish"]
    sent = [event for event in heard.events if isinstance(event, BytesDone)]
    last = [event for event in sent if event.stage == "send"][-1]
    assert last.done_bytes == last.total_bytes > len(LARGE)

    assert bench.bring(dry_run=True).outcome == "would-keep"
    assert bench.bring().outcome == "unchanged"
    assert bench.refresh().outcome == "unchanged"
    assert bench.uploads() == 1


def test_the_bytes_are_those_of_a_file(bench: Bench, tmp_path: Path) -> None:
    """A specification of the user's is converted into files, and is the same image else."""
    streamed = bench.bring()
    (catalogued,) = CatalogueDirectory(bench.directory.images).read().products
    assert catalogued.newest.fingerprint == streamed.fingerprint
    files = bench.directory.images / "images"
    (rootfs,) = [file for file in catalogued.newest.files if file.role == "rootfs"]
    assert not (bench.directory.images / rootfs.path).exists()
    assert sum(file.size_bytes for file in catalogued.newest.files) == streamed.size_bytes
    (metadata,) = files.iterdir()
    content = bench.lxd.store.image_files[streamed.fingerprint]
    assert content["/data"] == LARGE
    assert metadata.read_bytes()


def test_what_the_publisher_says_of_a_version_stays_with_the_image(bench: Bench) -> None:
    said = {VERSION: "1.27.0", URL: "https://web.example/changes", SOURCE: "x" * 5000}
    config = {"Labels": {**said, CREATED: "2026-01-02T03:04:05Z\n", "other": "label"}}
    write_layout(
        bench.home / "web", tag="1", files={"data": SMALL}, entrypoint=["/app"], config=config
    )
    imported = bench.bring()
    properties = bench.lxd.user.images.get(imported.fingerprint).properties
    kept = {VERSION: "1.27.0", URL: "https://web.example/changes"}
    told = {key: value for key, value in properties.items() if "opencontainers" in key}
    assert told == kept
    assert properties["serial"] == imported.serial
    # One that is sent as files gets the same, unless its specification says otherwise.
    (product,) = CatalogueDirectory(bench.directory.images).read().products
    sent = sent_properties(product, product.newest)
    assert {key: sent[key] for key in kept} == kept
    own = replace(product, properties={VERSION: "ours"})
    assert VERSION not in sent_properties(own, own.newest)


def test_another_project_gets_the_same_image_built_again(bench: Bench) -> None:
    first = bench.bring()
    bench.lxd.user.projects.create(Project(name="shop", config={"features.images": "true"}))
    second = bench.bring(project="shop")
    assert (second.outcome, second.fingerprint) == ("imported", first.fingerprint)
    assert bench.bring().outcome == "unchanged"
    assert (bench.uploads(), bench.files()) == (2, [".meta.tar"])


def test_an_image_that_a_user_deleted_comes_again_when_asked_for(bench: Bench) -> None:
    first = bench.bring()
    bench.lxd.user.images.delete(first.fingerprint)
    assert bench.bring(dry_run=True).outcome == "would-import"
    assert bench.bring().fingerprint == first.fingerprint
    assert bench.state() == ({first.fingerprint}, {"web/1": first.fingerprint})


def test_refresh_streams_what_changed(bench: Bench) -> None:
    old = bench.bring()
    bench.put(LARGE[:-1])
    fresh = bench.refresh()
    assert (fresh.outcome, fresh.deleted) == ("imported", (old.fingerprint,))
    assert bench.state() == ({fresh.fingerprint}, {"web/1": fresh.fingerprint})
    assert set(bench.files()) == {".meta.tar"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("again", [False, True], ids=["import", "refresh"])
def test_whatever_fails_leaves_all_or_nothing(tmp_path: Path, again: bool, fault: Fault) -> None:
    """Every call in turn fails; the next try always ends well."""

    def prepared() -> tuple[Bench, Callable[[], ImportOutcome]]:
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        bench = Bench(tmp_path / "home", SMALL)
        if again:
            bench.bring()
            bench.put(SMALL * 2)
        bench.lxd.log.restart_count()
        return bench, bench.refresh if again else bench.bring

    bench, act = prepared()
    before = bench.state()
    act()
    after, calls = bench.state(), bench.lxd.log.number
    failed = 0
    for number in range(1, calls + 1):
        bench, act = prepared()
        bench.lxd.log.faults[number] = fault
        try:
            failed += act().error is not None
        except LxdockerError:
            failed += 1
        images, aliases = bench.state()
        # The last step is to delete what was replaced; the next try does it.
        assert aliases in (before[1], after[1]), number
        assert set(aliases.values()) <= images <= set(aliases.values()) | before[0]
        assert [name for name in bench.files() if name != ".meta.tar"] == []
        act()
        assert bench.state() == after, number
    assert failed


def test_a_layer_that_breaks_in_the_middle_leaves_nothing(bench: Bench) -> None:

    class Breaking(Heard):
        def emit(self, event: Event, /) -> None:
            if isinstance(event, StageStarted) and event.stage == "send":
                blobs = (bench.directory.cache / "blobs").rglob("*")
                (layer,) = [path for path in blobs if path.stat().st_size >= len(LARGE)]
                content = bytearray(layer.read_bytes())
                content[-(1 << 20)] ^= 0xFF
                layer.write_bytes(content)

    with pytest.raises(LxdockerError):
        bench.bring(progress=Breaking())
    assert (bench.state(), bench.files()) == ((set(), {}), [])
    assert bench.bring().outcome == "imported"


class Refusing:
    """An image store that fails after it took some pieces, or stores something else."""

    def __init__(self, bench: Bench, failure: LxdockerError | None, after_pieces: int) -> None:
        self._upload = bench.lxd.images.upload
        self._failure = failure
        self._after_pieces = after_pieces
        self.taken_bytes = 0

    def upload(
        self,
        upload: ImageUpload,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Take so many pieces."""

        def passing() -> Iterator[bytes]:
            for number, piece in enumerate(upload.rootfs):
                self.taken_bytes += len(piece)
                if number == self._after_pieces:
                    if self._failure is not None:
                        raise self._failure
                    yield b"x"
                yield piece

        wrong = replace(upload, rootfs=passing())
        return self._upload(wrong, project=project, target=target, on_transfer=on_transfer)


@pytest.mark.parametrize("after_pieces", [0, 3])
def test_a_lxd_that_refuses_ends_the_packer_with_its_own_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, after_pieces: int
) -> None:
    failure = LxdockerError("the pool is full", hint="make room")
    store = Refusing(bench, failure, after_pieces)
    with monkeypatch.context() as patch:
        patch.setattr(bench.lxd.images, "upload", store.upload)
        with pytest.raises(LxdockerError, match="the pool is full"):
            bench.bring()
    assert store.taken_bytes < len(LARGE)
    assert (bench.state(), bench.files()) == ((set(), {}), [])
    assert bench.bring().outcome == "imported"


def test_an_image_that_arrived_wrong_is_deleted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Refusing(bench, None, 3)
    with monkeypatch.context() as patch:
        patch.setattr(bench.lxd.images, "upload", store.upload)
        with pytest.raises(FingerprintMismatchError, match="expected the fingerprint"):
            bench.bring()
    assert bench.state() == (set(), {})
    assert bench.bring().outcome == "imported"


def test_who_stops_the_program_leaves_nothing(bench: Bench) -> None:
    class Impatient(Heard):
        def emit(self, event: Event, /) -> None:
            if isinstance(event, BytesDone) and event.stage == "send":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.bring(progress=Impatient())
    assert (bench.state(), bench.files()) == ((set(), {}), [])


def test_an_image_that_lxd_got_in_another_way_is_named_and_stays(bench: Bench) -> None:
    """An earlier try was killed between the end of its upload and the catalogue's record."""
    first = bench.bring()
    (bench.directory.images / "catalogue.json").unlink()
    for name in ("web/1",):
        bench.lxd.user.aliases.delete(name)
    second = bench.bring()
    assert (second.outcome, second.fingerprint) == ("renamed", first.fingerprint)
    assert bench.state() == ({first.fingerprint}, {"web/1": first.fingerprint})
