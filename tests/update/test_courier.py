"""The courier: the updater never waits, one slow receiver delays no other, nothing is told twice."""

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.update.courier import Courier
from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.notification import Message, Severity, Topic, of_problem
from lxdocker_lxd.update.outbox import Outbox
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.told import FILE, Told
from tests.update.messages import NOW, Clock, Inbox, message, transaction


def courier(directory: Path, clock: Clock, *inboxes: Inbox) -> Courier:
    return Courier(Outbox(directory / "outbox", clock), Told(directory), inboxes, clock)


def ended(at_days_ago: int = 0, id_: str = "t1") -> Entry:
    return Entry(
        at=NOW - timedelta(days=at_days_ago),
        event=Event.ENDED,
        transaction=transaction(id=id_),
        result=Act.COMMITTED,
    )


def test_each_receiver_gets_what_matters_to_it(tmp_path: Path) -> None:
    everything, errors = Inbox("all"), Inbox("errors", Severity.ERROR)
    teller = courier(tmp_path, Clock(), everything, errors)
    teller.announce([message(1), message(2, severity=Severity.ERROR)])
    assert [teller.work_off(everything), teller.work_off(errors)] == [None, None]
    assert (everything.given, errors.given) == (["m1", "m2"], ["m2"])


def test_a_failed_attempt_is_repeated_when_its_time_has_come(tmp_path: Path) -> None:
    clock, inbox = Clock(), Inbox()
    inbox.answers = [Delivery(result=Result.LATER, reason="busy")]
    teller = courier(tmp_path, clock, inbox)
    teller.announce([message(1), message(2)])
    assert teller.work_off(inbox) == 10
    assert teller.work_off(inbox) == 10
    clock.now += timedelta(seconds=10)
    assert teller.work_off(inbox) is None
    assert inbox.given == ["m1", "m1", "m2"]


def test_lasting_problems_are_told_once_also_across_restarts(tmp_path: Path) -> None:
    clock, inbox = Clock(), Inbox()
    for _ in range(5):
        teller = courier(tmp_path, clock, inbox)
        teller.announce([of_problem(Problem(text="LXD is away"), host="h", at=clock.now)])
        teller.work_off(inbox)
        clock.now += timedelta(minutes=5)
    assert len(inbox.given) == 1


def test_an_end_nobody_was_told_of_is_told_after_a_restart(tmp_path: Path) -> None:
    clock, inbox = Clock(), Inbox()
    courier(tmp_path, clock, inbox).catch_up([ended(id_="before")], host="h")
    teller = courier(tmp_path, clock, inbox)
    teller.catch_up([ended(id_="before"), ended(id_="t2"), ended(8, id_="old")], host="h")
    teller.work_off(inbox)
    assert inbox.given == ["t2-updated"]
    again = courier(tmp_path, clock, inbox)
    again.catch_up([ended(id_="before"), ended(id_="t2")], host="h")
    assert again.work_off(inbox) is None
    assert inbox.given == ["t2-updated"]


def test_a_full_disk_stops_no_update_and_loses_no_message(tmp_path: Path) -> None:
    clock, inbox = Clock(), Inbox()
    teller = courier(tmp_path, clock, inbox)
    (tmp_path / "outbox").write_text("in the way")
    teller.announce([message(1)])
    (tmp_path / "outbox").unlink()
    teller.announce([message(2)])
    teller.work_off(inbox)
    assert inbox.given == ["m1", "m2"]


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b'{"told": ["a"], "at": "yesterday"}\n', b"\x00", b"[" * 9999]
)
def test_a_damaged_memory_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    told = Told(tmp_path)
    assert (told.is_new, dict(told.when)) == (True, {})
    told.add(["a"], NOW)
    assert dict(Told(tmp_path).when) == {"a": NOW}


def test_a_memory_cut_anywhere_keeps_all_but_the_last(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for key in ("a", "b", "c"):
        told.add([key, key * 2], NOW)
    content = (tmp_path / FILE).read_bytes()
    assert not Told(tmp_path).is_new
    for size in range(len(content)):
        (tmp_path / FILE).write_bytes(content[:size])
        Told(tmp_path).add(["d"], NOW)
        whole = content[:size].count(b"\n") + (content[size : size + 1] == b"\n")
        expected = {"a", "aa", "b", "bb", "c", "cc"} if whole == 3 else {"a", "aa", "b", "bb"}
        expected = {"a", "aa"} if whole == 1 else expected
        assert set(Told(tmp_path).when) == (expected if whole else set()) | {"d"}


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    told = Told(tmp_path, most_bytes=100_000)
    for number in range(6):
        told.add((f"{number}-{key}" for key in range(1000)), NOW + timedelta(seconds=number))
    told.add((f"x{'y' * 100}{key}" for key in range(1000)), NOW + timedelta(seconds=9))
    again = Told(tmp_path)
    assert len(again.when) == 5000
    assert "2-0" in again.when
    assert "1-0" not in again.when
    assert again.when == told.when


def test_many_messages_at_once_cost_little(tmp_path: Path) -> None:
    clock, inbox = Clock(), Inbox()
    teller = courier(tmp_path, clock, inbox)
    Told(tmp_path).add((f"old{number}" for number in range(5000)), NOW)
    began = time.process_time()
    teller.announce([message(number) for number in range(150)])
    assert time.process_time() - began < 10
    assert teller.work_off(inbox) is None
    assert len(inbox.given) == 150


class Hanging(Inbox):
    """A receiver that doesn't come back until it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.go = threading.Event()

    def deliver(self, message: Message) -> Delivery:
        self.go.wait(20)
        return super().deliver(message)


def waited_for(inbox: Inbox, count: int) -> bool:
    deadline = time.monotonic() + 10
    while len(inbox.given) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(inbox.given) == count


def test_one_that_hangs_delays_nobody(tmp_path: Path) -> None:
    hanging, quick = Hanging("slow"), Inbox("quick")
    teller = courier(tmp_path, Clock(), hanging, quick)
    teller.start()
    began = time.monotonic()
    for number in range(3):
        teller.announce([message(number, topic=Topic.TEST)])
    assert time.monotonic() - began < 5
    assert waited_for(quick, 3)
    assert hanging.given == []
    hanging.go.set()
    assert waited_for(hanging, 3)
    teller.stop(10)
    assert threading.active_count() < 20


def test_the_end_comes_at_once_and_leaves_messages_waiting(tmp_path: Path) -> None:
    inbox = Inbox()
    inbox.answers = [Delivery(result=Result.LATER)]
    clock = Clock()
    teller = courier(tmp_path, clock, inbox)
    teller.start()
    teller.announce([message(1)])
    assert waited_for(inbox, 1)
    began = time.monotonic()
    teller.stop(10)
    assert time.monotonic() - began < 5
    assert Outbox(tmp_path / "outbox", clock).fill("ops").waiting == 1
