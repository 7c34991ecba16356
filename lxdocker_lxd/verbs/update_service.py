"""``lxdocker-lxd update run``: the service, until a signal ends it."""

import contextlib
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from lxdocker_lxd.errors import LxdockerError, StorageError
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.failures import (
    NotInstalledError,
    NotRunningError,
    UnknownOutcomeError,
    UnreachableError,
)
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.update.journal import UpdaterRunsError, service_lock
from lxdocker_lxd.update.known_problems import KnownProblems
from lxdocker_lxd.update.liveness_monitor import LivenessMonitor
from lxdocker_lxd.update.liveness_probe import InstanceLiveness
from lxdocker_lxd.update.plan import Choice, Key
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.telling import Telling
from lxdocker_lxd.update.watch import Rhythm, Watch
from lxdocker_lxd.verbs.lxd_address import lxd_place
from lxdocker_lxd.verbs.update_work import UpdateWork, now

_SLICE_SECONDS = 0.5
# How long news of an image server may lie there before a round begins.
_NEWS_SECONDS = 0.25
_HEALTH_SECONDS = 2.0
# What is said again when nothing else was said for so long.
_AGAIN_SECONDS = 3600.0
# LXD may start after us, or be away for a while. All else is somebody's to put right.
_AWAY = (NotInstalledError, NotRunningError, UnreachableError, UnknownOutcomeError)


def serve(work: UpdateWork) -> int:
    """Run as the service; SIGTERM and SIGINT end it after an update that had its outage.

    One that had none yet is given up.

    systemd, if it listens, hears READY once LXD was looked at or is known to be away, what is going
    on, and that the work gets on. Raises UpdaterRunsError, AnotherLxdError, and what keeps LXD from
    being used at all.
    """
    with contextlib.ExitStack() as opened:
        if not opened.enter_context(service_lock(Path(work.options.state))):
            raise UpdaterRunsError(
                f"serve {work.options.state}: another `lxdocker-lxd update run` does",
                hint="one service is enough; --state names another directory",
            )
        telling = opened.enter_context(work.telling(work.journal, serve=True))
        service = _Service(work, telling)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, service.stop)
        service.connect()
        threading.Thread(target=service.ask_servers, name="servers", daemon=True).start()
        threading.Thread(target=service.ask_health, name="health", daemon=True).start()
        opened.callback(service.monitor.stop)
        service.watch()
    return 0


class _Service:
    """Rounds, and what is said of them."""

    def __init__(self, work: UpdateWork, telling: Telling) -> None:
        self._work = work
        self._telling = telling
        self._interval_seconds = max(work.options.interval, 1.0)
        self._stopped = False
        self._said = ("", 0.0)
        self._lasting: frozenset[str] = frozenset()
        self._news = threading.Event()
        self._servers = work.polled.poll
        # Connections of its own: a check that hangs holds no round up.
        self.monitor = LivenessMonitor(
            lambda: open_lxd(lxd_place(work.options)),
            InstanceLiveness(),
            now,
            Path(work.options.state),
            monotonic=time.monotonic,
            projects=frozenset(work.options.projects),
        )
        work.on_step.append(work.heartbeat.ready)

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Let the service end; a signal's handler."""
        # No lock is taken here: the signal may have come while this thread holds it.
        self._stopped = True
        self._work.interruption.ask()
        self._work.heartbeat.stopping("ends when the update at work has no outage, if there is one")

    def connect(self) -> None:
        """Find out whether LXD can be used; one that is away is waited for later."""
        with contextlib.suppress(*_AWAY):
            _ = self._work.lxd

    def watch(self) -> None:
        """Serve until the end."""
        Watch(
            self._subscribe,
            self._round,
            clock=time.monotonic,
            pause=self._pause,
            tell=self._failed,
            rhythm=Rhythm(interval_seconds=self._interval_seconds, wait_seconds=_NEWS_SECONDS),
            has_news=self._has_news,
        ).run()

    def ask_servers(self) -> None:
        """Ask image servers as they are due, until the process ends; for a thread of its own."""
        while not self._stopped:
            if self._servers.look():
                self._news.set()
            time.sleep(_SLICE_SECONDS)

    def ask_health(self) -> None:
        """Ask the checks of followed instances as they are due, until the process ends."""
        while not self._stopped:
            if self.monitor.look():
                self._news.set()
            time.sleep(_HEALTH_SECONDS)

    def _has_news(self) -> bool:
        found = self._news.is_set()
        self._news.clear()
        return found

    def _subscribe(self) -> EventStream:
        return self._work.lxd.events.subscribe()

    def _pause(self, seconds: float) -> bool:
        """Wait, and tell whether to stop; the watchdog hears that this thread is alive."""
        end = time.monotonic() + seconds
        self._work.heartbeat()
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))
            self._work.heartbeat()
        return self._stopped

    def _round(self) -> frozenset[Key]:
        self._work.heartbeat.status("a round is at work")
        with self._work.journal as journal:
            report = self._work.rounds(journal, monitor=self.monitor).run()
        self._tell_report(report)
        remember_problems(self._work, report)
        self._telling.round(report, self._work.new_complaints())
        self._said = ("", 0.0)
        self._say_state("waits for news")
        return report.passing

    def _failed(self, error: LxdockerError) -> None:
        # An outage is one line, not one for each time that it was looked.
        said, when = self._said
        if error.message != said or time.monotonic() - when >= _AGAIN_SECONDS:
            self._work.console.note(f"error: {error.message}")
            self._said = (error.message, time.monotonic())
        self._telling.failed_round(error.message)
        self._say_state(f"tries again, after: {error.message}")

    def _say_state(self, text: str) -> None:
        if not self._stopped:
            looked = now().astimezone().strftime("%H:%M:%S")
            self._work.heartbeat.ready(
                f"{text}; looked at {looked}, looks every {self._interval_seconds:g} s"
            )

    def _tell_report(self, report: Report) -> None:
        """Say what happened; what is as it was in the round before is said once."""
        happened, lasting = lines_of(report)
        new = [line for line in lasting if line not in self._lasting]
        self._lasting = frozenset(lasting)
        for line in (*happened, *new):
            self._work.console.note(line)


def lines_of(report: Report) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a round did, and what every round finds again until somebody acts."""
    happened, lasting = list[str](), list[str]()
    for outcome in (*report.recovered, *report.outcomes):
        line = f"{outcome.transaction.name}: {outcome.act}: {outcome.explanation or 'done'}"
        (lasting if outcome.act is Act.HOLD else happened).append(line)
    happened += [f"{name}: restarted" for name in report.restarted]
    happened += [f"{name}: restarted, as its health check failed" for name in report.healed]
    happened += [f"removed the copy {name}" for name in report.removed]
    lasting += [
        f"{decision.name}: {decision.choice}: {decision.reason}"
        for decision in report.decisions
        if decision.choice in {Choice.NOTIFY, Choice.REFUSE}
    ]
    lasting += report.remarks
    lasting += [f"problem: {problem}" for problem in report.problems]
    return tuple(happened), tuple(lasting)


def remember_problems(work: UpdateWork, report: Report) -> None:
    """Let `update status` know a whole round's problems; without room for that it doesn't."""
    with contextlib.suppress(StorageError):
        KnownProblems(Path(work.options.state)).replace(report.problems, now())
