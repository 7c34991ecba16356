"""``lxdocker-lxd update run``: the service, until a signal ends it."""

import contextlib
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.update.journal import UpdaterRunsError, service_lock
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.watch import Rhythm, Watch
from lxdocker_lxd.verbs.update_work import UpdateWork


def serve(work: UpdateWork) -> int:
    """Run as the service; SIGTERM and SIGINT end it after the step at work."""
    stop = threading.Event()

    def stopped(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    with contextlib.ExitStack() as opened:
        if not opened.enter_context(service_lock(Path(work.options.state))):
            raise UpdaterRunsError(
                f"serve {work.options.state}: another `lxdocker-lxd update run` does",
                hint="one service is enough; --state names another directory",
            )
        telling = opened.enter_context(work.telling(work.journal, serve=True))

        def one_round() -> None:
            with work.journal as journal:
                report = work.rounds(journal).run()
            _tell_report(work, report)
            telling.round(report, work.new_complaints())

        def failed(error: LxdockerError) -> None:
            work.console.note(f"error: {error.message}")
            telling.failed_round(error.message)

        Watch(
            work.lxd,
            one_round,
            clock=time.monotonic,
            pause=lambda seconds: stop.wait(seconds) if seconds else stop.is_set(),
            tell=failed,
            rhythm=Rhythm(interval_seconds=max(work.options.interval, 1.0)),
        ).run()
    return 0


def _tell_report(work: UpdateWork, report: Report) -> None:
    for outcome in (*report.recovered, *report.outcomes):
        work.console.note(f"{outcome.transaction.name}: {outcome.act}: {outcome.reason or 'done'}")
    for decision in report.decisions:
        if decision.choice in {Choice.NOTIFY, Choice.REFUSE}:
            work.console.note(f"{decision.name}: {decision.choice}: {decision.reason}")
    for name in report.removed:
        work.console.note(f"removed the copy {name}")
    for problem in report.problems:
        work.console.note(f"problem: {problem}")
