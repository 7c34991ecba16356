"""Messages and what they are made from, for tests."""

import string
from datetime import UTC, datetime

from hypothesis import strategies as st

from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.notification import Message, Severity, Topic
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import Transaction

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "1a" * 32, "9f" * 32


def transaction(name: str = "web", id: str = "0badcafe") -> Transaction:  # noqa: A002 - the field
    return Transaction(id=id, project="default", name=name, fingerprint=NEW)


def outcome(act: Act, *, reason: str = "", blame: bool = False, name: str = "web") -> Outcome:
    seconds = None if act in {Act.GIVEN_UP, Act.HOLD} else 1.25
    return Outcome(
        transaction=transaction(name), act=act, reason=reason, blame=blame, outage_seconds=seconds
    )


def message(
    number: int = 1,
    *,
    title: str = "web: updated",
    severity: Severity = Severity.INFO,
    topic: Topic = Topic.UPDATED,
) -> Message:
    return Message(
        id=f"m{number}",
        at=NOW,
        topic=topic,
        severity=severity,
        host="host",
        title=title,
        project="default",
        name="web",
        fingerprint=NEW,
    )


TEXTS = st.text(max_size=60) | st.sampled_from(['"', '\\"', "\\", "$title", "\n", "\u2028", "}"])
MESSAGES = st.builds(
    Message,
    id=st.text(alphabet=string.ascii_lowercase + string.digits, min_size=1, max_size=20),
    at=st.datetimes(timezones=st.just(UTC), min_value=datetime(1990, 1, 1)),  # noqa: DTZ001 - hypothesis adds it
    topic=st.sampled_from(Topic),
    severity=st.sampled_from(Severity),
    host=TEXTS,
    title=TEXTS,
    project=TEXTS,
    name=TEXTS,
    running=TEXTS,
    fingerprint=TEXTS,
    reason=TEXTS,
    transaction=TEXTS,
    changes=TEXTS,
    release_notes=TEXTS,
    outage_seconds=st.none() | st.floats(min_value=0, max_value=1e6),
)


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Inbox:
    """A receiver that answers as told, and remembers what it was given."""

    def __init__(self, name: str = "ops", minimum: Severity = Severity.INFO) -> None:
        self.name = name
        self.minimum = minimum
        self.given: list[str] = []
        self.answers: list[Delivery] = []

    def wants(self, message: Message) -> bool:
        return message.severity.rank >= self.minimum.rank

    def deliver(self, message: Message) -> Delivery:
        self.given.append(message.id)
        return self.answers.pop(0) if self.answers else Delivery(result=Result.DELIVERED)
