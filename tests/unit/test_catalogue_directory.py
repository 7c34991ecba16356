"""The catalogue on disk: whole for every reader, swept only of what is unused."""

import os
import threading
from pathlib import Path

import pytest

from lxdocker_lxd.catalogue import Catalogue, PublishedFile
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.catalogue_document import CatalogueError
from lxdocker_lxd.errors import StorageError
from tests.unit.catalogues import hours, product, version


@pytest.fixture
def directory(tmp_path: Path) -> CatalogueDirectory:
    found = CatalogueDirectory(tmp_path / "lxdimages")
    with found.writing():
        return found


def put(directory: CatalogueDirectory, file: PublishedFile, content: str) -> None:
    temporary = directory.images / ".tmp-x"
    temporary.write_text(content)
    directory.place(temporary, file)


def publish(directory: CatalogueDirectory, content: str, hour: float, *, keep: int = 3) -> None:
    at = hours(hour)
    added = version(content, serial=at.strftime("%Y%m%d_%H%M%S"), at=at)
    for file, text in zip(added.files, (f"meta {content}", f"root {content}"), strict=True):
        put(directory, file, text)
    directory.change(lambda before: before.published(product(), added, keep=keep, at=at))


def names(directory: CatalogueDirectory) -> set[str]:
    return {path.name for path in directory.images.iterdir()}


def test_a_directory_that_does_not_exist_reads_as_empty(tmp_path: Path) -> None:
    assert CatalogueDirectory(tmp_path / "none").read() == Catalogue()


def test_whoever_serves_may_read_what_somebody_with_a_strict_umask_publishes(
    tmp_path: Path,
) -> None:
    before = os.umask(0o077)
    try:
        directory = CatalogueDirectory(tmp_path / "lxdimages")
        with directory.writing():
            publish(directory, "one", 0)
        made = CatalogueDirectory(tmp_path / "closed")
        made.directory.mkdir()
        with made.writing():
            pass
    finally:
        os.umask(before)
    for path in (directory.directory, directory.images, directory.document, made.images):
        assert path.stat().st_mode & 0o044 == 0o044, path
    # What was there keeps the mode that its owner chose.
    assert made.directory.stat().st_mode & 0o777 == 0o700


def test_what_was_published_is_read_by_another_reader_and_verifies(
    directory: CatalogueDirectory,
) -> None:
    publish(directory, "one", 0)
    other = CatalogueDirectory(directory.directory)
    assert other.read() == directory.read()
    assert other.read().products[0].newest.size_bytes == 16
    assert other.verify() == ()
    assert all(other.holds(file) for file in other.read().files())


def test_verify_finds_a_changed_a_missing_and_a_swapped_file(directory: CatalogueDirectory) -> None:
    publish(directory, "one", 0)
    publish(directory, "two", 1)
    one, two = directory.read().products[0].versions
    directory.path(one.files[0]).write_text("meta eno")
    directory.path(two.files[1]).unlink()
    findings = directory.verify()
    assert {finding.serial for finding in findings} == {one.serial, two.serial}
    problems = "\n".join(finding.problem for finding in findings)
    assert "got 8 bytes with sha256" in problems
    assert "No such file or directory" in problems
    assert f"expected fingerprint {one.fingerprint}" in problems
    assert not directory.holds(two.files[1])


def test_files_no_catalogue_names_are_collected_and_others_stay(
    directory: CatalogueDirectory,
) -> None:
    publish(directory, "one", 0, keep=1)
    foreign = {"holiday.jpg", "a" * 64, "a" * 64 + ".squashfs.bak", "subdirectory"}
    killed, fresh = "b" * 64 + ".squashfs", "c" * 64 + ".meta.tar"
    (directory.images / "subdirectory").mkdir()
    for name in (*foreign - {"subdirectory"}, killed, fresh):
        (directory.images / name).write_text("x" * 100)
        os.utime(
            directory.images / name, times=(0, hours(-30 if name != fresh else -1).timestamp())
        )
    assert directory.collect(hours(0)) == 100
    listed = {Path(file.path).name for file in directory.read().files()}
    assert names(directory) == listed | foreign | {fresh}
    assert directory.verify() == ()


def test_a_retired_file_is_collected_after_a_day(directory: CatalogueDirectory) -> None:
    publish(directory, "one", 0, keep=1)
    publish(directory, "two", 1, keep=1)
    directory.change(lambda before: before.retained(keep=1, at=hours(26)))
    directory.collect(hours(26))
    assert len(names(directory)) == 4
    assert directory.collect(hours(51)) == 16
    assert names(directory) == {Path(file.path).name for file in directory.read().files()}


def test_a_new_writer_removes_what_a_killed_one_left(directory: CatalogueDirectory) -> None:
    (directory.images / ".tmp-abc").write_text("half")
    (directory.directory / ".tmp-def").write_text("half")
    with directory.writing():
        assert not (directory.images / ".tmp-abc").exists()
        assert not (directory.directory / ".tmp-def").exists()


def test_a_second_writer_waits_and_says_so(directory: CatalogueDirectory) -> None:
    waited = threading.Event()
    done = threading.Event()

    def second() -> None:
        with CatalogueDirectory(directory.directory).writing(lambda _: waited.set()):
            done.set()

    with directory.writing():
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        assert not done.is_set()
    thread.join(10)
    assert done.is_set()


def test_readers_see_one_whole_catalogue_after_the_other(directory: CatalogueDirectory) -> None:
    publish(directory, "0", 0)
    reader = CatalogueDirectory(directory.directory)
    stop = threading.Event()
    seen: tuple[list[str], list[str]] = ([], [])
    failures: list[Exception] = []

    def read(mine: list[str]) -> None:
        while not stop.is_set():
            try:
                mine.append(reader.read().products[0].newest.serial)
            except (CatalogueError, StorageError) as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for number in range(1, 30):
        publish(directory, str(number), number * 30, keep=2)
        directory.collect(hours(number * 30))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(mine == sorted(mine) for mine in seen)


def test_the_files_of_any_catalogue_read_within_a_day_are_there(
    directory: CatalogueDirectory,
) -> None:
    listings: list[tuple[float, Catalogue]] = []
    for number in range(40):
        publish(directory, str(number), number * 5, keep=1)
        directory.collect(hours(number * 5))
        listings.append((number * 5, directory.read()))
        recent = [listing for hour, listing in listings if number * 5 - hour < 24]
        assert all(directory.holds(file) for listing in recent for file in listing.files())
    assert len(names(directory)) < 40


def test_a_catalogue_that_is_a_directory_is_a_storage_error(directory: CatalogueDirectory) -> None:
    directory.document.mkdir()
    with pytest.raises(StorageError):
        directory.read()
