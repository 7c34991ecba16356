"""The export: the served tree as files, whole at every moment."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd import cli
from lxdocker_lxd.catalogue import GRACE, PublishedFile
from lxdocker_lxd.errors import StorageError, UsageError
from lxdocker_lxd.ownership import UnsafeDirectoryError
from lxdocker_lxd.serve.entry import Document, Entry, FileEntry
from lxdocker_lxd.serve.export import export
from lxdocker_lxd.serve.export_directory import ForeignFileError, SourceDamagedError
from lxdocker_lxd.serve.export_plan import Rank, UnsafePathError, is_tree_path, plan
from lxdocker_lxd.serve.export_record import ExportedFile, ExportRecordError, parse, render
from lxdocker_lxd.serve.signature_directory import SignatureDirectory
from lxdocker_lxd.serve.site import Site
from tests.harness.processes import run
from tests.harness.stream_reader import Reader, read
from tests.serve.shop import Heard, Shop
from tests.serve.trees import NOW, content_of, made, named

INDEX = "streams/v1/index.json"
IMAGES = "streams/v1/images.json"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "lxdimages")
    shop.publish(named("web", made("one")), named("db", made("two")))
    return shop


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "www"


def own_files(target: Path) -> dict[str, bytes]:
    """Everything in an export that a web server gives away."""
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and ".lxdocker-export" not in path.parts
    }


def read_tree(target: Path, *, between: bool = False) -> int:
    """Read an exported tree as LXD does, with every file it names; return how many images.

    ``between`` two documents the index may list the products of before: no reader minds.
    """

    images = (target / IMAGES).read_bytes()
    products = json.loads(images)["products"]

    def fetch(path: str) -> bytes:
        content = images if path == IMAGES else (target / path).read_bytes()
        if path == INDEX and between:
            index = json.loads(content)
            index["index"]["images"]["products"] = sorted(products)
            content = json.dumps(index).encode()
        return content

    found = read(fetch, Reader.LXD_5_0_2, native="x86_64")
    for product in products.values():
        for version in product["versions"].values():
            for item in version["items"].values():
                content = fetch(item["path"])
                assert hashlib.sha256(content).hexdigest() == item["sha256"]
    return len(found.images)


def test_an_export_is_what_is_served(shop: Shop, target: Path) -> None:
    report = shop.export(target)
    site = shop.site()
    files = own_files(target)
    listed = list(site.entries())
    assert len(listed) > 6
    for entry in listed:
        if isinstance(entry, Document):
            assert files[entry.path] == entry.render()
        else:
            assert hashlib.sha256(files[entry.path]).hexdigest() == entry.file.sha256
    twins = {path for path in files if path.endswith(".gz")}
    assert {f"{INDEX}.gz", f"{IMAGES}.gz"} <= twins
    for path in twins:
        assert gzip.decompress(files[path]) == files[path.removesuffix(".gz")]
    assert set(files) == {entry.path for entry in listed} | twins
    assert report.count("written") == len(files)
    assert read_tree(target) == 2


def test_anybody_may_read_an_export(shop: Shop, target: Path) -> None:
    shop.export(target)
    assert {oct((target / path).stat().st_mode & 0o777) for path in own_files(target)} == {"0o644"}


def test_a_second_run_writes_nothing(shop: Shop, target: Path) -> None:
    first = shop.export(target)
    before = {path: (target / path).stat() for path in own_files(target)}
    second = shop.export(target)
    assert second.changes == ()
    assert second.unchanged == first.count("written")
    for path, status in before.items():
        now = (target / path).stat()
        assert (now.st_mtime_ns, now.st_ino) == (status.st_mtime_ns, status.st_ino)


def test_a_new_version_brings_only_what_is_new(shop: Shop, target: Path) -> None:
    shop.export(target)
    shop.publish(named("web", made("one"), made("three", at=NOW)), named("db", made("two")))
    report = shop.export(target)
    files = [change for change in report.changes if "images/" in change.path]
    contents = {(target / change.path).read_bytes() for change in files}
    assert contents == {b"meta three", b"root three"}
    assert read_tree(target) == 3


def test_what_leaves_the_tree_stays_for_a_day(shop: Shop, target: Path) -> None:
    shop.export(target)
    (rootfs,) = (
        path
        for path, text in own_files(target).items()
        if text == b"root two" and path.startswith("images/")
    )
    shop.publish(named("web", made("one")))
    left = shop.export(target, at=NOW)
    assert (target / rootfs).exists()
    assert rootfs in {change.path for change in left.changes if change.action == "waiting"}
    shop.export(target, at=NOW + GRACE - timedelta(seconds=1))
    assert (target / rootfs).exists()
    gone = shop.export(target, at=NOW + GRACE)
    assert not (target / rootfs).exists()
    assert rootfs in {change.path for change in gone.changes if change.action == "removed"}
    assert read_tree(target) == 1
    assert shop.export(target, at=NOW + 2 * GRACE).changes == ()


def test_what_comes_back_is_not_removed(shop: Shop, target: Path) -> None:
    shop.export(target)
    shop.publish(named("web", made("one")))
    shop.export(target, at=NOW)
    shop.publish(named("web", made("one")), named("db", made("two")))
    shop.export(target, at=NOW + timedelta(hours=1))
    shop.publish(named("web", made("one")))
    shop.export(target, at=NOW + timedelta(hours=25))
    assert b"root two" in own_files(target).values()


def test_a_clock_that_was_ahead_keeps_nothing_for_ever(shop: Shop, target: Path) -> None:
    shop.export(target)
    shop.publish(named("web", made("one")))
    shop.export(target, at=NOW + timedelta(days=3650))
    shop.export(target, at=NOW)
    assert b"root two" in own_files(target).values()
    shop.export(target, at=NOW + GRACE)
    assert b"root two" not in own_files(target).values()


def test_directories_that_are_empty_go_too(shop: Shop, target: Path) -> None:
    ghcr = made("four", "ghcr.io/a/b:1")
    shop.publish(named("web", made("one")), named("b", ghcr))
    shop.export(target)
    assert (target / "lxe" / "ghcr.io").is_dir()
    shop.publish(named("web", made("one")))
    shop.export(target, at=NOW)
    shop.export(target, at=NOW + GRACE)
    assert not (target / "lxe" / "ghcr.io").exists()


def test_one_file_under_many_roots_is_stored_once(shop: Shop, target: Path) -> None:
    shop.export(target)
    same = [target / path for path, text in own_files(target).items() if text == b"root one"]
    assert len(same) >= 2
    assert len({path.stat().st_ino for path in same}) == 1


def test_an_export_shares_no_file_with_the_catalogue(shop: Shop, target: Path) -> None:
    """A hard link would let chmod and chown of the export change the catalogue."""
    shop.export(target)
    source = {path.stat().st_ino for path in shop.directory.images.iterdir()}
    assert not source & {path.stat().st_ino for path in target.rglob("*")}


def test_foreign_files_are_never_touched(shop: Shop, target: Path) -> None:
    shop.export(target)
    mine = target / "images" / "mine.txt"
    mine.write_text("mine")
    (target / "robots.txt").write_text("mine")
    shop.publish(named("web", made("five")))
    shop.export(target, at=NOW)
    shop.export(target, at=NOW + GRACE)
    assert mine.read_text() == (target / "robots.txt").read_text() == "mine"


def test_a_directory_of_others_is_refused(shop: Shop, target: Path) -> None:
    target.mkdir()
    (target / "precious").write_text("mine")
    with pytest.raises(ForeignFileError, match="neither empty nor an export"):
        shop.export(target)
    with pytest.raises(ForeignFileError):
        shop.export(target, dry_run=True)
    assert [path.name for path in target.iterdir()] == ["precious"]


def test_a_foreign_file_in_the_way_is_refused(shop: Shop, target: Path) -> None:
    shop.export(target)
    new = made("six")
    shop.publish(named("web", made("one")), named("new", new))
    in_the_way = target / new.files[1].path
    in_the_way.write_text("mine")
    before = own_files(target)
    with pytest.raises(ForeignFileError, match="in the way"):
        shop.export(target)
    assert own_files(target) == before


@pytest.mark.parametrize("link", ["images", "streams/v1", "streams/v1/index.json"])
def test_nothing_is_written_through_a_link(
    shop: Shop, target: Path, tmp_path: Path, link: str
) -> None:
    shop.export(target)
    outside = tmp_path / "outside"
    (target / link).rename(outside)
    (target / link).symlink_to(outside)
    shop.publish(named("web", made("seven")))
    before = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    with pytest.raises(ForeignFileError):
        shop.export(target)
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("place", [".", "www", ".."])
def test_an_export_and_its_catalogue_are_apart(shop: Shop, place: str) -> None:
    with pytest.raises(UsageError, match="contain each other"):
        shop.export(shop.directory.directory / place)


def test_a_damaged_source_changes_no_document(shop: Shop, target: Path) -> None:
    shop.export(target)
    before = own_files(target)
    bad = made("eight")
    shop.publish(named("web", bad))
    (shop.directory.directory / bad.files[1].path).write_bytes(b"root eighT")
    with pytest.raises(SourceDamagedError, match="images/"):
        shop.export(target)
    after = own_files(target)
    assert {path: after[path] for path in before} == before
    assert b"root eighT" not in after.values()
    (shop.directory.directory / bad.files[1].path).unlink()
    with pytest.raises(SourceDamagedError, match="it is missing") as caught:
        shop.export(target)
    assert "images --verify" in caught.value.hint


def test_a_file_that_was_damaged_is_written_again(shop: Shop, target: Path) -> None:
    shop.export(target)
    (target / INDEX).write_bytes(b"x" * (target / INDEX).stat().st_size)
    report = shop.export(target)
    assert INDEX in {change.path for change in report.changes}
    assert (target / INDEX).read_bytes() == content_of(shop.site(), INDEX)


def test_a_file_of_ours_that_somebody_changed_is_let_go(shop: Shop, target: Path) -> None:
    shop.export(target)
    path = next(p for p in own_files(target) if p.startswith("lxe/") and p.endswith(IMAGES))
    shop.publish()
    shop.export(target, at=NOW)
    (target / path).write_text("mine now")
    heard = Heard()
    export(shop.site(), shop.directory, target, at=NOW + GRACE, progress=heard)
    assert (target / path).read_text() == "mine now"
    assert any("changed by somebody" in str(event) for event in heard.events)


def test_a_dry_run_says_the_same_and_writes_nothing(shop: Shop, target: Path) -> None:
    said = shop.export(target, dry_run=True)
    assert not target.exists()
    assert {(one.action, one.path) for one in said.changes} == {
        (one.action, one.path) for one in shop.export(target).changes
    }
    shop.publish(named("web", made("nine")))
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    said = shop.export(target, dry_run=True)
    assert before == {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert said == shop.export(target)


def test_documents_come_in_order(shop: Shop, target: Path) -> None:
    report = shop.export(target)
    order = [change.path for change in report.changes]
    last_file = max(index for index, path in enumerate(order) if "images/" in path)
    assert last_file < order.index(IMAGES) < order.index(INDEX)
    ranks = [group.rank for group in plan(shop.site().entries()).groups]
    assert ranks == sorted(ranks)
    assert ranks[-1] == Rank.INDEX


class FixedSigner:
    """A signer whose signatures can be told by the content."""

    long_id = "0123456789ABCDEF"

    def public_key(self) -> bytes:
        return b"key"

    def clear_signed(self, content: bytes) -> bytes:
        return b"signed " + content

    def detached(self, content: bytes) -> bytes:
        return hashlib.sha256(content).hexdigest().encode()

    def detached_file(self, file: PublishedFile) -> bytes:
        return file.sha256.encode()


def test_a_stale_signature_or_twin_never_stays(shop: Shop, target: Path) -> None:
    """The peers' bug: a document is replaced and its .json.gz stays as it was."""
    shop.signer = FixedSigner()
    shop.export(target)
    assert (target / f"{INDEX}.gpg").exists()
    shop.signer = None
    shop.publish(named("web", made("ten")))
    shop.export(target, at=NOW)
    assert not (target / f"{INDEX}.gpg").exists()
    assert gzip.decompress((target / f"{INDEX}.gz").read_bytes()) == (target / INDEX).read_bytes()


