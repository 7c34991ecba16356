"""Snapshots of volumes that updates made: none outlives the copy it belongs to, whatever went wrong."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import NoSpaceError, RefusedError
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy
from lxdocker_lxd.update.transaction import (
    STAMP_KEY,
    Phase,
    Role,
    Stamp,
    Transaction,
    encoded,
    stamp_of,
)
from tests.harness.simulated_lxd import Call, Fault, KilledError
from tests.update.test_volume_policy import ROWS, Shop, disk

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
VOLUMES = ("data", "more")
FAULTS = (
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
    Fault.KILLED_LATE,
    Fault.ANSWER_LOST,
    Fault.LXD_KILLED,
)
USERS = ("before-lunch", "lxdocker-mine", "lxdocker-0000000g")
FORGOTTEN = "lxdocker-0000abcd"


def opened(*, good: bool = True) -> Shop:
    """A database with two volumes that hold snapshots of a user, and a new version that migrates."""
    shop = Shop()
    shop.database({"data": disk(), "more": disk("more", "/more")})
    for volume in VOLUMES:
        for name in USERS:
            shop.lxd.user.volumes.create_snapshot("p", volume, name)
    shop.version("two", {ROWS: b"migrated"}, good=good)
    shop.lxd.log.restart_count()
    return shop


def made(shop: Shop) -> set[str]:
    """The snapshots that no user made, after a look that users' are all there."""
    found = set()
    for volume in VOLUMES:
        names = set(shop.snapshots(volume))
        assert set(USERS) <= names, shop.lxd.log.calls
        found |= names - set(USERS)
    return found


def kept(shop: Shop) -> set[str]:
    """What copies that are kept to go back to still need."""
    stamps = [stamp_of(one) for one in shop.lxd.user.instances.list()]
    return {
        f"lxdocker-{one.transaction}"
        for one in stamps
        if isinstance(one, Stamp) and one.phase is Phase.KEPT and one.snapshots is not None
    }


def settled(shop: Shop, *, more_rounds: int = 2) -> None:
    """After a few rounds only kept copies have snapshots, in each volume; and then none is left."""
    told = [str(call) for call in shop.lxd.log.calls]
    for _ in range(more_rounds):
        shop.lxd.finish()
        shop.lxd.clock.advance(1)
        shop.run()
    assert shop.lxd.user.instances.get("db").running, told
    assert made(shop) == kept(shop), told
    for volume in VOLUMES:
        assert set(shop.snapshots(volume)) - set(USERS) == kept(shop), told
    shop.lxd.clock.advance(73 * 3600)
    shop.run()
    for volume in VOLUMES:
        assert set(shop.snapshots(volume)) - set(USERS) == kept(shop), told


# ---- what goes wrong


def test_a_pool_that_is_full_at_the_second_volume_keeps_nothing_of_any_attempt() -> None:
    shop = opened()

    def refuse(call: Call) -> None:
        if (call.name, call.subject) == ("volumes.create_snapshot", "more"):
            raise NoSpaceError("no space left on device")

    shop.lxd.log.before = refuse
    ends = []
    for _ in range(8 * 12):
        ends += [one.act for one in shop.run().outcomes]
        shop.lxd.clock.advance(300)
        assert made(shop) == set()
    assert len(ends) > 3
    assert set(ends) == {Act.ROLLED_BACK}
    shop.lxd.log.before = lambda _call: None
    shop.lxd.clock.advance(7 * 3600)
    (outcome,) = shop.run().outcomes
    assert outcome.act is Act.COMMITTED
    settled(shop)


def refused_once(number: int, error: type[LxdError]) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        if call.number == number:
            raise error("refused this once")

    return refuse


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("error", [RefusedError, NoSpaceError])
def test_refused_once_at_any_call(error: type[LxdError], *, good: bool) -> None:
    number, count = 1, 0
    while True:
        shop = opened(good=good)
        shop.lxd.log.before = refused_once(number, error)
        with contextlib.suppress(LxdError):
            shop.run()
        shop.lxd.log.before = lambda _call: None
        if shop.lxd.log.number < number:
            break
        settled(shop)
        count += 1
        number += 1 if FULL else 3
    assert count > (60 if FULL else 20)


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lost", [False, True])
def test_interrupted_at_any_call(fault: Fault, *, good: bool, lost: bool) -> None:
    """With the journal, and with the journal lost."""
    number, count = 1, 0
    while True:
        shop = opened(good=good)
        shop.lxd.log.faults = {number: fault}
        with contextlib.suppress(KilledError, LxdError):
            shop.run()
        if shop.lxd.log.faults:
            break
        shop.lxd.come_up()
        if lost:
            shop.journal.lose()
        settled(shop, more_rounds=3)
        count += 1
        number += 1 if FULL else 7
    assert count > (60 if FULL else 8)


