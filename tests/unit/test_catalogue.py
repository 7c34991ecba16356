"""The catalogue as a value: publishing, retention, retirement; and its text."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import GRACE, Catalogue, LxcMount, LxcSettings, next_serial
from lxdocker_lxd.catalogue_document import CatalogueError, parse, render
from tests.unit.catalogues import START, hours, product, published_file, version


def publish(catalogue: Catalogue, content: str, hour: float, *, keep: int = 3) -> Catalogue:
    at = hours(hour)
    serial = next_serial(catalogue.product("web", "amd64"), at)
    added = version(content, serial=serial, at=at)
    return catalogue.published(product(), added, keep=keep, at=at)


def contents(catalogue: Catalogue) -> list[str]:
    found = catalogue.product("web", "amd64")
    return [one.rebuild_key.removeprefix("key of ") for one in found.versions] if found else []


def test_a_first_version_is_published() -> None:
    catalogue = publish(Catalogue(), "one", 0)
    found = catalogue.product("web", "amd64")
    assert found is not None
    assert found.newest.serial == "20260301_120000"
    assert found.newest.superseded_at is None
    assert catalogue.updated_at == START
    assert catalogue.product("web", "arm64") is None


def test_a_new_version_supersedes_the_one_before() -> None:
    catalogue = publish(publish(Catalogue(), "one", 0), "two", 1)
    found = catalogue.product("web", "amd64")
    assert found is not None
    assert [one.superseded_at for one in found.versions] == [hours(1), None]
    again = publish(catalogue, "three", 2).product("web", "amd64")
    assert again is not None
    assert [one.superseded_at for one in again.versions] == [hours(1), hours(2), None]


def test_three_versions_stay_and_older_ones_leave_after_a_day() -> None:
    catalogue = Catalogue()
    for number in range(6):
        catalogue = publish(catalogue, str(number), number)
    assert contents(catalogue) == ["0", "1", "2", "3", "4", "5"]
    assert contents(catalogue.retained(keep=3, at=hours(25))) == ["1", "2", "3", "4", "5"]
    assert contents(catalogue.retained(keep=3, at=hours(100))) == ["3", "4", "5"]
    assert contents(catalogue.retained(keep=1, at=hours(100))) == ["5"]
    assert contents(catalogue.retained(keep=0, at=hours(100))) == ["5"]


def test_files_that_left_the_listing_stay_for_a_day() -> None:
    catalogue = publish(publish(Catalogue(), "one", 0, keep=1), "two", 1, keep=1)
    later = catalogue.retained(keep=1, at=hours(30))
    assert contents(later) == ["two"]
    assert {old.file.path for old in later.retired} == {
        published_file("metadata", "meta one").path,
        published_file("rootfs", "root one").path,
    }
    assert len(later.servable()) == 4
    assert later.forgotten(at=hours(53)) == (later, ())
    forgotten, gone = later.forgotten(at=hours(54))
    assert len(gone) == 2
    assert forgotten.retired == ()


def test_a_product_without_a_specification_goes_with_all_its_versions() -> None:
    catalogue = publish(publish(Catalogue(), "one", 0), "two", 1)
    gone = catalogue.without({("web", "amd64")}, at=hours(2))
    assert gone.products == ()
    assert len(gone.retired) == 4
    assert catalogue.without({("other", "amd64")}, at=hours(2)) is catalogue


def test_a_file_that_is_published_again_is_retired_no_more() -> None:
    catalogue = publish(Catalogue(), "one", 0)
    gone = catalogue.without({("web", "amd64")}, at=hours(1))
    again = publish(gone, "one", 30)
    assert again.retired == ()
    assert again.forgotten(at=hours(100))[1] == ()


def test_the_same_image_is_never_listed_twice_when_its_source_goes_back() -> None:
    catalogue = publish(publish(publish(Catalogue(), "one", 0), "two", 1), "one", 2)
    assert contents(catalogue) == ["two", "one"]
    found = catalogue.product("web", "amd64")
    assert found is not None
    assert found.newest.serial == "20260301_140000"


def test_serials_rise_when_the_clock_stands_still_or_goes_back() -> None:
    catalogue = publish(publish(publish(Catalogue(), "one", 0), "two", 0), "three", -1000)
    found = catalogue.product("web", "amd64")
    assert found is not None
    assert [one.serial for one in found.versions] == [
        "20260301_120000",
        "20260301_120001",
        "20260301_120002",
    ]


def test_a_clock_that_went_back_removes_nothing() -> None:
    catalogue = publish(publish(Catalogue(), "one", 0, keep=1), "two", 1, keep=1)
    assert contents(catalogue.retained(keep=1, at=hours(-9000))) == ["one", "two"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(-50, 50)), max_size=12))
def test_whatever_happens_nothing_recent_leaves_and_serials_rise(
    steps: list[tuple[str, float]],
) -> None:
    catalogue = Catalogue()
    hour = 0.0
    for content, ahead in steps:
        hour += ahead
        before = catalogue.product("web", "amd64")
        catalogue = publish(catalogue, content, hour, keep=2)
        found = catalogue.product("web", "amd64")
        assert found is not None
        serials = [one.serial for one in found.versions]
        assert serials == sorted(set(serials))
        assert len({one.fingerprint for one in found.versions}) == len(found.versions)
        assert contents(catalogue)[-1] == content
        for old in before.versions if before else ():
            kept = old.rebuild_key in {one.rebuild_key for one in found.versions}
            since = old.superseded_at or hours(hour)
            assert kept or hours(hour) - since >= GRACE
        on_disk = {file.path for file in catalogue.servable().values()}
        assert {file.path for file in catalogue.files()} <= on_disk
    assert parse(render(catalogue), file="catalogue.json") == catalogue


def test_the_text_is_stable_and_comes_back_exactly() -> None:
    catalogue = publish(publish(Catalogue(), "one", 0), "two", 1)
    catalogue = catalogue.published(
        product(name="db", architecture="arm64"),
        version("three"),
        keep=3,
        at=hours(2) + timedelta(microseconds=5),
    ).without({("web", "amd64")}, at=hours(3))
    text = render(catalogue)
    assert parse(text, file="x") == catalogue
    assert render(parse(text, file="x")) == text
    assert json.loads(text)["format"] == 1
    assert render(Catalogue()) == render(parse(render(Catalogue()), file="x"))


def test_keys_of_later_programs_are_ignored_within_one_format() -> None:
    catalogue = publish(Catalogue(), "one", 0)
    document = json.loads(render(catalogue))
    document["new"] = 1
    document["products"][0]["versions"][0]["new"] = {"x": []}
    assert parse(json.dumps(document).encode(), file="x") == catalogue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "catalogue format 2, expected 1"),
        (lambda d: d.pop("products"), "products: expected list"),
        (lambda d: d["products"][0].update(versions=[]), "versions: expected at least one"),
        (lambda d: d["products"].append(d["products"][0]), "web/amd64 is listed twice"),
        (
            lambda d: d["products"][0]["versions"][0]["files"][0].update(path="../secret"),
            "path: expected",
        ),
        (
            lambda d: d["products"][0]["versions"][0]["files"][0].update(path="images/.."),
            "path: expected",
        ),
        (
            lambda d: d["products"][0]["versions"][0]["files"][0].update(sha256="x"),
            "sha256: expected",
        ),
        (
            lambda d: d["products"][0]["versions"][0]["files"][0].update(size_bytes=-1),
            "size_bytes: expected a size",
        ),
        (
            lambda d: d["products"][0]["versions"][0].update(published_at="yesterday"),
            "published_at: expected a UTC time",
        ),
        (
            lambda d: d["products"][0]["versions"][0].update(published_at="2026-03-01T00:00:00"),
            "published_at: expected a UTC time",
        ),
        (
            lambda d: d["products"][0]["versions"][0].update(
                published_at="0001-01-01T00:00:00+14:00"
            ),
            "published_at: expected a UTC time",
        ),
        (
            lambda d: d["products"][0]["versions"][0].update(serial="99999999_999999"),
            "serial: 99999999_999999 is no date and time",
        ),
    ],
)
def test_a_broken_catalogue_is_refused_with_the_field(change: object, message: str) -> None:
    document = json.loads(render(publish(Catalogue(), "one", 0)))
    assert callable(change)
    change(document)
    with pytest.raises(CatalogueError) as caught:
        parse(json.dumps(document).encode(), file="dir/catalogue.json")
    assert message in caught.value.message
    assert caught.value.message.startswith("dir/catalogue.json: ")
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_catalogue_is_refused(content: bytes) -> None:
    with pytest.raises(CatalogueError):
        parse(content, file="x")


def test_described_changes_only_what_differs() -> None:
    catalogue = publish(Catalogue(), "one", 0)
    found = catalogue.product("web", "amd64")
    assert found is not None
    assert catalogue.described(found, at=hours(1)) is catalogue
    renamed = catalogue.described(replace(found, aliases=("w",)), at=hours(1))
    assert renamed.products[0].aliases == ("w",)
    assert renamed.updated_at == hours(1)


def test_settings_for_lxc_are_optional_and_survive() -> None:
    settings = LxcSettings(
        uid=1000,
        gid=50,
        groups=(60, 70),
        home="/home/web",
        stop_signal=3,
        tmpfs=(LxcMount(path="/run", mode=0o755, uid=0, gid=0),),
    )
    catalogue = Catalogue(products=(product(replace(version("one"), lxc=settings)),))
    assert parse(render(catalogue), file="x") == catalogue
    without = Catalogue(products=(product(version("one")),))
    assert b'"lxc"' not in render(without)
    broken = render(catalogue).replace(b'"groups":[60,70]', b'"groups":[60,"x"]')
    with pytest.raises(CatalogueError, match="groups: expected a list of numbers"):
        parse(broken, file="x")