def entries_of(*paths: str) -> list[Entry]:
    return [Document(path=path, media_type="text/html", render=bytes) for path in paths]


@pytest.mark.parametrize(
    "path",
    [
        "../x.html",
        "/etc/x.html",
        "a//b.html",
        "a/./b.html",
        "a\0.html",
        "x" * 300 + ".html",
        ".lxdocker-export/x.html",
    ],
)
def test_a_path_that_leaves_the_tree_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        plan(entries_of(path))


def test_pages_become_files_a_web_server_finds() -> None:
    planned = plan(entries_of("", "images/web", "images/db/", "about.html"))
    paths = {path for path in planned.paths if not path.endswith(".gz")}
    assert paths == {"index.html", "images/web/index.html", "images/db/index.html", "about.html"}


def test_a_broken_record_stops_the_export(shop: Shop, target: Path) -> None:
    shop.export(target)
    record = target / ".lxdocker-export" / "record.json"
    good = json.loads(record.read_text())
    for bad in (
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1, "files": {"a": {}}}',
        json.dumps(good | {"format": 2}),
        "[" * 100_000,
    ):
        record.write_text(bad)
        before = own_files(target)
        with pytest.raises(ExportRecordError):
            shop.export(target)
        assert own_files(target) == before


EXPORTED = st.builds(
    ExportedFile,
    sha256=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    size_bytes=st.none() | st.integers(0, 2**63),
    mtime_ns=st.none() | st.integers(0, 2**63),
    unlisted_at=st.none() | st.just(NOW),
)


