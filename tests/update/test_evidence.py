"""What a failed version said last: bounded, without secrets, and in all that tells of it."""

from datetime import UTC, datetime

from lxdocker_lxd.update.journal_record import Entry, Event, accounts, entries, line_of
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.notification import document_of, message_of, of_entry, of_outcome
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.redaction import excerpt
from lxdocker_lxd.update.transaction import Transaction

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TRANSACTION = Transaction(id="00000001", project="default", name="web", fingerprint="5c" * 32)
LINES = ("bind: address in use", "exit code 1")


def test_the_last_lines_are_kept_and_no_more() -> None:
    lines = excerpt("\n".join(f"line {number}" for number in range(100)) + "\n\n")
    assert (len(lines), lines[0], lines[-1]) == (20, "line 80", "line 99")
    long = excerpt("\n".join("é" * 5000 for _ in range(20)))
    assert 0 < len("\n".join(long).encode()) <= 4096
    assert excerpt("") == ()


def test_secrets_of_the_instance_arent_told() -> None:
    said = (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\n"
        "connecting as app with hunter22, flag true\n"
        "GET https://u:p@db.example/?key=1\npassword: letmein\n"
    )
    told = "\n".join(excerpt(said, secrets=["hunter22", "true"]))
    assert not [word for word in ("MIIEow", "hunter22", "letmein", "u:p", "key=1") if word in told]
    assert "flag true" in told
    cut = "MIIEow\n-----END RSA PRIVATE KEY-----\nready"
    assert "MIIEow" not in "\n".join(excerpt(cut))


def test_it_outlives_a_crash_of_the_updater() -> None:
    back = Entry(
        at=NOW, event=Event.BACK, transaction=TRANSACTION, blame=True, reason="r", evidence=LINES
    )
    (read,) = entries(line_of(back))
    assert read == back
    assert accounts([read])["00000001"].evidence == LINES


def test_messages_hold_it_also_those_told_late() -> None:
    outcome = Outcome(transaction=TRANSACTION, act=Act.ROLLED_BACK, blame=True, evidence=LINES)
    message = of_outcome(outcome, host="h", at=NOW)
    assert all(line in message.text for line in LINES)
    assert message_of(document_of(message)) == message
    ended = Entry(
        at=NOW,
        event=Event.ENDED,
        transaction=TRANSACTION,
        result=Act.ROLLED_BACK,
        blame=True,
        evidence=LINES,
    )
    assert of_entry(ended, host="h") == message
    older = {key: value for key, value in document_of(message).items() if key != "evidence"}
    assert message_of(older).evidence == ()
