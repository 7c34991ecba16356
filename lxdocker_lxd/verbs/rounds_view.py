"""How updates are watched: drawn on a terminal, and line by line everywhere else."""

import contextlib
import importlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO, cast

from lxdocker_lxd.console import Console
from lxdocker_lxd.update.procedure import ENDS, Step
from lxdocker_lxd.update.transaction import Transaction
from lxdocker_lxd.verbs.update_work import UpdateWork

_WATCHED = frozenset({"now", "run", "rollback", "recover"})


@contextlib.contextmanager
def watched(work: UpdateWork) -> Iterator[UpdateWork]:
    """Yield the work with a view of its steps, where standard error is a terminal that can move.

    rich is loaded only there.
    """
    err = work.console.err
    moving = err.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if not moving or work.options.action not in _WATCHED or getattr(work.options, "dry_run", False):
        yield work
        return
    terminal = importlib.import_module("lxdocker_lxd.terminal_rounds")
    # Results wait for what is drawn to be gone: both may be on the same terminal.
    results = io.StringIO()
    try:
        with terminal.TerminalRounds(err, time.monotonic) as rounds:

            def see(transaction: Transaction, step: Step) -> None:
                text = f"{step.act}: {step.reason}" if step.reason else str(step.act)
                rounds.step(transaction.name, text, ended=step.act in ENDS)

            work.views.append(see)
            console = Console(results, cast("TextIO", rounds), work.console.debug)
            yield replace(work, console=console)
    finally:
        if results.getvalue():
            work.console.result(results.getvalue())
