"""Brings what happened to its receivers: into the outbox at once, from there in the background.

The updater never waits for a receiver. Each one has a thread of its own, so that one that hangs
delays nobody else. What can't even be written into the outbox is kept in memory and tried again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from lxdocker_lxd.errors import LxdockerError, StorageError
from lxdocker_lxd.update.delivery import Receiver, Result
from lxdocker_lxd.update.journal_record import Entry
from lxdocker_lxd.update.notification import Message, news, of_entry
from lxdocker_lxd.update.outbox import Outbox
from lxdocker_lxd.update.told import Told

_CATCH_UP = timedelta(days=7)
_MOST_UNWRITTEN = 1000
_AFTER_FAILURE_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Courier:
    """Tells receivers; ``announce`` and ``catch_up`` never raise for what tells only of problems."""

    def __init__(
        self,
        outbox: Outbox,
        told: Told,
        receivers: Sequence[Receiver],
        clock: Callable[[], datetime],
    ) -> None:
        self._outbox = outbox
        self._told = told
        self._receivers = tuple(receivers)
        self._clock = clock
        self._unwritten: deque[Message] = deque(maxlen=_MOST_UNWRITTEN)
        # Receivers whose outbox has the first of them already.
        self._put_for: set[tuple[str, str]] = set()
        self._stopping = threading.Event()
        self._news = {receiver.name: threading.Event() for receiver in self._receivers}
        self._threads: list[threading.Thread] = []

    # ---- into the outbox

    def announce(self, messages: Iterable[Message]) -> None:
        """Put what is news into the outbox and return when it is on disk."""
        if not self._receivers:
            return
        waiting = {one.subject: one.at for one in self._unwritten if one.lasting}
        self._unwritten.extend(news(messages, {**waiting, **self._told.when}, self._clock()))
        try:
            while self._unwritten:
                self._put(self._unwritten[0])
                self._note(self._unwritten.popleft())
        except StorageError as error:
            _log.error("messages can't be kept: %s", error.message)
        for event in self._news.values():
            event.set()

    def _put(self, message: Message) -> None:
        """Put it into the outbox of each receiver that hasn't got it from an earlier attempt."""
        for receiver in self._receivers:
            key = (message.id, receiver.name)
            if key not in self._put_for and receiver.wants(message):
                self._outbox.put(receiver.name, message)
                self._put_for.add(key)

    def _note(self, message: Message) -> None:
        """Write down that it was told; after the outbox, so that a crash tells twice, never not."""
        self._put_for.clear()
        subject = message.subject if message.lasting else message.id
        try:
            self._told.add((subject, message.id), self._clock())
        except StorageError as error:
            _log.error("what was told can't be written down: %s", error.message)

    def catch_up(self, entries: Iterable[Entry], *, host: str) -> None:
        """Announce ends in the journal that nobody was told of, because of a crash.

        The first time ever nothing is announced; what is there is history. So is what happened a
        week before the newest entry: a clock that was set ahead since makes nothing older.
        """
        if not self._receivers:
            return
        entries, now = tuple(entries), self._clock()
        since = max((entry.at for entry in entries if entry.at <= now), default=now) - _CATCH_UP
        messages = [of_entry(entry, host=host) for entry in entries if entry.at > since]
        ends = [message for message in messages if message is not None]
        if self._told.is_new:
            try:
                self._told.add((message.id for message in ends), self._clock())
            except StorageError as error:
                _log.error("messages can't be kept: %s", error.message)
            return
        self.announce(message for message in ends if message.id not in self._told.when)

    # ---- from the outbox

    def work_off(self, receiver: Receiver) -> float | None:
        """Deliver what is due; return the seconds until something is, or None if nothing waits."""
        while not self._stopping.is_set():
            waiting = self._outbox.head(receiver.name)
            if waiting is None:
                return None
            left = self._outbox.wait_seconds(waiting)
            if left > 0:
                return left
            delivery = receiver.deliver(waiting.message)
            self._outbox.settle(waiting, delivery)
            if delivery.result is not Result.DELIVERED:
                _log.warning("message for %s: %s", receiver.name, delivery.reason)
        return None

    def start(self) -> None:
        """Begin to deliver in the background."""
        for receiver in self._receivers:
            thread = threading.Thread(
                target=self._serve, args=(receiver,), name=f"tell {receiver.name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self, within_seconds: float) -> None:
        """End; what wasn't delivered waits for the next start."""
        self._stopping.set()
        for event in self._news.values():
            event.set()
        for thread in self._threads:
            thread.join(within_seconds / max(len(self._threads), 1))
        self._threads.clear()

    def _serve(self, receiver: Receiver) -> None:
        event = self._news[receiver.name]
        while not self._stopping.is_set():
            event.clear()
            try:
                left = self.work_off(receiver)
            except LxdockerError as error:
                _log.error("messages for %s: %s", receiver.name, error.message)
                left = _AFTER_FAILURE_SECONDS
            if not self._stopping.is_set():
                event.wait(left)
