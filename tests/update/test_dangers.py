"""Single dangers that no other test is about: each is an item of the table in docs/updater.md."""

from dataclasses import replace

import pytest

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.lxd.failures import NoSpaceError
from lxdocker_lxd.lxd.resources import Project, Volume
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.journal_record import Entry
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import recover
from lxdocker_lxd.update.rejection import rejections_of
from lxdocker_lxd.update.source import SOURCE_KEY
from lxdocker_lxd.update.transaction import Transaction
from tests.harness.simulated_lxd import (
    REFUSES_TO_START,
    Behaviour,
    Call,
    KilledError,
    SimulatedLxd,
)
from tests.update.memory_journal import MemoryJournal
from tests.update.test_rounds import AUTO, House, watching


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    return house


def names(house: House) -> list[str]:
    return [one.name for one in house.lxd.user.instances.list()]


def acts(house: House, *only: str) -> list[Act]:
    return [one.act for one in house.run(*only).outcomes]


def writes(house: House) -> list[str]:
    return [str(call) for call in house.lxd.log.calls if call.writes]


# ---- A: the updater dies


def test_an_updater_killed_while_its_hook_runs_has_changed_nothing(house: House) -> None:
    house.local("web")
    old = house.image("web")
    house.lxd.add_image("two", alias="app")

    def die(_transaction: Transaction) -> None:
        raise KilledError

    house.before_outage = die
    with pytest.raises(KilledError):
        house.run()
    (ended,) = recover(house.lxd, house.updater(), house.journal)
    assert ended.act is Act.GIVEN_UP
    assert (names(house), house.image("web")) == (["web"], old)
    assert house.lxd.user.instances.get("web").running


# ---- B: LXD


def test_protection_from_starts_is_used_where_lxd_knows_it_and_isnt_left_behind() -> None:
    extensions = frozenset({"instance_protection_start"})
    house = House(lxd=SimulatedLxd(extensions=extensions))
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.lxd.add_image("two", alias="app")
    assert acts(house) == [Act.COMMITTED]
    config = {one.name: one.config for one in house.lxd.user.instances.list()}
    assert "security.protection.start" not in config.pop("web")
    (parked,) = config.values()
    assert parked["security.protection.start"] == "true"


def test_a_guest_that_doesnt_end_is_killed(house: House) -> None:
    house.lxd.add_image("deaf", alias="app", behaviour=Behaviour(stops=False))
    house.local("web")
    new = house.lxd.add_image("two", alias="app")
    assert acts(house) == [Act.COMMITTED]
    assert house.image("web") == new


# ---- C: images


def test_an_image_replaced_in_the_middle_is_the_next_rounds(house: House) -> None:
    house.local("web")
    second = house.lxd.add_image("two", alias="app")
    third: list[str] = []

    def replaced(call: Call) -> None:
        if call.name == "instances.create" and not third:
            third.append(house.lxd.add_image("three", alias="app"))

    house.lxd.log.after = replaced
    assert acts(house) == [Act.COMMITTED]
    assert house.image("web") == second
    assert acts(house) == [Act.COMMITTED]
    assert house.image("web") == third[0]
    assert acts(house) == []


def test_an_alias_that_is_gone_waits_and_one_that_moves_back_is_followed(house: House) -> None:
    house.local("web")
    first = house.image("web")
    house.lxd.add_image("two", alias="app")
    assert acts(house) == [Act.COMMITTED]
    house.lxd.user.aliases.delete("app")
    house.lxd.log.restart_count()
    assert acts(house) == []
    assert writes(house) == []
    (decision,) = house.rounds().plan()
    assert decision.choice is Choice.WAIT
    house.lxd.user.aliases.create("app", first)
    assert acts(house) == [Act.COMMITTED]
    assert house.image("web") == first


def test_the_same_content_published_again_is_no_update(house: House) -> None:
    house.local("web")
    house.lxd.user.aliases.delete("app")
    house.lxd.add_image("one", alias="app")
    assert acts(house) == []


def test_a_project_that_shares_the_default_images_is_followed(house: House) -> None:
    house.lxd.user.projects.create(
        Project(name="shop", config={"features.images": "false", "features.profiles": "false"})
    )
    held = house.lxd.user.aliases.get("app").fingerprint
    keys = {**AUTO, SOURCE_KEY: "local|app"}
    house.lxd.launch("web", held, config=keys, project="shop")
    new = house.lxd.add_image("two", alias="app")
    assert acts(house) == [Act.COMMITTED]
    assert house.lxd.user.instances.get("web", project="shop").base_image == new


