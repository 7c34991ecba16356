"""Signals while updates are done by hand: the first one ends the command properly, a second at once.

What has caused an outage is finished or turned back, as the service does; what hasn't is given up.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from lxdocker_lxd.update.means import PutOffError
from lxdocker_lxd.update.procedure import BEFORE_OUTAGE, ENDS, Act, Step
from lxdocker_lxd.update.transaction import Transaction

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal that is closed sends more than one.
_SAME_SECONDS = 1.0


class Interruption:
    """What a user who wants the command to end asks of it; for the thread that works.

    Signals within ``same_seconds`` of the first count as one.
    """

    def __init__(self, *, same_seconds: float = _SAME_SECONDS) -> None:
        self._same_seconds = same_seconds
        self._say: Callable[[str], None] = lambda _text: None
        self._began: float | None = None
        self._defers = False
        self.worked = False
        """Whether the work that is to come to a proper end was begun."""
        self._gives_up = False
        self._outage = False
        self._unfinished: dict[str, Transaction] = {}

    @property
    def asked(self) -> bool:
        """Whether an end was asked for."""
        return self._began is not None

    @property
    def unfinished(self) -> tuple[Transaction, ...]:
        """The updates that were begun, or taken up, and didn't come to their end."""
        return tuple(self._unfinished.values())

    def ask(self) -> None:
        """Ask for an end; for the handlers of signals, so it takes no lock."""
        self._began = time.monotonic()

    # ---- what the work tells

    def defer(self, *, wanted: bool) -> None:
        """From now on let the first signal only ask for an end, or let it end the work again."""
        self._defers = wanted
        self.worked = self.worked or wanted

    def step(self, transaction: Transaction, step: Step) -> None:
        """Hear of the next step of an update."""
        self._outage = step.act not in ENDS and step.act not in BEFORE_OUTAGE
        if step.act in ENDS and step.act is not Act.HOLD:
            self._unfinished.pop(transaction.id, None)
        else:
            self._unfinished[transaction.id] = transaction

    @contextlib.contextmanager
    def giving_up(self) -> Iterator[None]:
        """Let :meth:`check` end the block, which waits for others just before an outage."""
        self._gives_up = True
        try:
            yield
        finally:
            self._gives_up = False
        self._outage = not self.asked

    def check(self) -> None:
        """Raise PutOffError where a wait is to end because an end was asked for."""
        if self.asked and self._gives_up:
            raise PutOffError("interrupted before its outage")

    # ---- signals

    @contextlib.contextmanager
    def handled(self, say: Callable[[str], None]) -> Iterator[None]:
        """Handle signals in the block as the module says; ``say`` tells what the first one does.

        Signals that the process ignores stay ignored.
        """
        self._say = say
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN and handler is not None:
                signal.signal(number, self._signalled)
        try:
            yield
        finally:
            for number, handler in before.items():
                # None stands for a handler that isn't Python's.
                if handler is not None:
                    signal.signal(number, handler)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if not self._defers:
            raise KeyboardInterrupt
        if self._began is not None:
            if time.monotonic() - self._began < self._same_seconds:
                return
            raise KeyboardInterrupt
        self.ask()
        # The signal may have come while a remark is written, which can't be done twice at once.
        with contextlib.suppress(RuntimeError):
            self._say(self._intention())

    def _intention(self) -> str:
        names = ", ".join(one.name for one in self.unfinished)
        if not names:
            return "ends when what is at work is done; once more leaves it"
        if self._outage:
            return f"finishing the update of {names}; once more leaves it"
        return f"giving up the update of {names}, which had no outage yet; once more leaves it"
