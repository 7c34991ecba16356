"""Volumes that an update snapshots because a key says so: which, what is refused, what comes back."""

from dataclasses import dataclass

import pytest

from lxdocker_lxd.lxd.calls import Command, CommandResult, GuestFile
from lxdocker_lxd.lxd.records import Config, Devices
from lxdocker_lxd.lxd.resources import Project, StoragePool, Volume
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rehearsal import Rehearsal
from lxdocker_lxd.update.transaction import VolumeName
from lxdocker_lxd.update.volume_policy import VOLUMES_KEY, mounted_volumes
from lxdocker_lxd.update.volume_selection import select_volumes
from tests.harness.simulated_lxd import Behaviour, Call
from tests.update.test_rounds import AUTO, House

ROWS = "/data/rows"
NOBODY: frozenset[tuple[str, str]] = frozenset()


def disk(source: str = "data", path: str = "/data", *, pool: str = "p") -> dict[str, str]:
    return {"type": "disk", "pool": pool, "source": source, "path": path}


@dataclass
class Shop(House):
    """A house with a database whose second version migrates the data and then ends."""

    driver: str = "dir"
    held_bytes: bytes | None = b"4\t/data\n"

    def __post_init__(self) -> None:
        self.lxd.user.pools.create(StoragePool(name="p", driver=self.driver))
        for name in ("data", "more"):
            self.lxd.user.volumes.create(Volume(pool="p", name=name, project="default"))
        self.version("one", {})
        self.asked: list[str] = []

    def version(self, version: str, writes: dict[str, bytes], *, good: bool = True) -> str:
        behaviour = Behaviour(
            writes=writes,
            ends_after_seconds=None if good else 0.5,
            answer=self.answer,
        )
        return self.lxd.add_image(version, alias="app", behaviour=behaviour)

    def answer(self, command: Command, _seconds: float) -> CommandResult | None:
        if command.words[1:2] != ("du",):
            return None
        self.asked.append(command.words[-1])
        code = 127 if self.held_bytes is None else 0
        return CommandResult(exit_code=code, stdout=self.held_bytes or b"", stderr=b"")

    def database(self, devices: Devices | None = None, config: Config | None = None) -> None:
        keys = {**AUTO, VOLUMES_KEY: "snapshot", "user.lxdocker.image": "local|app"}
        fingerprint = self.lxd.user.aliases.get("app").fingerprint
        own = {"data": disk()} if devices is None else devices
        self.lxd.launch("db", fingerprint, config={**keys, **(config or {})}, devices=own)
        file = GuestFile(content=b"rows of one")
        self.lxd.user.guests.write_file("db", ROWS, file)

    def rows(self, name: str = "data") -> dict[str, bytes]:
        return self.lxd.volume_files(name, pool="p")

    def snapshots(self, name: str = "data") -> list[str]:
        return [one.name for one in self.lxd.user.volumes.snapshots("p", name)]

    def problem(self, stopped: frozenset[tuple[str, str]] = NOBODY) -> str:
        return select_volumes(self.lxd, self.lxd.user.instances.get("db"), stopped).problem


@pytest.mark.parametrize("driver", ["dir", "btrfs", "zfs", "lvm"])
def test_a_version_that_migrates_and_fails_leaves_the_rows_as_they_were(driver: str) -> None:
    shop = Shop(driver=driver)
    shop.database()
    shop.version("two", {ROWS: b"migrated", "/data/format": b"2"}, good=False)
    (outcome,) = shop.run().outcomes
    assert outcome.act is Act.ROLLED_BACK
    assert shop.rows() == {"/rows": b"rows of one"}
    assert shop.lxd.user.guests.read_file("db", ROWS).content == b"rows of one"
    assert shop.snapshots() == []


def test_without_the_key_the_migration_stays() -> None:
    shop = Shop()
    shop.database(config={VOLUMES_KEY: ""})
    shop.version("two", {ROWS: b"migrated"}, good=False)
    shop.run()
    assert shop.rows() == {"/rows": b"migrated"}


def test_a_good_version_keeps_what_it_wrote_and_the_snapshots_as_long_as_the_copy() -> None:
    shop = Shop()
    shop.database()
    shop.version("two", {ROWS: b"migrated"})
    (outcome,) = shop.run().outcomes
    assert (outcome.act, shop.rows()) == (Act.COMMITTED, {"/rows": b"migrated"})
    assert len(shop.snapshots()) == 1


def test_only_disks_that_it_may_write_to_are_snapshotted() -> None:
    devices = {
        "root": {"type": "disk", "path": "/", "pool": "p"},
        "data": disk(),
        "again": disk(path="/again"),
        "read": disk("more", "/more") | {"readonly": "true"},
        "host": {"type": "disk", "source": "/srv", "path": "/srv"},
        "vm": disk("other", "/other") | {"source.type": "virtual-machine"},
        "old": disk("other", "/old") | {"source.snapshot": "s"},
        "eth0": {"type": "nic", "network": "br0"},
        "masked": {"type": "none"},
    }
    assert [one.volume for one in mounted_volumes(devices)] == [VolumeName(pool="p", name="data")]


def test_a_profile_may_ask_for_it_and_bring_the_volume() -> None:
    shop = Shop()
    shop.database(devices={"data": disk(), "more": disk("more", "/more")})
    selection = select_volumes(shop.lxd, shop.lxd.user.instances.get("db"), NOBODY)
    assert [one.name for one in selection.volumes] == ["data", "more"]


# ---- what is refused, before anything is stopped


def refused(shop: Shop) -> str:
    shop.version("two", {ROWS: b"migrated"}, good=False)
    report = shop.run()
    assert not report.outcomes
    assert shop.rows() == {"/rows": b"rows of one"}
    refusals = [one.reason for one in report.decisions if one.choice is Choice.REFUSE]
    return str([*report.problems, *refusals][0])


