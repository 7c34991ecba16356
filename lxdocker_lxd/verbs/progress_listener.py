"""Which display of progress a command gets."""

import contextlib
import importlib
import time
from collections.abc import Iterator

from lxdocker_lxd.console import Console
from lxdocker_lxd.progress import Progress
from lxdocker_lxd.progress_display import JsonLines, NoticesOnly, Plain


@contextlib.contextmanager
def progress_listener(mode: str, console: Console) -> Iterator[Progress]:
    """Yield the listener for ``mode``; rich is loaded only where it draws."""
    if mode == "rich" or (mode == "auto" and console.err.isatty()):
        terminal = importlib.import_module("lxdocker_lxd.terminal_progress")
        with terminal.TerminalProgress(console.err) as bars:
            yield bars
    elif mode == "plain":
        yield Plain(console.err, time.monotonic)
    elif mode == "json":
        yield JsonLines(console.err)
    else:
        yield NoticesOnly(console.err)
