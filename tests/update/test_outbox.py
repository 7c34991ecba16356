"""The outbox: killed anywhere it loses nothing, order holds, it never grows without bound."""

import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update import delivery, outbox
from lxdocker_lxd.update.courier import Courier
from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.notification import Message
from lxdocker_lxd.update.outbox import ASIDE, Bounds, Outbox, Waiting
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.told import Told
from lxdocker_lxd.update.transaction import Transaction
from tests.update.messages import NEW, NOW, Clock, message

LATER = Delivery(result=Result.LATER)
DELIVERED = Delivery(result=Result.DELIVERED)


def opened(directory: Path, clock: Clock | None = None, **bounds: Any) -> Outbox:
    return Outbox(directory / "outbox", clock or Clock(), bounds=Bounds(**bounds))


def head(outbox: Outbox, receiver: str = "ops") -> Waiting:
    found = outbox.head(receiver)
    assert found is not None
    return found


def drained(outbox: Outbox, receiver: str = "ops") -> list[str]:
    ids = []
    while (waiting := outbox.head(receiver)) is not None:
        ids.append(waiting.message.id)
        outbox.settle(waiting, DELIVERED)
    return ids


def test_messages_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for number in range(12):
        box.put("ops", message(number))
    box.put("mail", message(99))
    assert drained(box) == [f"m{number}" for number in range(12)]
    assert drained(box, "mail") == ["m99"]
    assert box.head("nobody") is None


def test_a_message_survives_as_it_was(tmp_path: Path) -> None:
    given_message = message(title='"quoted" \\ ünï \U0001f40b')
    opened(tmp_path).put("ops", given_message)
    assert head(opened(tmp_path)).message == given_message


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.put("ops", message())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "outbox").rglob("*")}
    assert modes == {0o700, 0o600}


def test_a_message_that_waits_isnt_put_again(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for _ in range(3):
        box.put("ops", message())
    assert drained(box) == ["m1"]


def test_attempts_and_the_next_one_are_kept_across_restarts(tmp_path: Path) -> None:
    clock = Clock()
    opened(tmp_path, clock).put("ops", message())
    waits = []
    for _ in range(12):
        box = opened(tmp_path, clock)
        waiting = head(box)
        assert box.wait_seconds(waiting) == 0
        box.settle(waiting, LATER)
        again = opened(tmp_path, clock)
        waits.append(again.wait_seconds(head(again)))
        clock.now += timedelta(seconds=waits[-1])
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]


def test_a_receiver_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.put("ops", message())
    box.settle(head(box), Delivery(result=Result.LATER, wait=timedelta(minutes=30)))
    assert box.wait_seconds(head(box)) == 1800


def test_a_clock_that_went_back_doesnt_stop_messages(tmp_path: Path) -> None:
    clock = Clock()
    box = opened(tmp_path, clock)
    box.put("ops", message())
    box.settle(head(box), LATER)
    clock.now -= timedelta(days=400)
    assert box.wait_seconds(head(box)) == 0


def test_a_message_that_nobody_takes_is_set_aside_and_others_pass(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for number in range(3):
        box.put("ops", message(number))
    box.settle(head(box), Delivery(result=Result.REFUSED, reason="the server answers 400"))
    poison = head(box)
    for _ in range(delivery.MOST_ATTEMPTS):
        assert head(box).message == poison.message
        box.settle(head(box), Delivery(result=Result.FAILED))
    assert drained(box) == ["m2"]
    assert box.fill("ops").aside == 2
    assert sorted(path.name for path in (tmp_path / "outbox/ops" / ASIDE).iterdir()) == [
        "000000000001-m0.json",
        "000000000002-m1.json",
    ]


def test_a_receiver_that_is_down_sets_nothing_aside(tmp_path: Path) -> None:
    clock = Clock()
    box = opened(tmp_path, clock)
    box.put("ops", message())
    for _ in range(100):
        box.settle(head(box), LATER)
        clock.now += timedelta(hours=1)
    assert drained(box) == ["m1"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"message": {}}', b"[" * 100_000]
)
def test_a_damaged_file_holds_nothing_up(tmp_path: Path, content: bytes) -> None:
    box = opened(tmp_path)
    box.put("ops", message(1))
    box.put("ops", message(2))
    (tmp_path / "outbox/ops/000000000001-m1.json").write_bytes(content)
    assert drained(box) == ["m2"]
    assert box.fill("ops").aside == 1


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.put("ops", message(1))
    directory = tmp_path / "outbox/ops"
    (directory / "README").write_text("mine")
    (directory / ".tmp-torn").write_bytes(b"{")
    box.tidy()
    assert drained(box) == ["m1"]
    assert [path.name for path in directory.iterdir()] == ["README"]