@given(st.dictionaries(st.text().filter(is_tree_path), EXPORTED))
def test_a_record_reads_back_as_it_was_written(files: dict[str, ExportedFile]) -> None:
    assert parse(render(files), name="record") == files


STRANGE_NAMES = [
    "../victim/shadow",
    "a/../../victim/shadow",
    "{victim}/shadow",
    "images/../../victim/shadow",
    "",
    ".",
    "..",
    "a//b",
    "a/",
    "./a",
    "a\0b",
    ".lxdocker-export/lock",
    ".lxdocker-export/record.json",
    "x" * 300,
]


def unlisted_for_long(*names: str) -> str:
    """The record of an export that made these files, which left the tree long ago."""
    at = "2020-01-01T00:00:00+00:00"
    fields = {"sha256": None, "size_bytes": None, "mtime_ns": None, "unlisted_at": at}
    return json.dumps({"format": 1, "files": dict.fromkeys(names, fields)})


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the export, which must be the same afterwards."""
    place = tmp_path / "victim"
    for name in ("shadow", "new/shadow", "signatures/shadow"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("precious")
    yield place
    found = {path.relative_to(place): path.is_file() for path in place.rglob("*")}
    assert set(map(str, found)) == {
        *("shadow", "new", "new/shadow", "signatures", "signatures/shadow"),
    }


class TestForeignRecords:
    """What says which files are ours is believed only where nobody else can have written it."""

    @pytest.mark.parametrize("name", STRANGE_NAMES)
    def test_a_name_that_leads_out_of_the_tree_is_refused(
        self, shop: Shop, target: Path, victim: Path, name: str
    ) -> None:
        own = target / ".lxdocker-export"
        own.mkdir(parents=True)
        # An absolute path, too, leads to the victim: never to a file of this machine's.
        (own / "record.json").write_text(unlisted_for_long(name.format(victim=victim)))
        for dry_run in (True, False):
            with pytest.raises(ExportRecordError, match="can't be the path of an exported file"):
                shop.export(target, dry_run=dry_run)
        assert [path.name for path in target.iterdir()] == [".lxdocker-export"]

    def test_a_link_above_a_name_is_not_followed(
        self, shop: Shop, target: Path, victim: Path
    ) -> None:
        shop.export(target)
        (target / "gone").symlink_to(victim)
        record = target / ".lxdocker-export" / "record.json"
        document = json.loads(record.read_text())
        document["files"] |= json.loads(unlisted_for_long("gone/shadow", "gone/new/shadow"))[
            "files"
        ]
        record.write_text(json.dumps(document))
        shop.export(target)
        assert (victim / "shadow").exists()

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_a_state_directory_that_is_a_link_is_refused(
        self, shop: Shop, target: Path, victim: Path, *, dry_run: bool
    ) -> None:
        target.mkdir()
        (target / ".lxdocker-export").symlink_to(victim)
        with pytest.raises(UnsafeDirectoryError, match="it is a symbolic link") as caught:
            shop.export(target, dry_run=dry_run)
        assert "name another directory" in caught.value.hint

    @pytest.mark.parametrize("name", ["new", "lock", "record.json"])
    def test_a_link_inside_is_not_followed(
        self, shop: Shop, target: Path, victim: Path, name: str
    ) -> None:
        shop.export(target)
        place = target / ".lxdocker-export" / name
        if place.exists():
            place.unlink()
        place.symlink_to(victim if name == "new" else victim / "shadow")
        with pytest.raises(StorageError):
            shop.export(target)
        assert (victim / "shadow").read_text() == "precious"

    def test_a_state_directory_that_others_can_change_is_refused(
        self, shop: Shop, target: Path
    ) -> None:
        shop.export(target)
        (target / ".lxdocker-export").chmod(0o777)
        with pytest.raises(UnsafeDirectoryError, match="others can write to it") as caught:
            shop.export(target)
        assert "chmod go-w" in caught.value.hint

    @pytest.mark.parametrize("signatures", ["signatures", ".lxdocker-export"])
    def test_signatures_behind_a_link_are_neither_read_nor_removed(
        self, target: Path, victim: Path, signatures: str
    ) -> None:
        own = target / ".lxdocker-export"
        target.mkdir()
        if signatures == "signatures":
            own.mkdir()
            (own / "signatures").symlink_to(victim)
        else:
            own.symlink_to(victim)
        kept = SignatureDirectory(target, ".lxdocker-export", "signatures")
        refused = partial(pytest.raises, UnsafeDirectoryError, match="it is a symbolic link")
        with refused():
            kept.get("shadow")
        with refused():
            kept.put("a", b"b")
        with refused():
            kept.forget_unused()

    @pytest.mark.root
    @pytest.mark.parametrize("whose", ["tree", "state"])
    def test_root_refuses_a_tree_of_another_user(
        self, shop: Shop, target: Path, whose: str
    ) -> None:
        shop.export(target)
        before = own_files(target)
        os.chown(target if whose == "tree" else target / ".lxdocker-export", 65534, 65534)
        for dry_run in (True, False):
            with pytest.raises(UnsafeDirectoryError, match="belongs to nobody") as caught:
                shop.export(target, dry_run=dry_run)
            assert "as its owner" in caught.value.hint or "run it as nobody" in caught.value.hint
        assert own_files(target) == before

    @pytest.mark.root
    def test_root_refuses_a_tree_that_a_group_may_write_to(self, shop: Shop, target: Path) -> None:
        target.mkdir(mode=0o775)
        target.chmod(0o775)
        with pytest.raises(UnsafeDirectoryError, match="others can write"):
            shop.export(target)
        assert list(target.iterdir()) == []


KILLED = """
    import os, sys
    from pathlib import Path
    from tests.serve.shop import Shop
    from tests.serve.trees import NOW, made, named
    left = [int(sys.argv[3])]
    def dying(call):
        def counted(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)
            return call(*arguments, **named)
        return counted
    shop = Shop(Path(sys.argv[1]))
    for name in ("replace", "rename", "unlink", "fsync", "link", "mkdir", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))
    shop.export(Path(sys.argv[2]))
