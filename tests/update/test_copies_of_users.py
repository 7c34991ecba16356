"""Copies, backups and renamed instances: keys travel with them, and mean their first owner."""

import pytest

from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.update.adoption import NotItsCopyError, follow_rename
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.hook import HookDeferredError
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, recover
from lxdocker_lxd.update.retention import copies_of
from lxdocker_lxd.update.transaction import STAMP_KEY, Transaction
from tests.harness.simulated_lxd import EXITS_AT_ONCE, Call
from tests.update.test_rounds import House


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    return house


def copy(house: House, name: str, new_name: str) -> None:
    """What ``lxc copy`` does with the keys, and with the image's name."""
    one = house.lxd.user.instances.get(name)
    kept = {key: value for key, value in one.config.items() if not key.startswith("volatile.")}
    settings = one.settings
    new = NewInstance(
        name=new_name,
        image=one.base_image,
        settings=type(settings)(
            architecture=settings.architecture,
            config=kept,
            devices={},
            profiles=settings.profiles,
        ),
    )
    house.lxd.user.instances.create(new)


def version(house: House, number: str) -> str:
    return house.lxd.add_image(number, alias="app")


def back(house: House, name: str = "web") -> Act:
    transaction = parked_copy(house.lxd.user.instances.list(), name, "default")
    assert transaction is not None
    return house.updater().turn_back(transaction).act


@pytest.mark.parametrize("after_an_update", [False, True])
def test_a_backup_made_by_copying_isnt_followed(house: House, *, after_an_update: bool) -> None:
    if after_an_update:
        version(house, "two")
    house.run()
    copy(house, "web", "web-backup")
    held = house.image("web-backup")
    for number in ("three", "four"):
        version(house, number)
        assert [one.transaction.name for one in house.run().outcomes] == ["web"]
        house.lxd.clock.advance(73 * 3600)
    house.run()
    assert house.image("web-backup") == held
    decisions = {one.name: one for one in house.rounds().plan()}
    assert decisions["web-backup"].choice is Choice.REFUSE
    assert "copy of default/web" in decisions["web-backup"].reason


def test_an_instance_of_a_profile_is_followed_and_its_copies_arent(house: House) -> None:
    house.lxd.user.instances.patch("web", config={HOLDER_KEY: ""})
    house.run()
    assert house.lxd.user.instances.get("web").config[HOLDER_KEY] == "default/web"
    copy(house, "web", "twin")
    version(house, "two")
    assert [one.transaction.name for one in house.run().outcomes] == ["web"]


@pytest.mark.parametrize(
    "text", ['{"format":2,"phase":"kept"}', '{"format":1,"phase":"resting"}', "{", "[" * 100_000]
)
def test_a_stamp_of_another_version_means_hands_off(house: House, text: str) -> None:
    version(house, "two")
    house.run()
    (parked,) = [one for one in house.lxd.user.instances.list() if one.name != "web"]
    house.lxd.user.instances.patch(parked.name, config={STAMP_KEY: text})
    root = parked.base_image
    version(house, "three")
    house.lxd.clock.advance(100 * 3600)
    report = house.run()
    assert house.image(parked.name) == root
    refused = [one for one in report.decisions if one.name == parked.name]
    assert [one.choice for one in refused] == [Choice.REFUSE]
    assert "can't be read by this version" in refused[0].reason
    assert house.run().outcomes == ()
    assert house.image(parked.name) == root


def test_an_unreadable_stamp_in_the_middle_of_an_update_holds_it(house: House) -> None:
    version(house, "two")
    transaction = Transaction(id="00000001", project="default", name="web", fingerprint="f" * 64)
    house.lxd.user.instances.patch("web", config={STAMP_KEY: '{"format":7}'})
    held = house.lxd.user.instances.get("web")
    outcome = house.updater().resume(transaction)
    assert (outcome.act, "can't be read" in outcome.reason) == (Act.HOLD, True)
    assert house.lxd.user.instances.get("web") == held
    # Nor does a new update begin.
    assert house.run("web").outcomes == ()


# ---- the way back


def test_the_way_back_outlives_an_update_that_was_put_off(house: House) -> None:
    first = house.image("web")
    version(house, "two")
    house.run()
    version(house, "three")

    def put_off(_transaction: Transaction) -> None:
        raise HookDeferredError("not now")

    house.before_outage = put_off
    assert [one.act for one in house.run().outcomes] == [Act.GIVEN_UP]
    assert back(house) is Act.ROLLED_BACK
    assert house.image("web") == first


