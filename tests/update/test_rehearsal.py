"""What is announced is what is done: a rehearsal's calls against those then made on the same LXD."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from lxdocker_lxd.lxd.records import Config, Devices, Instance, UpdateSource
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.secret_value import HIDDEN
from lxdocker_lxd.update.call import Call, call_of
from lxdocker_lxd.update.claim import KEY
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.hook import Hook, Point
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, reap, recover
from lxdocker_lxd.update.rehearsal import Rehearsal
from lxdocker_lxd.update.rounds import Rounds
from tests.harness.heard_lxd import HeardLxd
from tests.harness.simulated_lxd import DEFAULT_DEVICES, Behaviour, Fault, KilledError, Supervised
from tests.update.test_rounds import AUTO, SERVER, House

NIC = DEFAULT_DEVICES["eth0"]
FIXED: Devices = {"eth0": NIC | {"ipv4.address": "10.20.30.40"}, "eth1": NIC | {"name": "eth1"}}
_ID = re.compile(r"\b(old|new)-(x?[0-9a-f]{7,8})(?![0-9a-f])")
_DRAWN_MAC = re.compile(r"00:16:3e(:[0-9a-fx]{2}){3}")


@dataclass
class Heard:
    """What was really asked, as calls; repeated questions count once."""

    house: House
    calls: list[Call] = field(default_factory=list)

    def told(self, request: Request, before: Instance | None, after: Instance | None) -> None:
        self.calls.append(call_of(request, before, after, name="", step=""))

    @property
    def lxd(self) -> HeardLxd:
        return HeardLxd(self.house.lxd, self.told)

    def rounds(self) -> Rounds:
        # The house's own, on a LXD that is listened to.
        listening = replace(self.house, lxd=self.lxd)  # type: ignore[arg-type] # the ports it uses
        return listening.rounds()


def essence(calls: Iterable[Call], macs: set[str]) -> list[object]:
    """Calls without what only LXD or a draw knows; questions that are repeated, once."""
    found: list[object] = []
    for call in calls:
        if call.method in {"check", "run"}:
            continue
        text = json.dumps([call.method, call.path, plain(call.body), plain_changes(call.changes)])
        text = _ID.sub(r"\1-ID", text)
        text = _DRAWN_MAC.sub(lambda match: match[0] if match[0] in macs else "DRAWN", text)
        item = (*json.loads(text), call.conditional)
        if not (found and item == found[-1] and call.path.partition("?")[0].endswith("/exec")):
            found.append(item)
    return found


def plain(body: Mapping[str, object]) -> dict[str, object]:
    """A body without keys that LXD writes itself, but for MACs."""
    config = body.get("config")
    if not isinstance(config, dict):
        return dict(body)
    kept = {key: value for key, value in config.items() if not is_lxds(key)}
    return {**body, "config": kept}


def plain_changes(changes: Iterable[str]) -> list[str]:
    return [line for line in changes if not is_lxds(line.partition(":")[0])]


def is_lxds(key: str) -> bool:
    return key.startswith("volatile.") and not key.endswith(".hwaddr")


def macs_of(house: House) -> set[str]:
    return {
        value
        for one in house.lxd.user.instances.list(project=None)
        for key, value in one.config.items()
        if key.endswith(".hwaddr")
    }


def rehearsal_of(house: House, hooks: Mapping[str, Hook] | None = None) -> Rehearsal:
    return Rehearsal(house.lxd, house.journal.read(), house.lxd.clock, hooks=hooks)


def announced_is_done(house: House, *names: str, refresh: bool = False) -> Rehearsal:
    """Rehearse a round, do it, and compare."""
    macs, by_hand = macs_of(house), bool(names)
    rehearsal = rehearsal_of(house)
    before = repr(sorted(house.lxd.store.boxes))
    planned = rehearsal.round(frozenset(names), by_hand=by_hand, refresh=refresh)
    assert not [call for call in house.lxd.log.calls if call.writes]
    assert repr(sorted(house.lxd.store.boxes)) == before
    heard = Heard(house)
    report = heard.rounds().run(frozenset(names), by_hand=by_hand, refresh=refresh)
    assert essence(rehearsal.calls, macs) == essence(heard.calls, macs)
    assert [one.act for one in planned.outcomes] == [one.act for one in report.outcomes]
    assert (planned.restarted, planned.problems) == (report.restarted, report.problems)
    house.lxd.log.restart_count()
    return rehearsal


def box(house: House, name: str, config: Config, devices: Devices, *, start: bool = True) -> None:
    held = house.lxd.user.aliases.get("app").fingerprint
    enrolled = {"user.lxdocker.image": "local|app", HOLDER_KEY: f"default/{name}"}
    keys = {**AUTO, **config, **enrolled}
    house.lxd.launch(name, held, config=keys, devices=devices, start=start)


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    return house


CASES: dict[str, Callable[[House], None]] = {
    "plain": lambda house: box(house, "web", {}, {}),
    "stopped": lambda house: box(house, "web", {}, {}, start=False),
    "fixed address, two NICs": lambda house: box(house, "web", {}, FIXED),
    "privileged": lambda house: box(house, "web", {"security.privileged": "true"}, {}),
    "protected": lambda house: box(house, "web", {"security.protection.delete": "true"}, {}),
    "isolated": lambda house: box(house, "web", {"security.idmap.isolated": "true"}, {}),
    "autostart": lambda house: box(house, "web", {"boot.autostart": "true"}, {}),
    "exec check": lambda house: box(
        house, "web", {"user.lxdocker.update.health": "exec /bin/health"}, {}
    ),
    "no check": lambda house: box(house, "web", {"user.lxdocker.update.health": "running"}, {}),
    "pinned MAC": lambda house: box(
        house, "web", {}, {"eth0": NIC | {"hwaddr": "00:16:3e:12:34:56"}}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_update_makes_the_calls_that_were_announced(house: House, case: str) -> None:
    CASES[case](house)
    house.lxd.add_image("two", alias="app", behaviour=Behaviour(health=((0.0, 0),)))
    rehearsal = announced_is_done(house)
    assert rehearsal.calls


def test_the_same_with_a_dependant_a_learned_source_a_held_image_and_old_copies(
    house: House,
) -> None:
    box(house, "web", {}, {})
    house.lxd.add_image("base", alias="base")
    house.local("db", alias="base")
    box(house, "front", {"user.lxdocker.depends": "db"}, {})
    house.lxd.publish(SERVER, "far", "1")
    far = house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="far"))
    house.lxd.launch("far", far, config=AUTO)
    house.lxd.add_image("base2", alias="base")
    rehearsal = announced_is_done(house)
    steps = [(call.name, call.step) for call in rehearsal.calls]
    assert ("far", "note source") in steps
    assert ("front", "restart") in steps
    house.lxd.add_image("two", alias="app")
    house.lxd.clock.advance(80 * 3600)
    announced_is_done(house, refresh=True)
    house.lxd.clock.advance(80 * 3600)
    rehearsal = announced_is_done(house)
    assert {call.step for call in rehearsal.calls} == {"remove copy"}


def test_a_refused_or_impossible_update_announces_nothing(house: House) -> None:
    box(house, "web", {"user.lxdocker.update.window": "02:00-03:00 UTC"}, {})
    house.lxd.add_image("two", alias="app")
    house.lxd.clock.advance(12 * 3600)
    assert announced_is_done(house).calls == ()
    house.lxd.store.pool_bytes["default"] = 1 << 20
    assert announced_is_done(house, "web").calls == ()
    house.lxd.store.pool_bytes["default"] = 1 << 40
    assert announced_is_done(house, "web").calls != ()


def test_a_return_and_the_removal_of_copies_are_rehearsed(house: House) -> None:
    box(house, "web", {}, FIXED)
    house.lxd.add_image("two", alias="app")
    house.run()
    house.lxd.log.restart_count()
    macs = macs_of(house)
    transaction = parked_copy(house.lxd.user.instances.list(), "web", "default")
    assert transaction is not None
    rehearsal, heard = rehearsal_of(house), Heard(house)
    assert rehearsal.turn_back(transaction).act is Act.ROLLED_BACK
    assert not [call for call in house.lxd.log.calls if call.writes]
    listening = replace(house, lxd=heard.lxd)  # type: ignore[arg-type] # the ports it uses
    assert listening.updater().turn_back(transaction).act is Act.ROLLED_BACK
    assert essence(rehearsal.calls, macs) == essence(heard.calls, macs)
    # The old version isn't proved by what it did before; a third one is, by its gate.
    house.lxd.add_image("three", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    house.lxd.clock.advance(80 * 3600)
    rehearsal, heard = rehearsal_of(house), Heard(house)
    assert rehearsal.reap() == reap(heard.lxd, house.lxd.clock()).removed  # type: ignore[arg-type] # the ports it uses
    assert essence(rehearsal.calls, macs) == essence(heard.calls, macs) != []


@pytest.mark.parametrize("number", [8, 14, 20, 24, 30, 36])
def test_recovery_is_rehearsed_wherever_the_updater_was_killed(house: House, number: int) -> None:
    box(house, "web", {}, FIXED)
    house.lxd.add_image("two", alias="app")
    house.lxd.log.restart_count()
    house.lxd.log.faults[number] = Fault.KILLED_AFTER
    with pytest.raises(KilledError):
        house.run()
    macs = macs_of(house)
    house.lxd.log.restart_count()
    rehearsal, heard = rehearsal_of(house), Heard(house)
    planned = rehearsal.recover()
    assert not [call for call in house.lxd.log.calls if call.writes]
    listening = replace(house, lxd=heard.lxd)  # type: ignore[arg-type] # the ports it uses
    done = recover(heard.lxd, listening.updater(), house.journal)  # type: ignore[arg-type] # the ports it uses
    assert [one.act for one in planned] == [one.act for one in done]
    assert essence(rehearsal.calls, macs) == essence(heard.calls, macs)


def test_hooks_inside_are_announced_and_those_of_the_host_arent_run(house: House) -> None:
    ran = Hook(name="backup", where="host", words=("/bin/touch", "/nowhere"))
    keys = {
        Point.BEFORE.key: "backup flush",
        Point.AFTER.key: "warm",
    }
    checked = Supervised(healthcheck={"Test": ["CMD", "check"]})
    held = house.lxd.user.aliases.get("app").fingerprint
    house.lxd.behave(held, Behaviour(supervised=checked))
    box(house, "web", keys, {})
    house.lxd.add_image("two", alias="app")
    rehearsal = rehearsal_of(house, {"backup": ran})
    rehearsal.round(frozenset())
    said = [(call.method, *call.changes) for call in rehearsal.calls if "exec" in call.path]
    assert [line.rpartition("/")[2] for _, line in said] == [*("flush", "run --health 30", "warm")]
    assert ("run", "on the host: /bin/touch /nowhere") in {
        (call.method, call.path) for call in rehearsal.calls
    }


def test_the_difference_is_empty_but_for_the_image_and_the_stamp(house: House) -> None:
    box(house, "web", {"environment.NAME": "x", "boot.autostart": "true"}, FIXED)
    house.lxd.add_image("two", alias="app")
    rehearsal = rehearsal_of(house)
    rehearsal.round(frozenset())
    differences = rehearsal.changed("default", "web").differences
    assert all(one.allowed for one in differences)
    assert {one.what for one in differences} == {
        "config image.version",
        "config user.lxdocker.transaction",
        "config volatile.base_image",
    }


def test_no_secret_is_announced(house: House) -> None:
    secrets = {
        "environment.DB": "hunter2",
        "user.app.password": "hunter3",
        "user.user-data": "hunter4",
        "user.some_api_key": "hunter5",
    }
    box(house, "web", secrets, {})
    house.lxd.add_image("two", alias="app")
    rehearsal = rehearsal_of(house)
    rehearsal.round(frozenset())
    told = repr((rehearsal.calls, rehearsal.changed("default", "web")))
    assert "hunter" not in told
    assert HIDDEN in told


def test_the_claim_to_lxd_is_announced_where_there_is_something_to_do(house: House) -> None:
    box(house, "web", {}, {})

    def rehearsed() -> list[Call]:
        rehearsal = Rehearsal(house.lxd, (), house.lxd.clock, claimant="host:/state")
        rehearsal.round(frozenset())
        return list(rehearsal.calls)

    assert rehearsed() == []
    house.lxd.add_image("two", alias="app")
    first, *others, last = rehearsed()
    assert (first.method, first.path, first.step) == ("PATCH", "/1.0", "claim")
    assert "host:/state" in first.changes[0]
    assert last.changes == ("user.lxdocker.updater: unset",)
    assert [call.step for call in others].count("claim") == 0
    assert KEY not in house.lxd.server.info().config


def test_the_journal_isnt_written(house: House) -> None:
    box(house, "web", {}, {})
    house.lxd.add_image("two", alias="app")
    rehearsal_of(house).round(frozenset())
    assert house.journal.read() == ()