"""


def test_an_export_killed_at_any_step_leaves_a_valid_tree(
    shop: Shop, target: Path, tmp_path: Path
) -> None:
    """Before each call that changes the disk the process is killed; each time LXD's reader is content."""
    program = tmp_path / "killed.py"
    program.write_text(textwrap.dedent(KILLED))
    shop.export(target)
    shop.publish(named("web", made("one"), made("new", at=NOW)), named("other", made("more")))
    stride = 1 if os.environ.get("LXDOCKER_TEST_FULL") == "1" else 9
    checkout = Path(__file__).parents[2]
    for step in range(0, 400, stride):
        copy = tmp_path / f"www-{step}"
        shutil.copytree(target, copy)
        done = subprocess.run(
            [sys.executable, program, shop.directory.directory, copy, str(step)],
            check=False,
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
        )
        assert read_tree(copy, between=True) >= 2
        for path, content in own_files(copy).items():
            if path.endswith(".gz"):
                assert gzip.decompress(content) == (copy / path[:-3]).read_bytes()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        # The next run finishes it.
        shop.export(copy)
        assert read_tree(copy) == 3
        assert not any((copy / ".lxdocker-export" / "new").rglob("*"))
        assert shop.export(copy).count("written") == 0
        shutil.rmtree(copy)
    assert step > 40


