"""Files and keys as versions in the field wrote them are read for ever; those of newer ones are left."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update.claim import KEY, Claim, OtherUpdaterError
from lxdocker_lxd.update.courier import Courier
from lxdocker_lxd.update.followed_lxd import AnotherLxdError, check
from lxdocker_lxd.update.journal import JournalFile
from lxdocker_lxd.update.journal_record import (
    Event,
    accounts,
    entries,
    line_of,
    owed_restarts,
    still_open,
)
from lxdocker_lxd.update.outbox import Outbox
from lxdocker_lxd.update.rejection import Rejection, rejections_of
from lxdocker_lxd.update.told import Told
from lxdocker_lxd.update.transaction import REJECTED_KEY, Transaction
from tests.harness.simulated_lxd import SimulatedLxd
from tests.update.messages import Clock, Inbox, message
from tests.update.records import NEW_IMAGE, NOW, OLD_IMAGE

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ("0.1", "0.2")


def state_with(directory: Path, golden: str, file: str) -> Path:
    (directory / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / golden, directory / file)
    return directory


# ---- the journal


def test_a_journal_of_0_1_is_understood(tmp_path: Path) -> None:
    found = JournalFile(state_with(tmp_path, "journal-0.1.jsonl", "journal.jsonl")).read()
    assert [one.event for one in found[:5]] == [
        Event.BEGUN,
        Event.OUTAGE,
        Event.BECAME,
        Event.BACK,
        Event.ENDED,
    ]
    assert found[0].previous == OLD_IMAGE
    web, db = accounts(found).values()
    assert web.transaction == Transaction(
        id="0123abcd", project="default", name="web", fingerprint=NEW_IMAGE
    )
    assert web.ended is not None
    assert (web.ended.result, web.ended.reason) == ("rolled back", "its check fails")
    assert (web.ended.blame, web.ended.outage_seconds) == (True, 4.25)
    assert (db.outage, db.committed) == (True, True)
    assert still_open([web, db]) == (db,)


def test_a_journal_of_0_2_is_understood(tmp_path: Path) -> None:
    found = JournalFile(state_with(tmp_path, "journal-0.2.jsonl", "journal.jsonl")).read()
    assert len(found) == 7
    (restart,) = owed_restarts(found)
    assert (restart.dependency.name, restart.dependant, restart.stopping) == ("db", "web", True)
    (ended,) = (one for one in found if one.event is Event.ENDED)
    assert ended.evidence == ("log: no such table", "exit code 3")
    assert "didn't stop" in ended.killed


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_now_are_the_same_lines(version: str) -> None:
    for line in (GOLDEN / f"journal-{version}.jsonl").read_bytes().splitlines(keepends=True):
        (entry,) = entries(line)
        assert line_of(entry) == line


NEWER = (
    b'{"format":2,"at":"2027-01-01T00:00:00+00:00","event":"begun","transaction":"x","by":"y"}\n'
)


@pytest.mark.parametrize("before", [b"", b'{"torn', b"\x00\x00\n[1]\n"])
def test_a_journal_with_lines_of_a_newer_version_is_refused(tmp_path: Path, before: bytes) -> None:
    file = tmp_path / "journal.jsonl"
    old = (GOLDEN / "journal-0.1.jsonl").read_bytes()
    content = old + before + (b"\n" if before else b"") + NEWER
    file.write_bytes(content)
    entered: list[str] = []
    journal = JournalFile(tmp_path, entered=lambda: entered.append(""))
    with pytest.raises(StorageError) as caught, journal:
        pass
    said = caught.value
    assert (said.exit_code, entered) == (8, [])
    assert said.message == (
        f"read {file}: it has lines of format 2, and this lxdocker-lxd knows formats up to 1;"
        " nothing was done"
    )
    assert "install that one again" in said.hint
    assert file.read_bytes() == content
    # Somebody else may hold the lock again.
    file.write_bytes(old)
    with JournalFile(tmp_path) as journal:
        assert len(journal.read()) == 8


@pytest.mark.parametrize(
    "line", [b'{"format":"2"}', b'{"format":true}', b'{"format":0}', b"[2]", b"2", b"[" * 20_000]
)
def test_a_line_that_is_no_newer_one_is_skipped_as_ever(tmp_path: Path, line: bytes) -> None:
    old = (GOLDEN / "journal-0.1.jsonl").read_bytes()
    (tmp_path / "journal.jsonl").write_bytes(old + line + b"\n")
    assert len(JournalFile(tmp_path).read()) == 8


# ---- what is told


@pytest.mark.parametrize("version", VERSIONS)
def test_a_waiting_message_is_understood_and_delivered(tmp_path: Path, version: str) -> None:
    name = "000000000007-0123abcd-rolled_back.json"
    state_with(tmp_path, f"outbox-{version}.json", f"outbox/one/{name}")
    clock = Clock()
    clock.now = datetime(2026, 11, 21, 13, tzinfo=UTC)
    waiting = Outbox(tmp_path / "outbox", clock).head("one")
    assert waiting is not None
    assert (waiting.attempts, waiting.failures) == (2, 1)
    assert (waiting.message.title, waiting.message.outage_seconds) == ("web: rolled back", 4.25)
    assert bool(waiting.message.evidence) is (version == "0.2")


def test_a_message_of_a_newer_version_is_left_to_it(tmp_path: Path) -> None:
    box, inbox = tmp_path / "outbox" / "one", Inbox("one")
    box.mkdir(parents=True)
    newer = box / "000000000001-x.json"
    newer.write_text(json.dumps({"format": 2, "what": "else"}))
    outbox = Outbox(tmp_path / "outbox", Clock())
    teller = Courier(outbox, Told(tmp_path), (inbox,), Clock())
    teller.announce([message(1)])
    teller.work_off(inbox)
    assert inbox.given == ["m1"]
    assert newer.exists()
    assert outbox.fill("one").oldest is None


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_told_is_known(tmp_path: Path, version: str) -> None:
    told = Told(state_with(tmp_path, f"told-{version}.jsonl", "told.jsonl"))
    assert told.when["0123abcd-rolled_back"] == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert len(told.when) == 3
    (tmp_path / "told.jsonl").write_text('{"format":2,"at":1,"told":{"a":"b"}}\n')
    assert dict(Told(tmp_path).when) == {}


# ---- LXD


@pytest.mark.parametrize("version", VERSIONS)
def test_the_lxd_of_a_state_directory_is_known(tmp_path: Path, version: str) -> None:
    state_with(tmp_path, f"lxd-{version}.json", "lxd.json")
    assert check(tmp_path, "1" * 64, "anywhere")
    with pytest.raises(AnotherLxdError):
        check(tmp_path, "2" * 64, "elsewhere")


def test_what_a_newer_version_says_of_its_lxd_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"format": 2, "certificate": "1" * 64, "place": "here"})
    (tmp_path / "lxd.json").write_text(text)
    with pytest.raises(AnotherLxdError, match="has the format 2") as caught:
        check(tmp_path, "1" * 64, "here")
    assert caught.value.exit_code == 2


def test_the_claim_of_an_older_updater_is_respected() -> None:
    lxd = SimulatedLxd()
    lxd.server.configure({KEY: (GOLDEN / "claim-0.1.json").read_text().strip()})
    now = datetime(2026, 11, 21, 12, 14, tzinfo=UTC)
    with pytest.raises(OtherUpdaterError, match="host:/var/lib"):
        Claim(lambda: lxd.server, "there", lambda: now).take()
    Claim(lambda: lxd.server, "there", lambda: now + timedelta(minutes=1)).take()


def test_rejected_versions_are_known() -> None:
    def read(version: str) -> tuple[Rejection, ...]:
        text = (GOLDEN / f"rejected-{version}.txt").read_text().strip()
        return rejections_of({REJECTED_KEY: text})

    assert read("0.1") == (Rejection(fingerprint=OLD_IMAGE), Rejection(fingerprint=NEW_IMAGE))
    assert read("0.2") == (
        Rejection(fingerprint=OLD_IMAGE, at=NOW, past=True),
        Rejection(fingerprint=NEW_IMAGE, at=datetime(2026, 11, 28, 9, 30, tzinfo=UTC)),
    )
