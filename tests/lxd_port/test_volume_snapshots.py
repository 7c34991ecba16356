"""Snapshots of volumes: made, listed, restored while nobody looks, deleted; on ``dir`` and ``btrfs``."""

import pytest

from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.failures import AbsentError, InUseError, NameTakenError, RefusedError
from lxdocker_lxd.lxd.records import Devices
from lxdocker_lxd.lxd.resources import Volume
from lxdocker_lxd.lxd.storage_drivers import snapshot_rules
from tests.lxd_port.site import Site, settings

ROWS = "/data/rows"


@pytest.fixture(params=["dir", "btrfs"])
def pool(request: pytest.FixtureRequest, site: Site) -> str:
    """A pool of each driver with the volume ``data``."""
    name = site.pool(request.param)
    site.lxd.volumes.create(Volume(pool=name, name="data", project="default"))
    return name


def mounted(pool: str) -> Devices:
    return {"data": {"type": "disk", "pool": pool, "source": "data", "path": "/data"}}


def write(site: Site, content: str, *, name: str = "db", path: str = ROWS) -> None:
    site.lxd.guests.write_file(name, path, GuestFile(content=content.encode()))


def read(site: Site, *, name: str = "db", path: str = ROWS) -> str:
    return site.lxd.guests.read_file(name, path).content.decode()


def test_what_was_written_since_is_gone_after_a_restore(site: Site, pool: str) -> None:
    volumes = site.lxd.volumes
    site.create("db", settings(devices=mounted(pool)), start=True)
    write(site, "old")
    volumes.create_snapshot(pool, "data", "before")
    write(site, "new")
    write(site, "migrated", path="/data/format")
    site.lxd.power.kill("db")
    volumes.create_snapshot(pool, "data", "after")
    volumes.restore_snapshot(pool, "data", "before")
    site.lxd.power.start("db")
    assert read(site) == "old"
    with pytest.raises(AbsentError):
        read(site, path="/data/format")
    # The newer one stayed, and can be had again.
    site.lxd.power.kill("db")
    volumes.restore_snapshot(pool, "data", "after")
    site.lxd.power.start("db")
    assert (read(site), read(site, path="/data/format")) == ("new", "migrated")


def test_a_stopped_instance_shows_nothing_of_a_volume(site: Site, pool: str) -> None:
    site.create("db", settings(devices=mounted(pool)), start=True)
    write(site, "old")
    site.lxd.power.kill("db")
    with pytest.raises(AbsentError):
        read(site)


def test_a_volume_is_restored_only_while_nothing_that_uses_it_runs(site: Site, pool: str) -> None:
    volumes = site.lxd.volumes
    for name in ("db", "other"):
        site.create(name, settings(devices=mounted(pool)))
    site.lxd.power.start("db")
    write(site, "old")
    volumes.create_snapshot(pool, "data", "before")
    write(site, "new")
    with pytest.raises(InUseError):
        volumes.restore_snapshot(pool, "data", "before")
    site.lxd.power.freeze("db")
    with pytest.raises(InUseError):
        volumes.restore_snapshot(pool, "data", "before")
    site.lxd.power.kill("db")
    site.lxd.power.start("other")
    with pytest.raises(InUseError):
        volumes.restore_snapshot(pool, "data", "before")
    assert read(site, name="other") == "new"
    site.lxd.power.kill("other")
    volumes.restore_snapshot(pool, "data", "before")
    site.lxd.power.start("other")
    assert read(site, name="other") == "old"


def test_snapshots_are_listed_in_the_order_they_were_made(site: Site, pool: str) -> None:
    volumes = site.lxd.volumes
    assert volumes.snapshots(pool, "data") == ()
    for name in ("c", "a", "b"):
        volumes.create_snapshot(pool, "data", name)
    held = volumes.snapshots(pool, "data")
    assert [one.name for one in held] == ["c", "a", "b"]
    assert {(one.pool, one.volume, one.project) for one in held} == {(pool, "data", "default")}
    # They are no volumes.
    assert [one.name for one in volumes.list(pool)] == ["data"]
    volumes.delete_snapshot(pool, "data", "a")
    assert [one.name for one in volumes.snapshots(pool, "data")] == ["c", "b"]
    # A volume goes with its snapshots.
    volumes.delete(pool, "data")
    assert volumes.list(pool) == ()


def test_a_snapshot_never_expires_whatever_the_volume_says(site: Site) -> None:
    config = {"snapshots.expiry": "1d"}
    site.lxd.volumes.create(Volume(pool="default", name="data", project="default", config=config))
    site.lxd.volumes.create_snapshot("default", "data", "before")
    (held,) = site.lxd.volumes.snapshots("default", "data")
    assert (held.expires_at, held.config) == (None, config)


def test_snapshots_that_are_not_there(site: Site, pool: str) -> None:
    volumes = site.lxd.volumes
    volumes.create_snapshot(pool, "data", "before")
    with pytest.raises(NameTakenError):
        volumes.create_snapshot(pool, "data", "before")
    with pytest.raises(RefusedError):
        volumes.create_snapshot(pool, "data", "a/b")
    for call in (volumes.restore_snapshot, volumes.delete_snapshot):
        with pytest.raises(AbsentError):
            call(pool, "data", "nope")
        with pytest.raises(AbsentError):
            call(pool, "nope", "before")
        with pytest.raises(AbsentError):
            call("nope", "data", "before")
    for where in ((pool, "nope"), ("nope", "data")):
        with pytest.raises(AbsentError):
            volumes.snapshots(*where)
        with pytest.raises(AbsentError):
            volumes.create_snapshot(*where, "before")


def test_the_rules_of_both_drivers(site: Site, pool: str) -> None:
    held = site.lxd.pools.get(pool)
    rules = snapshot_rules(held)
    assert rules is not None
    assert (rules.copies, rules.only_newest) == (held.driver == "dir", False)