def test_readers_lose_nothing_while_exports_go_on(shop: Shop, target: Path) -> None:
    shop.export(target)
    stop = threading.Event()
    rounds: list[int] = []
    failures: list[BaseException] = []

    def reading() -> None:
        while not stop.is_set():
            try:
                rounds.append(read_tree(target, between=True))
            except (AssertionError, OSError, KeyError, ValueError) as error:
                failures.append(error)

    thread = threading.Thread(target=reading)
    thread.start()
    try:
        for number in range(25):
            versions = (
                made(f"{number + n}", at=NOW + timedelta(minutes=number + n)) for n in (0, 1)
            )
            shop.publish(named("web", *versions))
            shop.export(target, at=NOW + timedelta(minutes=number))
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert len(rounds) > 5


@pytest.mark.root
def test_a_full_disk_leaves_the_tree_as_it_was(shop: Shop, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk)
    try:
        shop.export(disk / "www")
        before = own_files(disk / "www")
        (disk / "ballast").write_bytes(bytes((400 << 10) - 4096 - used(disk)))
        shop.publish(named("web", made("one"), made("more", at=NOW)), named("db", made("two")))
        with pytest.raises(StorageError, match="No space left") as caught:
            shop.export(disk / "www")
        assert "free some space" in caught.value.hint
        after = own_files(disk / "www")
        assert {path: after[path] for path in before} == before
        assert read_tree(disk / "www") == 2
        (disk / "ballast").unlink()
        shop.export(disk / "www")
        assert read_tree(disk / "www") == 3
    finally:
        run("umount", disk)