def test_a_snapshot_that_cant_be_deleted_yet_goes_with_a_later_round() -> None:
    shop = opened(good=False)

    def refuse(call: Call) -> None:
        if call.name == "volumes.delete_snapshot":
            raise RefusedError("the storage is read-only")

    shop.lxd.log.before = refuse
    report = shop.run()
    # The old version is back whatever becomes of a snapshot, and it is told what is left.
    assert [one.act for one in report.outcomes] == [Act.ROLLED_BACK]
    assert shop.lxd.user.instances.get("db").running
    assert any(
        "lxdocker-00000001" in one.text and "volume data" in one.text and one.name == "db"
        for one in report.problems
    ), report.problems
    shop.lxd.log.before = lambda _call: None
    report = shop.run()
    assert made(shop) == set()
    assert any("lxdocker-00000001 of the volume data" in one for one in report.remarks)
    assert not shop.run().remarks


def test_a_copy_whose_snapshots_cant_be_deleted_stays_and_that_is_told() -> None:
    """It is what is known of them."""
    shop = opened()
    shop.run()
    shop.lxd.clock.advance(73 * 3600)

    def refuse(call: Call) -> None:
        if call.name == "volumes.delete_snapshot" and call.subject == "more":
            raise RefusedError("the storage is read-only")

    shop.lxd.log.before = refuse
    report = shop.run()
    assert report.removed == ()
    assert any("read-only" in one.text for one in report.problems)
    shop.lxd.log.before = lambda _call: None
    assert shop.run().removed == ("db-old-00000001",)
    assert made(shop) == set()


# ---- what users do


def test_a_user_who_deletes_the_kept_copy_leaves_its_snapshots_to_the_next_round() -> None:
    shop = opened()
    shop.run()
    assert made(shop) == {"lxdocker-00000001"}
    shop.lxd.user.instances.delete("db-old-00000001")
    report = shop.run()
    assert made(shop) == set()
    assert any("lxdocker-00000001" in one for one in report.remarks)


def test_snapshots_a_user_didnt_go_back_to_live_as_long_as_the_version_that_was_left() -> None:
    shop = opened()
    shop.run()
    shop.version("three", {ROWS: b"migrated again"})
    shop.run()
    transaction = parked_copy(shop.lxd.user.instances.list(), "db", "default")
    assert transaction is not None
    assert shop.updater().turn_back(transaction).act is Act.ROLLED_BACK
    shop.run()
    assert made(shop) == {"lxdocker-00000001", "lxdocker-00000002"}
    # The version that has the name passed its gate, so nobody needs another one.
    shop.lxd.clock.advance(73 * 3600)
    assert set(shop.run().removed) == {"db-old-00000001", "db-new-00000002"}
    assert made(shop) == set()


def forget(shop: Shop) -> None:
    """A snapshot as an update whose every trace is gone would leave it."""
    shop.lxd.user.volumes.create_snapshot("p", "data", FORGOTTEN)


def test_a_snapshot_that_nothing_knows_of_any_more_is_removed_and_told() -> None:
    shop = opened()
    shop.run()
    forget(shop)
    report = shop.run()
    assert made(shop) == kept(shop) == {"lxdocker-00000001"}
    assert report.remarks == (
        f"db: removed the snapshot {FORGOTTEN} of the volume data (pool p), which an update left",
    )


@pytest.mark.parametrize("readable", [True, False])
def test_one_that_any_instance_may_still_need_stays(*, readable: bool) -> None:
    """An update by hand of another process, or by a newer version: its stamp names it."""
    shop = opened()
    shop.run()
    forget(shop)
    transaction = Transaction(id="0000abcd", project="default", name="gone", fingerprint="f" * 64)
    stamp = stamp_of(shop.lxd.user.instances.get("db-old-00000001"))
    assert isinstance(stamp, Stamp)
    held = transaction.stamp(Role.OLD, Phase.KEPT, stamp.saved)
    text = encoded(replace(held, volumes=stamp.volumes))
    if not readable:
        text = text.replace('"format":1', '"format":9')
    shop.lxd.launch(
        "gone-old-0000abcd", shop.image("db"), config={STAMP_KEY: text}, devices={}, start=False
    )
    assert FORGOTTEN in made(shop)
    shop.run()
    assert FORGOTTEN in made(shop)


def test_volumes_of_instances_that_arent_followed_are_left_alone() -> None:
    shop = opened()
    forget(shop)
    held = shop.lxd.user.instances.get("db")
    config = {key: text for key, text in held.config.items() if key != "user.lxdocker.update"}
    shop.lxd.user.instances.replace("db", replace(held.settings, config=config), etag=held.etag)
    shop.run()
    assert FORGOTTEN in made(shop)
    assert not [call for call in shop.lxd.log.calls if call.subject in VOLUMES and call.writes]


def test_an_update_that_begins_between_two_looks_keeps_its_snapshot() -> None:
    """Snapshots are listed, and only then those instances that may need them."""
    shop = opened()
    shop.run()
    old = shop.lxd.user.instances.get("db-old-00000001").config[STAMP_KEY]

    def begin(call: Call) -> None:
        if (call.name, call.subject) == ("volumes.snapshots", "data"):
            shop.lxd.log.before = lambda _call: None
            text = old.replace("00000001", "0000abcd")
            shop.lxd.launch(
                "db-old-0000abcd", shop.image("db"), config={STAMP_KEY: text}, start=False
            )
            forget(shop)

    shop.lxd.log.before = begin
    shop.run()
    assert FORGOTTEN in made(shop)
