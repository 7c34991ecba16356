"""What each storage driver's snapshots are, by the table, and the simulated LXD by the same rules."""

import pytest

from lxdocker_lxd.lxd.failures import (
    AbsentError,
    NameTakenError,
    NoSpaceError,
    OperationGoneError,
    RefusedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.lxd.rehearsed_lxd import RehearsedLxd
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import StoragePool, Volume
from lxdocker_lxd.lxd.storage_drivers import SnapshotRules, snapshot_rules
from tests.harness.simulated_lxd import Behaviour, Fault, SimulatedLxd

DEVICE = {"type": "disk", "pool": "p", "source": "data", "path": "/data"}


def pool(driver: str, config: Config | None = None) -> StoragePool:
    return StoragePool(name="p", driver=driver, config=config or {})


def lxd_with(
    driver: str, config: Config | None = None, *, writes: dict[str, bytes] | None = None
) -> SimulatedLxd:
    """A running instance with a volume in a pool of this driver."""
    lxd = SimulatedLxd()
    lxd.user.pools.create(pool(driver, config))
    lxd.user.volumes.create(Volume(pool="p", name="data", project="default"))
    image = lxd.add_image("1", behaviour=Behaviour(writes=writes or {"/data/rows": b"1"}))
    lxd.launch("db", image, devices={"data": DEVICE})
    return lxd


@pytest.mark.parametrize(
    ("driver", "config", "volume", "rules"),
    [
        ("dir", {}, {}, SnapshotRules(copies=True, restore_copies=True)),
        ("btrfs", {}, {}, SnapshotRules()),
        ("lvm", {}, {}, SnapshotRules()),
        ("lvm", {"lvm.use_thinpool": "false"}, {}, SnapshotRules(restore_copies=True)),
        ("zfs", {}, {}, SnapshotRules(only_newest=True)),
        (
            *("zfs", {"volume.zfs.remove_snapshots": "true"}, {}),
            SnapshotRules(only_newest=True, removes_newer=True),
        ),
        (
            *("zfs", {}, {"zfs.remove_snapshots": "true"}),
            SnapshotRules(only_newest=True, removes_newer=True),
        ),
        (
            *("zfs", {"volume.zfs.remove_snapshots": "true"}, {"zfs.remove_snapshots": "false"}),
            SnapshotRules(only_newest=True),
        ),
    ],
)
def test_the_rules_of_a_driver(
    driver: str, config: Config, volume: Config, rules: SnapshotRules
) -> None:
    held = Volume(pool="p", name="data", project="default", config=volume)
    assert snapshot_rules(pool(driver, config), held) == rules


def test_a_driver_nobody_knows_has_no_rules() -> None:
    assert snapshot_rules(pool("tomorrow")) is None


def test_zfs_restores_the_newest_snapshot_alone() -> None:
    lxd = lxd_with("zfs")
    for name in ("ours", "scheduled"):
        lxd.volumes.create_snapshot("p", "data", name)
    lxd.power.kill("db")
    with pytest.raises(WrongStateError):
        lxd.volumes.restore_snapshot("p", "data", "ours")
    lxd.volumes.delete_snapshot("p", "data", "scheduled")
    lxd.volumes.restore_snapshot("p", "data", "ours")


def test_zfs_that_may_removes_the_newer_ones() -> None:
    lxd = lxd_with("zfs", {"volume.zfs.remove_snapshots": "true"})
    for name in ("ours", "scheduled"):
        lxd.volumes.create_snapshot("p", "data", name)
    lxd.power.kill("db")
    lxd.volumes.restore_snapshot("p", "data", "ours")
    assert [one.name for one in lxd.volumes.snapshots("p", "data")] == ["ours"]


@pytest.mark.parametrize(("driver", "fits"), [("dir", False), ("btrfs", True)])
def test_a_snapshot_takes_room_where_it_is_a_copy(driver: str, *, fits: bool) -> None:
    lxd = lxd_with(driver, writes={"/data/rows": b"x" * 600})
    lxd.store.pool_bytes["p"] = 1000
    if fits:
        lxd.volumes.create_snapshot("p", "data", "s")
        return
    with pytest.raises(NoSpaceError):
        lxd.volumes.create_snapshot("p", "data", "s")
    assert lxd.volumes.snapshots("p", "data") == ()


def test_a_snapshot_may_be_listed_and_not_be_whole() -> None:
    """LXD died while it made it: whoever finds one he didn't see made must not restore it."""
    lxd = lxd_with("dir", writes={"/data/a": b"1", "/data/b": b"1"})
    lxd.log.faults[1] = Fault.LXD_KILLED
    with pytest.raises(OperationGoneError):
        lxd.volumes.create_snapshot("p", "data", "s")
    assert [one.name for one in lxd.volumes.snapshots("p", "data")] == ["s"]
    lxd.power.kill("db")
    lxd.volumes.restore_snapshot("p", "data", "s")
    assert lxd.volume_files("data", pool="p") == {"/a": b"1"}


def test_a_restore_that_was_cut_short_is_made_good_by_another() -> None:
    lxd = lxd_with("dir", writes={"/data/a": b"1", "/data/b": b"1"})
    lxd.volumes.create_snapshot("p", "data", "s")
    new = lxd.add_image("2", behaviour=Behaviour(writes={"/data/a": b"2", "/data/b": b"2"}))
    lxd.user.power.kill("db")
    lxd.launch("db2", new, devices={"data": DEVICE})
    lxd.user.power.kill("db2")
    assert lxd.volume_files("data", pool="p") == {"/a": b"2", "/b": b"2"}
    lxd.log.restart_count()
    lxd.log.faults[1] = Fault.LXD_KILLED
    with pytest.raises(OperationGoneError):
        lxd.volumes.restore_snapshot("p", "data", "s")
    assert lxd.volume_files("data", pool="p") == {"/a": b"1", "/b": b"2"}
    lxd.volumes.restore_snapshot("p", "data", "s")
    assert lxd.volume_files("data", pool="p") == {"/a": b"1", "/b": b"1"}


def test_a_rehearsal_shows_the_requests_and_sends_none() -> None:
    lxd = lxd_with("dir")
    lxd.user.volumes.create_snapshot("p", "data", "of-user")
    told: list[Request] = []
    volumes = RehearsedLxd(lxd, lambda request, _before, _after: told.append(request)).volumes
    volumes.create_snapshot("p", "data", "ours", target="n1")
    assert [one.name for one in volumes.snapshots("p", "data", target="n1")] == ["of-user", "ours"]
    with pytest.raises(NameTakenError):
        volumes.create_snapshot("p", "data", "of-user")
    volumes.restore_snapshot("p", "data", "ours", target="n1")
    volumes.delete_snapshot("p", "data", "ours", target="n1")
    with pytest.raises(AbsentError):
        volumes.restore_snapshot("p", "data", "ours", target="n1")
    path = "storage-pools/p/volumes/custom/data"
    assert [(one.method, one.path) for one in told] == [
        ("post", f"{path}/snapshots"),
        ("put", path),
        ("delete", f"{path}/snapshots/ours"),
    ]
    assert {one.params["target"] for one in told} == {"n1"}
    assert [one.name for one in lxd.user.volumes.snapshots("p", "data")] == ["of-user"]
    held = volumes.get("p", "data")
    assert volumes.list("p")
    with pytest.raises(RefusedError):
        volumes.create(held)
    with pytest.raises(RefusedError):
        volumes.edit(held)
    with pytest.raises(RefusedError):
        volumes.delete("p", "data")


def test_a_snapshot_is_made_on_the_member_that_has_the_volume() -> None:
    lxd = SimulatedLxd()
    lxd.set_members("n1", "n2")
    lxd.user.volumes.create(Volume(pool="default", name="data", project="default"), target="n2")
    lxd.volumes.create_snapshot("default", "data", "s", target="n2")
    with pytest.raises(AbsentError):
        lxd.volumes.restore_snapshot("default", "data", "s", target="n1")
