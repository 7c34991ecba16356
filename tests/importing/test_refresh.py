"""A refresh of several imports on a simulated LXD: what changed arrives, what fails stops nothing."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import LxdError, NotFoundError
from lxdocker_lxd.importing.image_import import Destination, Importer, ImportOutcome, Wishes
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.refresh import Refresh
from lxdocker_lxd.importing.sending import send
from lxdocker_lxd.importing.source_choice import SourceChoice, SpecChoice
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.ownership import UnsafeDirectoryError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.reference import parse_source
from tests.harness.other_user import NOBODY, SECRET, everybodys_python, readable_packages
from tests.harness.simulated_lxd import SimulatedLxd
from tests.harness.small_image import write_layout

pytestmark = pytest.mark.tools


class Bench:
    """An importer's surroundings: two LXDs, a directory, layouts to import."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.here, self.far = SimulatedLxd(), SimulatedLxd()
        self.directory = ImportDirectory(home / "imports")
        self.options = ConvertOptions(
            specs=home / "specs",
            cache=home / "cache",
            lxdimages=home / "lxdimages",
            host=Platform.parse("amd64"),
            registries=RegistriesSettings(),
            image_format="tar",
        )

    def layout(self, name: str, version: str) -> None:
        shutil.rmtree(self.home / name, ignore_errors=True)
        write_layout(
            self.home / name, tag="1", files={"bin/app": version.encode()}, entrypoint=["/bin/app"]
        )

    def bring(self, name: str, *, remote: str = "", wishes: Wishes | None = None) -> ImportOutcome:
        text = f"oci:{self.home}/{name}:1"
        return self.take(SourceChoice(source=parse_source(text)), text, remote, wishes)

    def take(
        self,
        choice: SourceChoice | SpecChoice,
        text: str = "",
        remote: str = "",
        wishes: Wishes | None = None,
    ) -> ImportOutcome:
        destination = Destination(lxd=self.far if remote else self.here, remote=remote)
        importer = Importer(
            self.options,
            self.directory,
            destination,
            Silent(),
            now=lambda: datetime.now(UTC),
            certificate=lambda _remote: "",
        )
        return importer.run(text, choice, wishes or Wishes())

    def refresh(self, connect: Callable[[str], Lxd] | None = None) -> dict[str, str]:
        """Refresh; outcomes by first alias."""
        refresh = Refresh(
            self.options,
            self.directory,
            connect or (lambda remote: self.far if remote else self.here),
            Silent(),
            now=lambda: datetime.now(UTC),
        )
        return {
            "@".join(filter(None, (one.aliases[0], one.remote))): one.outcome
            for one in refresh.run()
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for name in ("web", "shop"):
        made.layout(name, "one")
    return made


def test_what_changed_arrives_wherever_it_is(bench: Bench) -> None:
    old = bench.bring("web").fingerprint
    bench.bring("web", remote="far", wishes=Wishes(delete_old=False))
    bench.bring("shop")
    bench.layout("web", "two")
    assert bench.refresh() == {
        "web/1": "imported",
        "web/1@far": "imported",
        "shop/1": "unchanged",
    }
    here = {image.fingerprint for image in bench.here.user.images.list()}
    far = {image.fingerprint for image in bench.far.user.images.list()}
    # The one that was imported with its past keeps it.
    assert old not in here
    assert old in far
    assert bench.refresh() == dict.fromkeys(("web/1", "web/1@far", "shop/1"), "unchanged")


def test_a_lxd_that_is_away_stops_no_other(bench: Bench) -> None:
    bench.bring("web", remote="far")
    bench.bring("shop")
    bench.layout("shop", "two")

    def connect(remote: str) -> Lxd:
        if remote:
            raise LxdError("it is away", hint="come back")
        return bench.here

    assert bench.refresh(connect) == {"web/1@far": "failed", "shop/1": "imported"}
    # It isn't forgotten for that.
    assert bench.refresh() == {"web/1@far": "unchanged", "shop/1": "unchanged"}


def test_an_image_that_is_imported_twice_is_forgotten_once(bench: Bench) -> None:
    image = bench.bring("web").fingerprint
    bench.bring("web", remote="far")
    bench.here.user.images.delete(image)
    assert bench.refresh() == {"web/1": "forgotten", "web/1@far": "unchanged"}
    # Its specification is still that of the other one.
    assert len(list(bench.directory.specs.iterdir())) == 1
    bench.far.user.images.delete(image)
    assert bench.refresh() == {"web/1@far": "forgotten"}
    assert list(bench.directory.specs.iterdir()) == []


def test_an_image_without_its_names_gets_them_again(bench: Bench) -> None:
    bench.bring("web")
    bench.here.user.aliases.delete("web/1")
    assert bench.refresh() == {"web/1": "renamed"}


def test_what_a_user_adds_to_the_specification_counts(bench: Bench) -> None:
    first = bench.bring("web")
    (spec,) = bench.directory.specs.iterdir()
    spec.write_text(spec.read_text() + "env: {A: b}\n")
    assert bench.refresh() == {"web/1": "imported"}
    (record,) = bench.directory.records()
    assert record.fingerprint != first.fingerprint


@pytest.fixture
def shared() -> Iterator[Bench]:
    """A bench in a place that all users reach."""
    home = Path(tempfile.mkdtemp(prefix="lxowner-", dir="/tmp"))
    home.chmod(0o755)
    try:
        made = Bench(home)
        for path in (made.options.specs, made.options.cache, made.options.lxdimages):
            path.mkdir()
        yield made
    finally:
        shutil.rmtree(home)


@pytest.mark.root
class TestRootWithAnotherUsersCatalogue:
    """The owner of cache and catalogue converts; root only sends what came of it."""

    @pytest.fixture(autouse=True)
    def _program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", everybodys_python())
        for name, value in readable_packages().items():
            monkeypatch.setenv(name, value)

    def version(self, bench: Bench, text: str) -> None:
        bench.layout("web", text)
        (bench.options.specs / "web.yaml").write_text(f"image: oci:{bench.home}/web:1\n")

    def owners(self, bench: Bench) -> set[int]:
        trees = (bench.options.cache, bench.options.lxdimages)
        return {path.lstat().st_uid for tree in trees for path in (tree, *tree.rglob("*"))}

    def test_import_and_refresh_leave_nothing_of_roots_there(self, shared: Bench) -> None:
        for path in (shared.options.cache, shared.options.lxdimages):
            os.chown(path, NOBODY, NOBODY)
        self.version(shared, "one")
        first = shared.take(SpecChoice(name="web"))
        assert first.outcome == "imported"
        self.version(shared, "two")
        assert shared.refresh() == {"web": "imported"}
        assert shared.refresh() == {"web": "unchanged"}
        assert self.owners(shared) == {NOBODY}
        (image,) = shared.here.user.images.list()
        assert image.fingerprint != first.fingerprint

    def test_a_link_in_the_place_of_an_image_is_not_sent(self, shared: Bench) -> None:
        for path in (shared.options.cache, shared.options.lxdimages):
            os.chown(path, NOBODY, NOBODY)
        self.version(shared, "one")
        shared.take(SpecChoice(name="web"))
        secret = shared.home / "secret"
        secret.write_bytes(SECRET)
        secret.chmod(0o600)
        files = (shared.options.lxdimages / "images").iterdir()
        (rootfs,) = [path for path in files if not path.name.endswith(".meta.tar")]
        rootfs.unlink()
        rootfs.symlink_to(secret)
        directory = CatalogueDirectory(shared.options.lxdimages)
        (product,) = directory.read().products
        with pytest.raises(NotFoundError, match="the rootfs of version"):
            send(
                shared.far,
                directory,
                product,
                product.newest,
                project="default",
                public=False,
                progress=Silent(),
            )
        assert not shared.far.user.images.list()

    def test_imports_in_another_users_directory_are_refused(self, shared: Bench) -> None:
        shared.layout("web", "one")
        shared.bring("web")
        os.chown(shared.directory.directory, NOBODY, NOBODY)
        with pytest.raises(UnsafeDirectoryError, match="belongs to nobody"):
            shared.refresh()
        with pytest.raises(UnsafeDirectoryError, match="belongs to nobody"):
            shared.bring("web")
