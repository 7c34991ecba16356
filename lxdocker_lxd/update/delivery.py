"""What became of one attempt to deliver a message, and when the next one is due. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Protocol

from lxdocker_lxd.update.notification import Message

FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=1)
# The sum of waits is then half a day; those of a receiver that is down don't count.
MOST_ATTEMPTS = 20
_MOST_DIGITS = 9
_GOOD = range(200, 300)
_REDIRECTS = range(300, 400)
_CLIENT_ERRORS = range(400, 500)
# Not the message's fault: the receiver is busy, or an address or a token has to be corrected.
_TRANSIENT = frozenset({401, 402, 403, 404, 405, 407, 408, 409, 410, 421, 423, 425, 429, 451})
_UNAVAILABLE = frozenset({429, 502, 503, 504})


class Result(StrEnum):
    """What became of an attempt.

    DELIVERED is the end. LATER: the receiver, or the way to it, failed, and any message would have.
    FAILED: it may be this message. REFUSED: it is this message; trying again is useless.
    """

    DELIVERED = "delivered"
    LATER = "later"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt; ``wait`` is what the receiver asked for."""

    result: Result
    reason: str = ""
    wait: timedelta | None = None


class Receiver(Protocol):
    """Somebody who gets messages."""

    @property
    def name(self) -> str:
        """What root's configuration calls it."""
        ...

    def wants(self, message: Message) -> bool:
        """Whether the message matters enough."""
        ...

    def deliver(self, message: Message) -> Delivery:
        """Try once, within a bounded time; never raises for what the receiver does."""
        ...


def delivery_of_status(status: int, retry_after: str, now: datetime) -> Delivery:
    """Return what an HTTP answer means for the message that was sent."""
    reason = f"the server answers {status}"
    if status in _GOOD:
        return Delivery(result=Result.DELIVERED)
    if status in _REDIRECTS:
        return Delivery(result=Result.LATER, reason=f"{reason}, a redirect that isn't followed")
    if status in _UNAVAILABLE:
        return Delivery(result=Result.LATER, reason=reason, wait=wait_of(retry_after, now))
    if status in _TRANSIENT:
        return Delivery(result=Result.LATER, reason=reason)
    if status in _CLIENT_ERRORS:
        return Delivery(result=Result.REFUSED, reason=reason)
    return Delivery(result=Result.FAILED, reason=reason, wait=wait_of(retry_after, now))


def wait_of(text: str, now: datetime) -> timedelta | None:
    """Return how long Retry-After asks to wait (RFC 9110 §10.2.3), bounded; None if it doesn't."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return min(timedelta(seconds=int(text)), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max(moment - now, timedelta(0)), LONGEST_WAIT)


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many failed attempts in a row."""
    doublings = min(max(attempts - 1, 0), 12)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)
