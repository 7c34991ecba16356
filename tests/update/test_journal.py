"""The journal: written before anything happens, readable whatever a crash left of it."""

import stat
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update.journal import JournalFile, UpdaterRunsError, service_lock
from lxdocker_lxd.update.journal_record import (
    Entry,
    Event,
    accounts,
    entries,
    line_of,
    still_open,
)
from lxdocker_lxd.update.transaction import Transaction
from tests.update.records import NEW_IMAGE, NOW


def entry(event: Event, number: int = 1, **fields: object) -> Entry:
    transaction = Transaction(
        id=f"{number:08x}", project="default", name="web", fingerprint=NEW_IMAGE
    )
    written = Entry(at=NOW + timedelta(seconds=number), event=event, transaction=transaction)
    return replace(written, **fields)  # type: ignore[arg-type] # fields by name


STORY = (
    entry(Event.BEGUN, previous="a"),
    entry(Event.OUTAGE),
    entry(Event.BECAME),
    entry(Event.BACK, reason="it ended", blame=True),
    entry(Event.ENDED, result="rolled back", outage_seconds=1.5),
)


def test_lines_say_what_was_written() -> None:
    assert entries(b"".join(map(line_of, STORY))) == STORY


@given(st.integers(0, 2000))
def test_a_file_cut_anywhere_tells_the_rest(length: int) -> None:
    whole = b"".join(map(line_of, STORY))
    read = entries(whole[:length])
    assert read == STORY[: len(read)]
    assert len(read) >= whole[:length].count(b"\n")


@given(st.binary(max_size=60))
def test_rubbish_is_skipped(rubbish: bytes) -> None:
    line = line_of(STORY[0])
    assert STORY[0] in entries(line + rubbish + b"\n" + line)


@pytest.mark.parametrize("cut", [2, 30, 100])
def test_an_entry_after_a_torn_one_can_be_read(tmp_path: Path, cut: int) -> None:
    with JournalFile(tmp_path / "state") as journal:
        for one in STORY[:3]:
            journal.append(one)
        content = journal.path.read_bytes()
        journal.path.write_bytes(content[:-cut])
        journal.append(STORY[4])
        assert journal.read() == (*STORY[:2], STORY[4])
        assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_only_one_process_uses_it(tmp_path: Path) -> None:
    with JournalFile(tmp_path), pytest.raises(UpdaterRunsError), JournalFile(tmp_path):
        pass
    with JournalFile(tmp_path):
        pass


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    with JournalFile(tmp_path):
        began = time.monotonic()
        with pytest.raises(UpdaterRunsError), JournalFile(tmp_path, wait_seconds=0.5):
            pass
        assert time.monotonic() - began >= 0.5
    with service_lock(tmp_path) as first, service_lock(tmp_path) as second:
        assert (first, second) == (True, False)


def test_it_stays_small_and_forgets_nothing_that_is_open(tmp_path: Path) -> None:
    ends = [entry(Event.ENDED, number, result="committed") for number in range(1, 3000)]
    with JournalFile(tmp_path, most_bytes=20_000) as journal:
        journal.append(entry(Event.BEGUN, 0))
        with journal.path.open("ab") as file:
            file.write(b"".join(map(line_of, ends)))
        journal.append(entry(Event.ENDED, 3000, result="committed"))
        assert journal.path.stat().st_size < 300_000
        (left,) = still_open(accounts(journal.read()).values())
        assert left.transaction.id == "00000000"
        assert len(journal.read()) == 1002


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with JournalFile(tmp_path) as journal:
        journal.path.symlink_to("/dev/full")
        with pytest.raises(StorageError, match="journal"):
            journal.append(STORY[0])


def test_going_back_later_opens_a_transaction_again() -> None:
    done = (*STORY[:3], entry(Event.COMMITTED), entry(Event.ENDED, result="committed"))
    (account,) = accounts(done).values()
    assert account.committed
    assert still_open([account]) == ()
    (account,) = accounts((*done, entry(Event.BACK, reason="asked for"))).values()
    assert (account.committed, account.back) == (False, True)
    assert still_open([account]) == (account,)