# ---- D: resources


def test_a_project_without_room_for_one_more_instance_costs_no_outage(house: House) -> None:
    house.local("web")
    project = house.lxd.store.projects["default"]
    house.lxd.store.projects["default"] = replace(project, config={"limits.instances": "1"})
    house.lxd.add_image("two", alias="app")
    house.lxd.log.restart_count()
    report = house.run()
    assert (report.outcomes, writes(house)) == ((), [])
    assert report.bad


class FullDisk(MemoryJournal):
    """A journal whose disk is full."""

    def reserve(self) -> None:
        raise StorageError("write journal.jsonl: no space left", hint="make room")

    def append(self, entry: Entry) -> None:
        raise StorageError(f"write {entry.event}: no space left", hint="make room")


def test_without_room_for_its_journal_no_update_begins(house: House) -> None:
    house.local("web")
    house.local("db")
    house.lxd.add_image("two", alias="app")
    house.journal = FullDisk()
    house.lxd.log.restart_count()
    report = house.run()
    assert ([str(one) for one in report.problems], writes(house)) == (
        ["write journal.jsonl: no space left"],
        [],
    )


# ---- E: the new version


def test_a_configuration_that_lxd_doesnt_keep_turns_the_update_back(house: House) -> None:
    house.local("web", AUTO | {"user.mine": "1"})
    old = house.image("web")
    house.lxd.add_image("two", alias="app")

    def forget(call: Call) -> None:
        # What LXD, not a user, does to the last write of restoring, before anybody reads it.
        if call.name != "instances.replace" or call.subject != "web":
            return
        box = house.lxd.box("web")
        if '"phase":"restored"' in box.settings.config.get("user.lxdocker.transaction", ""):
            kept = {key: value for key, value in box.settings.config.items() if key != "user.mine"}
            box.settings = replace(box.settings, config=kept)

    house.lxd.log.after = forget
    (outcome,) = house.run().outcomes
    assert (outcome.act, "config user.mine" in outcome.reason) == (Act.ROLLED_BACK, True)
    assert house.image("web") == old


# ---- F: events


def test_a_thousand_events_at_once_are_one_round(house: House) -> None:
    house.local("web")
    new = house.lxd.add_image("two")

    def burst() -> None:
        for _ in range(500):
            alias = house.lxd.user.aliases.get("app")
            house.lxd.user.aliases.move(alias, alias.fingerprint)
            house.lxd.user.aliases.move(house.lxd.user.aliases.get("app"), new)

    rounds, _ = watching(house, 250, iter([(20.0, burst)]))
    assert house.ends == ["committed"]
    assert rounds <= 5


# ---- I: kinds of instances


def test_a_virtual_machine_takes_the_same_path(house: House) -> None:
    house.lxd.add_image("vm1", alias="vm", kind="virtual-machine")
    held = house.lxd.user.aliases.get("vm").fingerprint
    keys = {**AUTO, SOURCE_KEY: "local|vm"}
    house.lxd.launch("vm", held, config=keys, kind="virtual-machine")
    new = house.lxd.add_image("vm2", alias="vm", kind="virtual-machine")
    assert acts(house) == [Act.COMMITTED]
    found = house.lxd.user.instances.get("vm")
    assert (found.base_image, found.type, found.running) == (new, "virtual-machine", True)


@pytest.mark.parametrize(
    "keys",
    [
        {"security.protection.delete": "true"},
        {"security.nesting": "true", "security.privileged": "true"},
        {"raw.idmap": "both 1000 1000"},
        {"migration.stateful": "true", "snapshots.schedule": "@daily"},
    ],
)
def test_keys_that_make_an_instance_special_hold_afterwards(
    house: House, keys: dict[str, str]
) -> None:
    house.local("web", AUTO | keys)
    house.lxd.add_image("two", alias="app")
    assert acts(house) == [Act.COMMITTED]
    config = house.lxd.user.instances.get("web").config
    assert {key: config.get(key) for key in keys} == keys
    house.lxd.clock.advance(80 * 3600)
    house.run()
    protected = "security.protection.delete" in keys
    assert len(names(house)) == (2 if protected else 1)