def used(disk: Path) -> int:
    """Bytes in use on a file system."""
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_an_export_of_nothing_is_a_tree_too(shop: Shop, target: Path) -> None:
    shop.publish()
    shop.export(target)
    assert json.loads((target / INDEX).read_text())["index"]["images"]["products"] == []


def test_a_site_with_files_only(shop: Shop, target: Path) -> None:
    file = made("one").files[0]
    entry = FileEntry(path="a/b", media_type="application/octet-stream", file=file)
    site = Site([entry], roots=[""], servable={})
    export(site, shop.directory, target, at=NOW, progress=Heard())
    assert own_files(target) == {"a/b": b"meta one"}


def test_the_command(shop: Shop, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*flags: str) -> int:
        published = ("--lxdimages", str(shop.directory.directory))
        return cli.main(cli.parser(), ["export", str(target), *published, *flags])

    assert command("--dry-run", "--format", "json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["dry_run"]
    assert not target.exists()
    assert command("--format", "json", "--progress", "json") == 0
    captured = capsys.readouterr()
    done = json.loads(captured.out)
    assert {one["path"] for one in done["changes"]} == {one["path"] for one in planned["changes"]}
    events = [json.loads(line)["event"] for line in captured.err.splitlines()]
    assert {"stage-started", "bytes-done"} <= set(events)
    assert command() == 0
    assert capsys.readouterr().out.startswith("0 files written, ")
    (target / "images" / "mine").write_text("mine")
    assert command("--url", "https://elsewhere.example") == 0
    assert "1.0/index.json" in capsys.readouterr().out
    (target / ".lxdocker-export" / "record.json").unlink()
    assert command() == 2
    assert "neither empty nor an export" in capsys.readouterr().err
    shop.directory.document.unlink()
    assert command() == 3
