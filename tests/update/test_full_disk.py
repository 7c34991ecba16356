"""A disk that fills up, fails or turns read-only at any line that an updater writes down.

Before the outage the update is given up; from the outage on the stamps in LXD are enough to come to
its end, and what couldn't be written is told. With room again the next round settles everything.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update.courier import Courier
from lxdocker_lxd.update.journal import ROOM_BYTES, ROOM_FILE, JournalFile
from lxdocker_lxd.update.journal_record import (
    MOST_LINE_BYTES,
    Entry,
    Event,
    accounts,
    line_of,
    owed_restarts,
    still_open,
)
from lxdocker_lxd.update.outbox import Outbox
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.told import Told
from lxdocker_lxd.update.transaction import Transaction
from tests.harness.simulated_lxd import GOOD
from tests.harness.small_disk import SmallDisk, small_disk
from tests.update.memory_journal import MemoryJournal
from tests.update.messages import Clock, Inbox, message
from tests.update.records import NEW_IMAGE, NOW
from tests.update.simulated_scene import BEHAVIOURS, Scene
from tests.update.test_rounds import AUTO, House

FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS)


class FailingJournal(MemoryJournal):
    """A journal on a disk that takes so many more lines, and then fails until it is mended."""

    def __init__(self, lines: int, number: int) -> None:
        super().__init__()
        self.lines = lines
        self.number = number

    def reserve(self) -> None:
        if self.lines <= 0:
            raise self._error()

    def append(self, entry: Entry) -> None:
        if self.lines <= 0:
            raise self._error()
        self.lines -= 1
        super().append(entry)

    def mend(self) -> None:
        self.lines = 1 << 20

    def _error(self) -> StorageError:
        return atomic.storage_error("write", Path("journal.jsonl"), OSError(self.number, ""))


class LateFailure(FailingJournal):
    """Room was there when it was asked for, and was gone when it was needed."""

    def reserve(self) -> None:
        return


def somebody_has_the_name(scene: Scene) -> None:
    web = scene.lxd.user.instances.get("web")
    assert web.status == "Running"
    assert web.base_image in {scene.old, scene.new}


@pytest.mark.parametrize("make", [FailingJournal, LateFailure])
@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_disk_that_fails_at_any_line_leaves_nobody_without_its_name(
    behaviour: str, number: int, make: Callable[[int, int], FailingJournal]
) -> None:
    lines = 0
    while True:
        journal = make(lines, number)
        scene = Scene(BEHAVIOURS[behaviour], journal=journal)
        try:
            outcome = scene.update()
        except StorageError:
            # Nothing had begun.
            assert lines == 0
            outcome = None
        failed = journal.lines <= 0
        if outcome is None:
            assert not any(call.writes for call in scene.lxd.log.calls)
        elif failed and outcome.problems:
            assert "journal.jsonl" in outcome.problems[0]
        somebody_has_the_name(scene)
        names = [one.name for one in scene.lxd.user.instances.list()]
        assert not (outcome and outcome.act is Act.GIVEN_UP) or names == ["other", "web"]
        if outcome is not None and outcome.act is not Act.GIVEN_UP:
            good = scene.behaviour is GOOD
            assert outcome.act is (Act.COMMITTED if good else Act.ROLLED_BACK)
        scene.settled()
        journal.mend()
        assert all(one.act is not Act.HOLD for one in scene.recover())
        scene.settled()
        assert still_open(accounts(journal.read()).values()) == ()
        if not failed:
            break
        lines += 1
    assert lines > 3


@pytest.mark.parametrize("number", FAULTS)
def test_going_back_by_hand_needs_no_room(number: int) -> None:
    for lines in range(4):
        journal = LateFailure(1 << 20, number)
        scene = Scene(GOOD, journal=journal)
        scene.update()
        journal.lines = lines
        outcome = scene.turn_back()
        assert outcome.act is Act.ROLLED_BACK
        assert bool(outcome.problems) is (lines < 2)
        scene.settled()
        assert scene.lxd.user.instances.get("web").base_image == scene.old
        journal.mend()
        scene.recover()
        scene.settled()


@pytest.mark.parametrize("lines", range(8))
def test_a_full_disk_is_told_once_and_the_round_goes_on(lines: int) -> None:
    house = House(journal=LateFailure(lines, errno.ENOSPC))
    house.lxd.add_image("one", alias="app")
    for name in ("a", "b", "c"):
        house.local(name)
    house.lxd.add_image("two", alias="app")
    report = house.run()
    assert report.bad
    assert report.problems
    assert len(report.problems) <= 2
    assert all(
        one.status == "Running"
        for one in house.lxd.user.instances.list()
        if one.name in {"a", "b", "c"}
    )
    assert isinstance(house.journal, LateFailure)
    house.journal.mend()
    house.lxd.clock.advance(7 * 3600)
    house.run()
    house.lxd.clock.advance(7 * 3600)
    assert not house.run().problems
    new = house.lxd.user.aliases.get("app").fingerprint
    assert [house.image(name) for name in ("a", "b", "c")] == [new] * 3


@pytest.mark.parametrize("make", [FailingJournal, LateFailure])
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_dependants_run_again_whatever_line_cant_be_written(
    behaviour: str, make: Callable[[int, int], FailingJournal]
) -> None:
    lines = 0
    while True:
        house = House(journal=make(lines, errno.ENOSPC))
        house.lxd.add_image("one", alias="app")
        house.local("db")
        house.local("web", AUTO | {"user.lxdocker.depends": "db"})
        house.local("front", AUTO | {"user.lxdocker.depends": "web"})
        house.lxd.add_image("two", alias="app", behaviour=BEHAVIOURS[behaviour])
        house.run("db")
        assert isinstance(house.journal, FailingJournal)
        failed = house.journal.lines <= 0
        running = {one.name for one in house.lxd.user.instances.list() if one.running}
        assert running == {"db", "web", "front"}, lines
        house.journal.mend()
        house.run("db")
        house.lxd.clock.advance(7 * 3600)
        assert not house.run("nobody").recovered
        running = {one.name for one in house.lxd.user.instances.list() if one.running}
        assert running == {"db", "web", "front"}
        assert still_open(accounts(house.journal.read()).values()) == ()
        assert owed_restarts(house.journal.read()) == ()
        if not failed:
            break
        lines += 1
    assert lines > 5


# ---- real files on a real disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def entry(event: Event, number: int = 1, **fields: object) -> Entry:
    transaction = Transaction(
        id=f"{number:08x}", project="default", name="web", fingerprint=NEW_IMAGE
    )
    return replace(
        Entry(at=NOW + timedelta(seconds=number), event=event, transaction=transaction),
        **fields,  # type: ignore[arg-type] # fields by name
    )


LONGEST = entry(Event.BACK, reason="\U0001f40b" * 3000, evidence=("line " * 40,) * 200)


def test_no_line_is_longer_than_the_room_that_is_kept_for_one() -> None:
    assert len(line_of(LONGEST)) <= MOST_LINE_BYTES
    assert len(line_of(replace(LONGEST, reason="x" * 100_000))) <= MOST_LINE_BYTES
    short = replace(LONGEST, reason="it ended", evidence=("first", "last"))
    assert b"first" in line_of(short)


@pytest.mark.root
def test_a_disk_that_fills_up_in_an_update_has_room_for_its_lines(disk: SmallDisk) -> None:
    with JournalFile(disk.path / "state") as journal:
        journal.reserve()
        journal.append(entry(Event.BEGUN))
        disk.fill()
        others = [entry(Event.BECAME, number) for number in range(200)]
        story = [entry(Event.OUTAGE), *others, LONGEST, replace(LONGEST, event=Event.ENDED)]
        for one in story:
            journal.append(one)
            # Whoever fills the disk takes what the journal set free, too.
            disk.fill()
        assert len(journal.read()) == 1 + len(story)
        with pytest.raises(StorageError, match=r"journal\.room"):
            journal.reserve()
        disk.clear()
        journal.reserve()
        assert (disk.path / "state" / ROOM_FILE).stat().st_size == ROOM_BYTES


@pytest.mark.root
def test_without_room_to_reserve_no_update_begins(disk: SmallDisk) -> None:
    scene = Scene(GOOD)
    with JournalFile(disk.path / "state") as journal:
        scene.journal = journal  # type: ignore[assignment] # the port
        disk.fill(left_pages=8)
        with pytest.raises(StorageError) as caught:
            scene.update()
        assert "free some space" in caught.value.hint
        assert not any(call.writes for call in scene.lxd.log.calls)


@pytest.mark.root
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_a_disk_filled_at_any_step_of_an_update_ends_none_of_them(
    disk: SmallDisk, behaviour: str
) -> None:
    steps = 0
    while True:
        scene = Scene(BEHAVIOURS[behaviour])
        state = disk.path / "state"
        with JournalFile(state) as journal:
            scene.journal = journal  # type: ignore[assignment] # the port

            class Filling(list[str]):
                def append(self, step: str, /, at: int = steps) -> None:
                    super().append(step)
                    if len(self) == at:
                        disk.fill()

            scene.steps = Filling()
            outcome = scene.update()
            assert outcome.problems == ()
            assert outcome.act is (Act.COMMITTED if behaviour == "good" else Act.ROLLED_BACK)
            scene.settled()
            assert still_open(accounts(journal.read()).values()) == ()
        disk.clear()
        shutil.rmtree(state)
        if len(scene.steps) < steps:
            break
        steps += 1
    assert steps > 10


@pytest.mark.root
def test_a_journal_that_cant_be_shortened_can_be_written_to(disk: SmallDisk) -> None:
    with JournalFile(disk.path / "state", most_bytes=50_000) as journal:
        journal.reserve()
        journal.append(entry(Event.BEGUN, 0))
        ends = [entry(Event.ENDED, number, result="committed") for number in range(1, 1500)]
        with journal.path.open("ab") as file:
            file.write(b"".join(map(line_of, ends)))
        disk.fill()
        journal.append(entry(Event.OUTAGE, 0))
        assert len(journal.read()) == 1501
        disk.clear()
        journal.append(entry(Event.ENDED, 0, result="committed"))
        assert len(journal.read()) < 1100


@pytest.mark.root
def test_half_a_line_is_taken_back(disk: SmallDisk) -> None:
    file = disk.path / "lines"
    atomic.append_line(file, b"first\n")
    disk.fill()
    with pytest.raises(StorageError):
        atomic.append_line(file, b"x" * 9000 + b"\n")
    assert file.read_bytes() == b"first\n"
    disk.clear()
    atomic.append_line(file, b"second\n")
    assert file.read_bytes() == b"first\nsecond\n"


@pytest.mark.root
@pytest.mark.parametrize("left_pages", range(14))
def test_messages_written_on_a_full_disk_arrive_once_and_in_order(
    disk: SmallDisk, left_pages: int
) -> None:
    clock, inboxes = Clock(), (Inbox("one"), Inbox("two"))
    state = disk.path / "state"
    state.mkdir()
    teller = Courier(Outbox(state / "outbox", clock), Told(state), inboxes, clock)
    teller.announce([message(0)])
    disk.fill(left_pages=left_pages)
    for number in range(1, 6):
        # Each round says again what lasts, and has news.
        teller.announce([message(number)])
        for inbox in inboxes:
            try:
                teller.work_off(inbox)
            except StorageError:
                continue
        disk.fill(left_pages=left_pages)
    disk.clear()
    teller.announce([message(6)])
    for inbox in inboxes:
        teller.work_off(inbox)
        assert inbox.given == [f"m{number}" for number in range(7)]
    again = Told(state)
    assert {f"m{number}" for number in range(7)} <= set(again.when)