def test_the_oldest_goes_when_there_are_too_many(tmp_path: Path) -> None:
    box = opened(tmp_path, waiting=5, aside=2)
    for number in range(8):
        box.put("ops", message(number))
    assert (box.fill("ops").waiting, box.dropped) == (5, 3)
    for _ in range(4):
        box.settle(head(box), Delivery(result=Result.REFUSED))
    assert (box.fill("ops").aside, box.dropped) == (2, 5)
    assert drained(box) == ["m7"]


def test_what_is_too_old_goes_also_of_receivers_that_are_gone(tmp_path: Path) -> None:
    clock = Clock()
    box = opened(tmp_path, clock)
    box.put("gone", message(1))
    for days in range(8):
        if days == 6:
            box.put("gone", message(2))
        clock.now += timedelta(days=1)
        box.tidy()
    assert box.dropped == 1
    assert drained(box, "gone") == ["m2"]


def test_a_directory_that_cant_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file")
    with pytest.raises(StorageError):
        opened(tmp_path).put("ops", message())


Change = tuple[str, int]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(["put", "deliver", "later", "refuse", "restart"]), st.integers(0, 9)
        ),
        max_size=40,
    )
)
def test_it_behaves_like_a_queue(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Change]
) -> None:
    directory = tmp_path_factory.mktemp("queue")
    box = opened(directory)
    queue: list[str] = []
    for change, number in changes:
        id_ = f"m{number}"
        waiting = box.head("ops")
        assert (waiting.message.id if waiting else None) == (queue[0] if queue else None)
        if change == "put":
            box.put("ops", message(number))
            queue += [id_] if id_ not in queue else []
        elif change == "restart":
            box = opened(directory)
        elif waiting is not None:
            results = {"deliver": DELIVERED, "later": LATER}
            box.settle(waiting, results.get(change, Delivery(result=Result.REFUSED)))
            queue = queue if change == "later" else queue[1:]
    assert drained(box) == queue


# ---- kills

ENTRIES = tuple(
    Entry(
        at=NOW,
        event=Event.ENDED,
        transaction=Transaction(id=f"t{number}", project="p", name="web", fingerprint=NEW),
        result=Act.COMMITTED,
    )
    for number in range(3)
)


class LoggingInbox:
    """A receiver in a process of its own, as it were: what it got outlives the sender."""

    name = "ops"

    def __init__(self, log: Path, *, busy: bool) -> None:
        self._log = log
        self._busy = busy

    def wants(self, _message: Message) -> bool:
        return True

    def deliver(self, message: Message) -> Delivery:
        if self._busy:
            self._busy = False
            return LATER
        with self._log.open("a") as log:
            log.write(message.id + "\n")
        return DELIVERED


def tell_all(directory: Path, clock: Clock, *, busy: bool) -> None:
    """What the service does: one end after the other reaches the journal, then the courier."""
    inbox = LoggingInbox(directory / "log", busy=busy)
    box = opened(directory, clock)
    box.tidy()
    courier = Courier(box, Told(directory), [inbox], clock)
    for number in range(1, len(ENTRIES) + 1):
        courier.catch_up(ENTRIES[:number], host="h")
        courier.work_off(inbox)
        clock.now += timedelta(seconds=10)
    courier.work_off(inbox)


def killed_at_line(number: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a child killed before the n-th line of the modules under test; tell if it was."""
    child = os.fork()
    if child == 0:
        left = number
        watched = {sys.modules[name].__file__ for name in (outbox.__name__, "lxdocker_lxd.atomic")}
        watched |= {
            sys.modules[f"lxdocker_lxd.update.{name}"].__file__ for name in ("courier", "told")
        }

        def line(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal left
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return line

        def call(frame: FrameType, event: str, _arg: object) -> Any:
            return line if frame.f_code.co_filename in watched else None

        try:
            sys.settrace(call)
            work()
        except BaseException:  # noqa: BLE001 - a child must not go on as a second pytest
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


@pytest.mark.parametrize("busy", [False, True])
def test_killed_anywhere_nothing_is_lost_and_at_most_one_comes_twice(
    tmp_path: Path, busy: bool
) -> None:
    full = os.environ.get("LXDOCKER_TEST_FULL") == "1"
    number, kills = 1, 0
    while True:
        directory = tmp_path / str(number)
        directory.mkdir()
        Told(directory).add((), NOW)
        killed = killed_at_line(number, lambda: tell_all(directory, Clock(), busy=busy))  # noqa: B023 - run at once
        tell_all(directory, Clock(NOW + timedelta(minutes=5)), busy=False)
        got = (directory / "log").read_text().split()
        assert list(dict.fromkeys(got)) == ["t0-updated", "t1-updated", "t2-updated"], number
        assert len(got) <= 4, (number, got)
        assert opened(directory).fill("ops") == outbox.Fill(waiting=0, aside=0, oldest=None)
        assert not list((directory / "outbox").rglob(".tmp-*"))
        if not killed:
            break
        kills += 1
        number += 1 if full else 13
    assert kills > (400 if full else 30)
