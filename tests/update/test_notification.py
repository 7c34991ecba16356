"""What happened becomes messages: each once, none with a secret."""

import unicodedata
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.notification import (
    Message,
    Round,
    Severity,
    Topic,
    document_of,
    message_of,
    news,
    of_decision,
    of_entry,
    of_outcome,
    of_problem,
    of_round,
    of_test,
)
from lxdocker_lxd.update.plan import Choice, Decision
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.procedure import ENDS, Act
from lxdocker_lxd.update.redaction import cleaned
from tests.update.messages import MESSAGES, NEW, NOW, OLD, outcome


@pytest.mark.parametrize(
    ("act", "blame", "topic", "severity"),
    [
        (Act.COMMITTED, False, Topic.UPDATED, Severity.INFO),
        (Act.ROLLED_BACK, True, Topic.ROLLED_BACK, Severity.ERROR),
        (Act.ROLLED_BACK, False, Topic.ROLLED_BACK, Severity.WARNING),
        (Act.GIVEN_UP, False, Topic.GIVEN_UP, Severity.WARNING),
        (Act.USER_TOOK_OVER, False, Topic.USER_TOOK_OVER, Severity.WARNING),
        (Act.HOLD, False, Topic.HELD, Severity.ERROR),
    ],
)
def test_each_end_of_an_update_has_its_message(
    act: Act, blame: bool, topic: Topic, severity: Severity
) -> None:
    found = of_outcome(outcome(act, blame=blame), host="h", at=NOW, running=OLD)
    assert (found.topic, found.severity) == (topic, severity)
    assert found.title.startswith("web: ")
    assert found.text.splitlines()[0] == found.title
    assert {end for end in ENDS if of_outcome(outcome(end), host="h", at=NOW)} == ENDS


def test_a_message_reads_well() -> None:
    found = of_outcome(
        outcome(Act.ROLLED_BACK, reason="its check fails", blame=True),
        host="h",
        at=NOW,
        running=OLD,
    )
    assert found.text == (
        "web: rolled back\nreason: its check fails\nfrom: 1a1a1a1a1a1a\nto: 9f9f9f9f9f9f\noutage: 1.2 s"
    )


@pytest.mark.parametrize("choice", list(Choice))
def test_only_new_versions_and_refusals_of_a_plan_are_told(choice: Choice) -> None:
    decision = Decision(
        project="p",
        name="web",
        choice=choice,
        cause=Cause.NEW_VERSION,
        reason="because",
        fingerprint=NEW,
    )
    found = of_decision(decision, host="h", at=NOW)
    assert (found is not None) == (choice in {Choice.NOTIFY, Choice.REFUSE})


def test_a_round_tells_in_order_and_each_thing_once() -> None:
    found = of_round(
        Round(
            at=NOW,
            host="h",
            outcomes=(outcome(Act.COMMITTED),),
            decisions=(
                Decision(
                    project="default",
                    name="web",
                    choice=Choice.UPDATE,
                    cause=Cause.NEW_VERSION,
                    reason="",
                    running=OLD,
                ),
                Decision(
                    project="default",
                    name="db",
                    choice=Choice.REFUSE,
                    cause=Cause.EPHEMERAL,
                    reason="ephemeral",
                ),
            ),
            restarted=("app",),
            problems=(Problem(text="no room"), Problem(text="no room")),
        )
    )
    assert [one.topic for one in found] == ["updated", "refused", "restarted", "problem"]
    assert found[0].running == OLD


def test_what_lasts_is_told_when_it_begins_and_once_a_day() -> None:
    told: dict[str, datetime] = {}
    heard = []
    for minutes in range(0, 60 * 49, 5):
        now = NOW + timedelta(minutes=minutes)
        # The number in it changes from round to round; it is the same problem.
        problem = of_problem(Problem(text=f"the pool has {minutes} MiB left"), host="h", at=now)
        for one in news([problem], told, now):
            told[one.subject] = now
            heard.append(minutes // 60)
    assert heard == [0, 24, 48]
    assert news([of_problem(Problem(text="LXD is away"), host="h", at=NOW)], told, NOW) != ()


def test_a_clock_that_was_wrong_silences_nobody() -> None:
    problem = of_problem(Problem(text="LXD is away"), host="h", at=NOW)
    assert news([problem], {problem.subject: NOW + timedelta(days=300)}, NOW) == (problem,)


def test_an_end_in_the_journal_has_the_same_id_as_its_outcome() -> None:
    ended = outcome(Act.COMMITTED)
    entry = Entry(at=NOW, event=Event.ENDED, transaction=ended.transaction, result=Act.COMMITTED)
    found = of_entry(entry, host="h")
    assert found is not None
    assert found.id == of_outcome(ended, host="h", at=NOW).id
    begun = Entry(at=NOW, event=Event.BEGUN, transaction=ended.transaction)
    odd = Entry(at=NOW, event=Event.ENDED, transaction=ended.transaction, result="stage")
    foreign = Entry(at=NOW, event=Event.ENDED, transaction=ended.transaction, result="?")
    assert [of_entry(one, host="h") for one in (begun, odd, foreign)] == [None] * 3


@given(MESSAGES)
def test_a_message_survives_its_document(message: Message) -> None:
    assert message_of(document_of(message)) == message


@pytest.mark.parametrize(
    "change",
    [
        {"title": 3},
        {"id": None},
        {"at": "yesterday"},
        {"topic": "x"},
        {"severity": "x"},
        {"outage_seconds": "1"},
    ],
)
def test_other_documents_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        message_of(document_of(of_test(host="h", at=NOW)) | change)


@pytest.mark.parametrize(
    "said",
    [
        "get https://ann:s3cr3t@registry.example/v2/: refused",
        "get https://registry.example/token?account=ann&sig=s3cr3t: 401",
        'config key environment.DB_PASS="s3cr3t" is wrong',
        "environment.WHATEVER: s3cr3t",
        "Authorization: Bearer s3cr3t",
        "POSTGRES_PASSWORD=s3cr3t postgres failed",
        "my_api-key: 's3cr3t'",
        '{"token": "s3cr3t"}',
        "client_secret = s3cr3t",
    ],
)
def test_what_looks_like_a_secret_is_hidden(said: str) -> None:
    assert "s3cr3t" not in cleaned(said)
    assert "s3cr3t" not in of_problem(Problem(text=said), host="h", at=NOW).text
    assert "s3cr3t" not in of_outcome(outcome(Act.HOLD, reason=said), host="h", at=NOW).text


@given(st.text(max_size=3000))
def test_what_others_said_becomes_one_bounded_line(text: str) -> None:
    line = cleaned(text)
    assert len(line) <= 600
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(line.splitlines()) <= 1


def test_what_is_no_secret_stays() -> None:
    said = "nginx@sha256:ab at https://h:8443/1.0/images/x is 3 MiB; key name: eth0"
    assert cleaned(said) == said
