"""When to try again, and how long to wait before.

Sources: RFC 9110 10.2.3 (``Retry-After``: seconds or a date), distribution-spec (429), and what
container tools agree on for the statuses. Time, chance and waiting are arguments.
"""

import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from lxdocker_lxd.errors import NetworkError

Result = TypeVar("Result")

RETRIED_STATUSES = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
# Some registries write the time since 1970 where a number of seconds belongs.
_EPOCH_SECONDS = 1_000_000_000


class TemporaryError(NetworkError):
    """A failure that may pass by itself; ``retry_after_seconds`` is the server's own wish.

    ``most_attempts`` limits a policy's attempts for kinds of failures that seldom pass soon.
    """

    most_attempts: ClassVar[int | None] = None

    def __init__(
        self, message: str, *, hint: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long.

    A server that asks for more than ``longest_wished_seconds`` isn't waited for: an error that
    says when to come back serves better than a run that hangs.
    """

    attempts: int = 5
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 30.0
    longest_wished_seconds: float = 120.0

    def delay_seconds(
        self, failures: int, *, wished_seconds: float | None, chance: float
    ) -> float | None:
        """Return the wait after the given number of failures; None when it would be too long.

        ``chance`` in [0, 1) spreads clients: the backoff doubles each time and is shortened by up
        to a half, a server's wish is lengthened by up to a tenth.
        """
        if wished_seconds is not None:
            if wished_seconds > self.longest_wished_seconds:
                return None
            return max(0.0, wished_seconds) * (1 + chance / 10)
        exponent = min(max(failures, 1) - 1, 30)
        full = min(self.longest_delay_seconds, self.first_delay_seconds * 2.0**exponent)
        return full * (1 - chance / 2)


def parse_retry_after(text: str | None, *, now: datetime) -> float | None:
    """Return the seconds a ``Retry-After`` header asks to wait; None when it says nothing usable.

    A moment in the past says nothing.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:20])
        if seconds < _EPOCH_SECONDS:
            return seconds
        seconds -= now.timestamp()
        return seconds if seconds > 0 else None
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - now).total_seconds()
    return seconds if seconds > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """A retry policy with its clock, its dice and its way of waiting."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.SystemRandom().random
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def wait(self, error: TemporaryError, failures: int, *, notice: Callable[[str], None]) -> None:
        """Wait as the policy says after ``failures`` failures; raise ``error`` if that's too long."""
        delay = self.policy.delay_seconds(
            failures, wished_seconds=error.retry_after_seconds, chance=self.chance()
        )
        if delay is None:
            raise error
        notice(f"{error.message}; trying again in {delay:.1f} s")
        self.sleep(delay)

    def persist(
        self,
        attempt: Callable[[], Result],
        *,
        notice: Callable[[str], None],
        attempts: int | None = None,
    ) -> Result:
        """Call ``attempt`` until it returns, at most ``attempts`` times (the policy's if None).

        Only TemporaryError is tried again; the last one is raised.
        """
        allowed = self.policy.attempts if attempts is None else attempts
        failures = 0
        while True:
            try:
                return attempt()
            except TemporaryError as error:
                failures += 1
                if failures >= min(allowed, error.most_attempts or allowed):
                    raise
                self.wait(error, failures, notice=notice)
