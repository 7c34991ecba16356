"""Volumes: words, names that are found again, one volume a path."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.launching.volumes import (
    VolumeWish,
    automatic_name,
    volume_devices,
    wanted_volumes,
)
from lxdocker_lxd.lxd.records import disk_paths

paths = st.lists(
    st.from_regex(r"[A-Za-z0-9._ ü-]{1,12}", fullmatch=True), min_size=1, max_size=5
).map(lambda parts: "/" + "/".join(parts))
names = st.from_regex(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", fullmatch=True)


def test_words() -> None:
    assert VolumeWish.parse("data:/var/lib/x/") == VolumeWish(name="data", path="/var/lib/x")
    wish = VolumeWish.parse("data:/srv:ro,nocopy")
    assert (wish.readonly, wish.copy) == (True, False)
    assert wish.device("pool") == {
        "type": "disk",
        "pool": "pool",
        "source": "data",
        "path": "/srv",
        "readonly": "true",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data",
        "data:",
        ":/x",
        "data:x",
        "data:/",
        "a/b:/x",
        "data:/x:rx",
        "/srv:/x",
        "d:/lxd-x",
        "d:/proc",
        "d:/proc/sys",
        "d:/sys",
        "d:/dev",
        "d:/dev/shm",
    ],
)
def test_what_is_no_volume(text: str) -> None:
    with pytest.raises(UsageError):
        VolumeWish.parse(text)


def test_a_named_volume_takes_the_place_of_the_automatic_one() -> None:
    named = [VolumeWish(name="mine", path="/data")]
    found = wanted_volumes("db", named, ["/data/inner", "/data", "/cache"])
    assert [(one.path, one.name) for one in found] == [
        ("/cache", "db-cache"),
        ("/data", "mine"),
        ("/data/inner", "db-data-inner"),
    ]
    # An outer path is mounted before what lies inside it.
    assert [one["path"] for one in volume_devices(found, "p").values()] == [
        "/cache",
        "/data",
        "/data/inner",
    ]


def test_two_volumes_at_one_path() -> None:
    twice = [VolumeWish(name=name, path="/data") for name in ("a", "b")]
    with pytest.raises(UsageError, match="two volumes"):
        wanted_volumes("db", twice, [])


def test_a_disk_of_a_profile_takes_the_place_of_the_automatic_one() -> None:
    """Both were mounted at one path, and the profile's content was copied into the volume."""
    disk = {"type": "disk", "source": "/srv", "path": "/data/"}
    held = disk_paths({"root": {"type": "disk", "path": "/"}, "d": disk, "eth0": {"type": "nic"}})
    assert held == {"/data": "d"}
    assert wanted_volumes("db", [], ["/data"], held) == ()
    with pytest.raises(UsageError, match="at /data: the device d of its profiles"):
        wanted_volumes("db", [VolumeWish(name="mine", path="/data")], [], held)


def test_automatic_names_of_two_instances_differ() -> None:
    """``/a/b`` of ``db`` and ``/b`` of ``db-a`` were one volume: one got the other's data."""
    assert automatic_name("db", "/a/b") == "db-a-b"
    assert automatic_name("db-a", "/b") != automatic_name("db", "/a/b")


@given(names, paths, paths)
def test_automatic_names_differ_and_are_lxd_s(name: str, one: str, other: str) -> None:
    assume(one != other)
    first, second = automatic_name(name, one), automatic_name(name, other)
    assert first != second
    for found in (first, second):
        assert VolumeWish.parse(f"{found}:/x").name == found
