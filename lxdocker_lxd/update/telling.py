"""Everything that tells of the updater, put together: messages, the ping, metrics.

The updater hands over what a round did and goes on; whatever becomes of that is logged and changes
no update.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.update.courier import Courier
from lxdocker_lxd.update.delivery import Result
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.metrics import OutboxGauge, Tally, rendered
from lxdocker_lxd.update.metrics_endpoint import MetricsEndpoint
from lxdocker_lxd.update.notification import Message, Round, of_problem, of_round
from lxdocker_lxd.update.outbox import Outbox
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.receivers import ping_of, receivers_of
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.settings import UpdateSettings
from lxdocker_lxd.update.told import Told

OUTBOX = "outbox"
_STOP_SECONDS = 5.0
_FLUSH_SECONDS = 10.0
_POLL_SECONDS = 0.05
_log = logging.getLogger(__name__)


class Telling:
    """A context manager, entered while the lock of the state directory is held.

    With ``serve`` metrics are served; without it, the end waits a while for messages to be delivered.
    Entering may raise StorageError, and ListenError for metrics; nothing else ever raises.
    """

    def __init__(
        self,
        settings: UpdateSettings,
        state: Path,
        journal: Journal,
        clock: Callable[[], datetime],
        *,
        host: str,
        serve: bool = False,
    ) -> None:
        self._listen = settings.metrics if serve else None
        self._serves = serve
        self._state = state
        self._journal = journal
        self._host = host
        self._clock = clock
        self._receivers = receivers_of(settings, owner=os.geteuid())
        self._ping = ping_of(settings)
        self._pinging: threading.Thread | None = None
        self._outbox = Outbox(state / OUTBOX, clock)
        self._tally = Tally(started=clock())
        self._courier: Courier | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            self._outbox.tidy()
            courier = Courier(self._outbox, Told(self._state), self._receivers, self._clock)
            # Ends that a crash kept from being told, before the first round.
            courier.catch_up(self._journal.read(), host=self._host)
            courier.start()
            opened.callback(courier.stop, _STOP_SECONDS)
            if self._listen is not None:
                listen = self._listen
                opened.enter_context(MetricsEndpoint(listen.host, listen.port, self.metrics))
            if not self._serves:
                opened.callback(self._flush)
            self._courier = courier
            self._open = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        self._courier = None

    def metrics(self) -> bytes:
        """Return the metrics as they are now; for any thread."""
        gauges = []
        for receiver in self._receivers:
            with contextlib.suppress(LxdockerError):
                fill = self._outbox.fill(receiver.name)
                gauges.append(
                    OutboxGauge(
                        receiver=receiver.name,
                        waiting=fill.waiting,
                        aside=fill.aside,
                        oldest=fill.oldest,
                    )
                )
        return rendered(self._tally, self._clock(), outbox=gauges, dropped=self._outbox.dropped)

    def round(self, report: Report, complaints: Iterable[str] = ()) -> None:
        """Tell of a round; ``complaints`` are problems beside those of the report."""
        now = self._clock()
        outcomes = (*report.recovered, *report.outcomes)
        problems = (*report.problems, *(Problem(text=text) for text in complaints))
        good = not report.bad and not problems
        self._tally = self._tally.with_round(
            now,
            good=good,
            outcomes=outcomes,
            decisions=report.decisions,
            restarts=len(report.restarted),
            healed=len(report.healed),
            unhealthy=report.unhealthy,
            problems=len(problems),
        )
        self._announce(
            of_round(
                Round(
                    at=now,
                    host=self._host,
                    outcomes=outcomes,
                    decisions=report.decisions,
                    restarted=report.restarted,
                    problems=problems,
                )
            )
        )
        if good:
            self._ask_ping()

    def failed_round(self, message: str) -> None:
        """Tell of a round that an error ended, or of a connection that broke."""
        now = self._clock()
        self._tally = self._tally.with_failed_round(now)
        self._announce([of_problem(Problem(text=message), host=self._host, at=now)])

    def _flush(self) -> None:
        """Wait a while for first attempts; what isn't delivered then waits for the service."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        with contextlib.suppress(LxdockerError):
            while time.monotonic() < deadline and any(
                (waiting := self._outbox.head(receiver.name)) is not None and not waiting.attempts
                for receiver in self._receivers
            ):
                time.sleep(_POLL_SECONDS)
        if self._pinging is not None:
            self._pinging.join(max(deadline - time.monotonic(), 0.0))

    def _announce(self, messages: Iterable[Message]) -> None:
        if self._courier is not None:
            self._courier.announce(messages)

    def _ask_ping(self) -> None:
        """Ask in the background, unless the last time still hangs."""
        if self._ping is None or (self._pinging is not None and self._pinging.is_alive()):
            return
        self._pinging = threading.Thread(target=self._asked, name="ping", daemon=True)
        self._pinging.start()

    def _asked(self) -> None:
        if self._ping is not None:
            delivery = self._ping.good_round()
            if delivery.result is not Result.DELIVERED:
                _log.warning("the ping after a good round: %s", delivery.reason)
