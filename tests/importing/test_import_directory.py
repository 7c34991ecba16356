"""The directory of imports: specifications a user may edit, records several processes change."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.importing.import_directory import ImportDirectory, spec_text
from lxdocker_lxd.importing.import_record import ImportsError, with_record
from lxdocker_lxd.reference import parse_source
from lxdocker_lxd.spec import parse_spec
from tests.importing.test_import_record import ONE

PROCESSES = 8


@pytest.mark.parametrize("image", ["nginx:1.25", 'oci:/srv/a "b"\\c', "oci:/srv/ü", "oci:/a: b"])
def test_a_written_specification_is_one(image: str) -> None:
    spec = parse_spec(spec_text(image, "arm64"), name="x", file="x.yaml")
    assert spec.image == parse_source(image)
    assert [one.lxd_architecture for one in spec.architectures] == ["arm64"]
    assert parse_spec(spec_text(image), name="x", file="x.yaml").architectures == ()


def test_what_a_user_wrote_into_it_stays(tmp_path: Path) -> None:
    directory = ImportDirectory(tmp_path)
    assert directory.write_spec("nginx", "nginx")
    path = directory.specs / "nginx.yaml"
    path.write_text(path.read_text() + "env: {A: b}\n")
    assert not directory.write_spec("nginx", "nginx")
    assert "env: {A: b}" in path.read_text()


def test_records_of_several_writers_all_arrive(tmp_path: Path) -> None:
    def write(number: int) -> None:
        record = replace(ONE, name=f"n{number}")
        ImportDirectory(tmp_path).change(lambda records: with_record(records, record))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {record.name for record in ImportDirectory(tmp_path).records()}
    assert names == {f"n{number}" for number in range(PROCESSES)}


def test_a_damaged_file_is_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "imports.json").write_text("{")
    with pytest.raises(ImportsError, match=r"imports\.json"):
        ImportDirectory(tmp_path).records()
    assert (tmp_path / "imports.json").read_text() == "{"


def test_nothing_was_imported_yet(tmp_path: Path) -> None:
    assert ImportDirectory(tmp_path / "none").records() == ()