def test_the_way_back_outlives_a_version_that_failed(house: House) -> None:
    first = house.image("web")
    version(house, "two")
    house.run()
    house.lxd.add_image("three", alias="app", behaviour=EXITS_AT_ONCE)
    assert [one.act for one in house.run().outcomes] == [Act.ROLLED_BACK]
    assert back(house) is Act.ROLLED_BACK
    assert house.image("web") == first


def test_a_deleted_instance_comes_back_by_command(house: House) -> None:
    first, before = house.image("web"), house.lxd.user.instances.get("web")
    version(house, "two")
    house.run()
    house.lxd.user.power.kill("web")
    house.lxd.user.instances.delete("web")
    assert back(house) is Act.ROLLED_BACK
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.running) == (first, True)
    assert web.devices == before.devices
    assert web.config["volatile.eth0.hwaddr"] == before.config["volatile.eth0.hwaddr"]


def test_a_copy_that_a_user_gave_its_name_again_is_made_whole(house: House) -> None:
    first, before = house.image("web"), house.lxd.user.instances.get("web")
    version(house, "two")
    house.run()
    (parked,) = [one.name for one in house.lxd.user.instances.list() if one.name != "web"]
    house.lxd.user.power.kill("web")
    house.lxd.user.instances.delete("web")
    house.lxd.user.instances.rename(parked, "web")
    house.lxd.user.power.start("web")
    (outcome,) = recover(house.lxd, house.updater(), house.journal)
    assert outcome.act is Act.ROLLED_BACK
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.running, web.devices) == (first, True, before.devices)
    assert "boot.autostart" not in web.config
    assert recover(house.lxd, house.updater(), house.journal) == ()


def test_a_renamed_instance_takes_its_copy_along(house: House) -> None:
    first = house.image("web")
    version(house, "two")
    house.run()
    house.lxd.user.power.stop("web")
    house.lxd.user.instances.rename("web", "shop")
    house.lxd.user.power.start("shop")
    assert "was renamed" in house.rounds().plan()[0].reason
    for _ in range(2):
        follow_rename(house.lxd, house.lxd.user.instances.get("shop"))
    assert back(house, "shop") is Act.ROLLED_BACK
    assert house.image("shop") == first
    version(house, "three")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]


def test_the_name_of_another_instance_isnt_taken_from_it(house: House) -> None:
    version(house, "two")
    house.run()
    house.lxd.user.power.kill("web")
    house.lxd.user.instances.delete("web")
    house.lxd.launch("web", house.lxd.add_image("foreign"))
    held = house.lxd.user.instances.get("web")
    with pytest.raises(NotItsCopyError, match="isn't the one the copy"):
        back(house)
    assert house.lxd.user.instances.get("web") == held


def test_a_stranger_under_the_name_speaks_for_no_copy(house: House) -> None:
    """A user deleted the instance and made another one of its name; ``rollback`` refuses that, too."""
    first = house.image("web")
    version(house, "two")
    house.run()
    house.lxd.user.power.kill("web")
    house.lxd.user.instances.delete("web")
    house.lxd.launch("web", house.lxd.add_image("foreign"))
    for _ in range(20):
        house.lxd.clock.advance(24 * 3600)
        assert house.run().removed == ()
    (copy,) = copies_of(house.lxd.user.instances.list(), house.lxd.clock())
    assert (copy.instance.base_image, "isn't the instance" in copy.needed) == (first, True)
    house.lxd.user.power.kill("web")
    house.lxd.user.instances.rename("web", "foreign")
    assert back(house) is Act.ROLLED_BACK
    assert house.image("web") == first


def test_a_snapshots_freeze_is_waited_for(house: House) -> None:
    """LXD freezes a running container while it copies its files."""
    new = version(house, "two")
    looks = [0]

    def before(call: Call) -> None:
        if call.name == "instances.create":
            house.lxd.user.power.freeze("web")
        names = {one.name: one.status for one in house.lxd.user.instances.list()}
        looks[0] += names.get("web") == "Frozen"
        if looks[0] == 200:
            looks[0] += 1
            house.lxd.user.power.unfreeze("web")

    house.lxd.log.before = before
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert house.image("web") == new
    assert looks[0] > 200


def test_an_instance_that_stays_frozen_is_held_in_the_end(house: House) -> None:
    version(house, "two")

    def before(call: Call) -> None:
        if call.name == "instances.create":
            house.lxd.user.power.freeze("web")

    house.lxd.log.before = before
    (outcome,) = house.run().outcomes
    assert (outcome.act, "frozen" in outcome.reason) == (Act.HOLD, True)