def test_a_profile_edited_in_the_middle_counts(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")

    def edited(call: Call) -> None:
        if call.name == "instances.create":
            profile = house.lxd.user.profiles.get("default")
            house.lxd.user.profiles.edit(replace(profile, config={"limits.memory": "2GiB"}))

    house.lxd.log.after = edited
    assert acts(house) == [Act.COMMITTED]
    found = house.lxd.user.instances.get("web")
    assert found.expanded_config["limits.memory"] == "2GiB"
    assert "limits.memory" not in found.config


# ---- J: volumes and devices


def test_a_device_that_is_gone_when_it_starts_leaves_both_and_says_so(house: House) -> None:
    house.local("web")
    old = house.image("web")
    house.lxd.add_image("two", alias="app", behaviour=REFUSES_TO_START)
    house.lxd.box("web").guest.behaviour = REFUSES_TO_START
    (outcome,) = house.run().outcomes
    assert outcome.act is Act.HOLD
    assert old in {one.base_image for one in house.lxd.user.instances.list()}
    assert len(names(house)) == 2
    began = [entry for entry in house.journal.entries if entry.event == "begun"]
    for _ in range(5):
        house.lxd.clock.advance(3600)
        house.run()
    assert [entry for entry in house.journal.entries if entry.event == "begun"] == began


def test_a_pool_that_is_full_at_the_start_blames_nobody(house: House) -> None:
    house.local("web")
    old = house.image("web")
    new = house.lxd.add_image("two", alias="app")
    starts: list[str] = []

    def fill(call: Call) -> None:
        if call.name == "power.start" and house.image("web") == new:
            starts.append(call.subject)
            raise NoSpaceError("no space left on the pool")

    house.lxd.log.before = fill
    (outcome,) = house.run().outcomes
    assert (outcome.act, outcome.blame, starts) == (Act.ROLLED_BACK, False, ["web"])
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.status) == (old, "Running")
    assert rejections_of(web.config) == ()
    # With room again the same version is installed.
    house.lxd.log.before = lambda _call: None
    house.lxd.clock.advance(7 * 3600)
    assert acts(house) == [Act.COMMITTED]
    assert house.image("web") == new


def test_a_volume_that_others_use_too_stays_theirs(house: House) -> None:
    volume = {"type": "disk", "pool": "default", "source": "shared", "path": "/data"}
    house.lxd.user.volumes.create(Volume(pool="default", name="shared", project="default"))
    held = house.lxd.user.aliases.get("app").fingerprint
    keys = {**AUTO, SOURCE_KEY: "local|app"}
    house.lxd.launch("web", held, config=keys, devices={"data": volume})
    house.lxd.launch("other", held, devices={"data": volume})
    house.lxd.add_image("two", alias="app")
    other = house.lxd.user.instances.get("other")
    assert acts(house) == [Act.COMMITTED]
    assert house.lxd.user.instances.get("other") == other
    assert house.lxd.user.instances.get("web").devices["data"] == volume


# ---- K: clusters


@pytest.fixture
def cluster(house: House) -> House:
    house.lxd.set_members("n1", "n2")
    held = house.lxd.user.aliases.get("app").fingerprint
    keys = {**AUTO, SOURCE_KEY: "local|app", HOLDER_KEY: "default/web"}
    house.lxd.launch("web", held, config=keys, target="n2")
    house.lxd.add_image("two", alias="app")
    return house


def test_a_successor_is_made_on_the_same_member(cluster: House) -> None:
    assert acts(cluster) == [Act.COMMITTED]
    assert cluster.lxd.user.instances.get("web").location == "n2"


@pytest.mark.parametrize("status", ["Offline", "Evacuated"])
def test_a_member_that_isnt_online_is_waited_for(cluster: House, status: str) -> None:
    cluster.lxd.set_member_status("n2", status)
    cluster.lxd.log.restart_count()
    assert acts(cluster) == []
    assert writes(cluster) == []
    cluster.lxd.set_member_status("n2", "Online")
    assert acts(cluster) == [Act.COMMITTED]


def test_a_member_that_goes_before_the_stage_costs_no_outage(cluster: House) -> None:
    def gone(call: Call) -> None:
        if call.name == "instances.create":
            cluster.lxd.set_member_status("n2", "Offline")

    cluster.lxd.log.before = gone
    assert acts(cluster) == [Act.GIVEN_UP]
    assert names(cluster) == ["web"]
    assert cluster.lxd.user.instances.get("web").running