def test_a_key_that_nobody_understands() -> None:
    shop = Shop()
    shop.database(config={VOLUMES_KEY: "snapshots"})
    assert "'snapshots' isn't snapshot" in refused(shop)


@pytest.mark.parametrize("start", [True, False])
def test_a_volume_that_another_instance_uses_too(*, start: bool) -> None:
    shop = Shop()
    shop.database()
    fingerprint = shop.image("db")
    shop.lxd.launch("reader", fingerprint, devices={"data": disk()}, start=start)
    assert "the volume data of pool p is used by reader as well" in refused(shop)


def test_an_instance_of_the_same_name_in_another_project_is_another_one() -> None:
    shop = Shop()
    shop.database()
    shop.lxd.user.projects.create(Project(name="q", config={"features.storage.volumes": "false"}))
    other = shop.lxd.add_image("other", project="q")
    root = {"type": "disk", "path": "/", "pool": "p"}
    devices = {"root": root, "data": disk()}
    shop.lxd.launch("db", other, devices=devices, project="q", start=False)
    assert "is used by db (project q) as well" in refused(shop)


def test_what_depends_on_it_is_stopped_with_it_and_may_share_the_volume() -> None:
    shop = Shop(driver="btrfs")
    shop.database()
    fingerprint = shop.lxd.add_image("web", behaviour=Behaviour())
    keys = {**AUTO, "user.lxdocker.depends": "db", "user.lxdocker.update.pin": fingerprint}
    keys["user.lxdocker.image"] = "local|web"
    shop.lxd.user.aliases.create("web", fingerprint)
    shop.lxd.launch("web", fingerprint, config=keys, devices={"data": disk()})
    before = shop.rows()
    shop.version("two", {ROWS: b"migrated"}, good=False)
    (outcome,) = shop.run().outcomes
    assert (outcome.act, shop.rows()) == (Act.ROLLED_BACK, before)
    assert shop.lxd.user.instances.get("web").running


def test_one_that_started_with_the_volume_meanwhile_ends_the_update_without_blame() -> None:
    """What it writes would be lost with a restore."""
    shop = Shop(driver="btrfs")
    shop.database()
    shop.version("two", {ROWS: b"migrated"})
    old = shop.image("db")

    def launch_other(call: Call) -> None:
        if (call.name, call.subject) == ("power.stop", "db"):
            shop.lxd.log.after = lambda _call: None
            shop.lxd.launch("other", old, devices={"data": disk()})

    shop.lxd.log.after = launch_other
    (outcome,) = shop.run().outcomes
    assert (outcome.act, outcome.blame) == (Act.ROLLED_BACK, False)
    assert "other runs with it" in outcome.reason
    assert (shop.image("db"), shop.snapshots()) == (old, [])


def test_a_driver_whose_rules_nobody_knows() -> None:
    shop = Shop(driver="tomorrow")
    shop.database()
    assert "driver tomorrow" in refused(shop)


def test_zfs_with_a_schedule_that_could_make_a_newer_snapshot() -> None:
    shop = Shop(driver="zfs")
    shop.database()
    held = shop.lxd.user.volumes.get("p", "data")
    for config, wrong in (
        ({"snapshots.schedule": "@hourly"}, True),
        ({"snapshots.schedule": "@hourly", "zfs.remove_snapshots": "true"}, False),
        ({}, False),
    ):
        held = shop.lxd.user.volumes.get("p", "data")
        shop.lxd.user.volumes.edit(
            Volume(pool="p", name="data", project="default", config=config, etag=held.etag)
        )
        assert ("snapshots.schedule may make a newer snapshot" in shop.problem()) is wrong


def test_a_volume_that_is_not_there_or_cant_be_read() -> None:
    shop = Shop()
    shop.database()
    del shop.lxd.store.volumes["default", "p", "data"]
    assert shop.problem().startswith(f"{VOLUMES_KEY}: ")


@pytest.mark.parametrize(
    ("held", "free", "fits"),
    [
        # As the instance counts it, in KiB.
        (b"300000\t/data\n", 400 << 20, True),
        (b"300000\t/data\n", 300 << 20, False),
        # Nobody can say: all that the pool holds might be this volume.
        (None, 400 << 20, False),
        (None, 700 << 20, True),
        (b"many", 400 << 20, False),
        (b"9" * 5000, 400 << 20, False),
    ],
)
def test_a_pool_that_copies_needs_room_for_the_copy(
    held: bytes | None, free: int, *, fits: bool
) -> None:
    shop = Shop(held_bytes=held)
    shop.database()
    used = 500 << 20
    shop.lxd.store.used_bytes = lambda _pool: used  # type: ignore[assignment,method-assign] # a full pool
    shop.lxd.store.pool_bytes["p"] = used + free
    problem = shop.problem()
    assert (problem == "") is fits, problem
    assert shop.asked == ["/data"]
    assert fits or "snapshots are copies in the pool p" in problem


def test_a_pool_that_shares_needs_none_and_nothing_is_counted() -> None:
    shop = Shop(driver="btrfs")
    shop.database()
    assert (shop.problem(), shop.asked) == ("", [])


def test_the_plan_names_each_snapshot() -> None:
    shop = Shop(driver="btrfs")
    shop.database()
    shop.version("two", {ROWS: b"migrated"})
    rehearsal = Rehearsal(shop.lxd, (), shop.lxd.clock)
    rehearsal.round(frozenset())
    paths = [call.path for call in rehearsal.calls if "snapshots" in call.path]
    assert paths == ["/1.0/storage-pools/p/volumes/custom/data/snapshots?project=default"]
    assert shop.snapshots() == []
