"""Asks the health checks of followed instances at run time, each at its interval.

It runs in threads of its own with connections of its own, so a check that hangs delays neither a
round nor the checks of others. What it learns is a hint: a round looks again before it does anything.
"""

import contextlib
import json
import logging
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.enrolment import is_enrolled
from lxdocker_lxd.update.liveness import (
    Heal,
    HealError,
    Key,
    Liveness,
    Remedy,
    begin,
    decode_liveness,
    encode_liveness,
    heal_of,
    observe,
    remedy_for,
    restarted,
)
from lxdocker_lxd.update.transaction import Phase, Stamp, stamp_of

FILE = "liveness.json"
STATE_DIRECTORY = Path("/var/lib/lxdocker-lxd/update")
"""Where the service keeps it, unless it was told otherwise."""
_MOST_BYTES = 4 << 20
_AT_ONCE = 4
_LIST_EVERY_SECONDS = 20.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessCheck:
    """How one instance is to be asked: how often, and how many failures in a row are unhealthy."""

    interval_seconds: float
    start_period_seconds: float
    retries: int


class LivenessProbe(Protocol):
    """Knows an instance's check, and asks it."""

    def check(self, lxd: Lxd, instance: Instance) -> LivenessCheck | None:
        """Return how to ask; None for an instance without a check. Raises LxdockerError."""
        ...

    def ask(self, lxd: Lxd, instance: Instance) -> Health:
        """Ask once. Raises LxdockerError where LXD can't be asked."""
        ...


@dataclass(slots=True)
class _Watched:
    """One instance that is asked: since when, and when next, in seconds of the monotonic clock."""

    instance: Instance
    heal: Heal
    seen_seconds: float
    check: LivenessCheck | None = None
    due_seconds: float = 0.0
    asked: "Future[None] | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sick:
    """An instance about which something is to be done."""

    project: str
    name: str
    remedy: Remedy
    liveness: Liveness


@dataclass(slots=True)
class _State:
    known: dict[Key, Liveness] = field(default_factory=dict)
    watched: dict[Key, _Watched] = field(default_factory=dict)
    list_due_seconds: float = 0.0


class LivenessMonitor:
    """Watches the followed instances that run and have a check; safe for several threads.

    ``connect`` opens a connection for one thread. What is known is kept in a file of the state
    directory, so that restarts count across restarts of the service; it may be lost. ``clock`` dates
    what is known, ``monotonic`` counts seconds and says when to ask.
    """

    def __init__(
        self,
        connect: Callable[[], Lxd],
        probe: LivenessProbe,
        clock: Callable[[], datetime],
        directory: Path | None,
        *,
        monotonic: Callable[[], float],
        projects: frozenset[str] = frozenset(),
    ) -> None:
        self._connect = connect
        self._probe = probe
        self._clock = clock
        self._monotonic = monotonic
        self._path = directory / FILE if directory is not None else None
        self._projects = projects
        self._lock = threading.Lock()
        self._local = threading.local()
        self._state = _State(known=_read(self._path))
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="liveness")

    # ---- asking, for a thread of its own

    def look(self, *, wait: bool = False) -> bool:
        """Ask what is due; return whether something is to be done about an instance.

        Checks run in the background, unless ``wait``. Never raises: a LXD that is away says nothing.
        """
        try:
            self._list()
        except LxdockerError as error:
            _log.debug("liveness: %s", error.message)
            return False
        for watched in self._due():
            watched.asked = self._threads.submit(self._ask, watched)
            if wait:
                watched.asked.result()
        return bool(self.sick())

    def stop(self) -> None:
        """Ask nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lxd(self) -> Lxd:
        if not hasattr(self._local, "lxd"):
            self._local.lxd = self._connect()
        found: Lxd = self._local.lxd
        return found

    def _list(self) -> None:
        """See which instances there are, at most every 20 seconds."""
        now, seconds, state = self._clock(), self._monotonic(), self._state
        if seconds < state.list_due_seconds:
            return
        found = {
            (one.project, one.name): one
            for one in self._lxd().instances.list(project=None)
            if one.running and is_enrolled(one, self._projects) and not _is_changing(one)
        }
        with self._lock:
            state.list_due_seconds = seconds + _LIST_EVERY_SECONDS
            for key in state.watched.keys() - found.keys():
                del state.watched[key]
            for key, one in found.items():
                held = state.watched.get(key)
                if held is None or held.instance.last_used_at != one.last_used_at:
                    state.watched[key] = _Watched(
                        instance=one, heal=_heal(one), seen_seconds=seconds
                    )
                else:
                    held.instance, held.heal = one, _heal(one)
                state.known[key] = begin(state.known.get(key, Liveness()), one.last_used_at, now)
            for key in state.known.keys() - found.keys():
                if not state.known[key].restarts:
                    del state.known[key]

    def _due(self) -> list[_Watched]:
        seconds = self._monotonic()
        with self._lock:
            return [
                one
                for one in self._state.watched.values()
                if one.heal is not Heal.OFF
                and (one.asked is None or one.asked.done())
                and seconds >= one.due_seconds
            ]

    def _ask(self, watched: _Watched) -> None:
        """Ask one instance and remember what it said; what goes wrong says nothing of it."""
        instance, health = watched.instance, Health.UNKNOWN
        try:
            if watched.check is None:
                watched.check = self._probe.check(self._lxd(), instance)
            check = watched.check
            if check is None:
                # Its image, or a key, may bring one with its next start.
                watched.due_seconds = math.inf
                return
            health = self._probe.ask(self._lxd(), instance)
        except LxdockerError as error:
            _log.debug("liveness of %s: %s", instance.name, error.message)
            if hasattr(self._local, "lxd"):
                del self._local.lxd
            check = watched.check or LivenessCheck(
                interval_seconds=30.0, start_period_seconds=0.0, retries=3
            )
        now, seconds = self._clock(), self._monotonic()
        watched.due_seconds = seconds + check.interval_seconds
        started = instance.last_used_at or now
        # A start that is dated ahead is one of a clock that was ahead: what was seen counts.
        lived_seconds = max((now - started).total_seconds(), seconds - watched.seen_seconds)
        in_start = lived_seconds < check.start_period_seconds
        with self._lock:
            key = (instance.project, instance.name)
            before = self._state.known.get(key, Liveness())
            after = observe(before, health, now, retries=check.retries, in_start_period=in_start)
            self._state.known[key] = after
            if (after.health, after.failures) != (before.health, before.failures):
                self._write()

    # ---- what is known, for rounds and lists

    def sick(self) -> tuple[Sick, ...]:
        """Return the instances about which something is to be done now."""
        now = self._clock()
        with self._lock:
            found = [
                Sick(
                    project=key[0],
                    name=key[1],
                    remedy=remedy_for(self._state.known.get(key, Liveness()), one.heal, now),
                    liveness=self._state.known.get(key, Liveness()),
                )
                for key, one in self._state.watched.items()
            ]
        return tuple(one for one in found if one.remedy is not Remedy.NOTHING)

    def unhealthy(self) -> tuple[Key, ...]:
        """Return the instances whose check fails, in order."""
        with self._lock:
            found = (
                key for key, one in self._state.known.items() if one.health is Health.UNHEALTHY
            )
            return tuple(sorted(found))

    def known(self) -> Mapping[Key, Liveness]:
        """Return what is known of each instance."""
        with self._lock:
            return dict(self._state.known)

    def note_restart(self, key: Key) -> None:
        """Remember, before it is done, that an instance is restarted for its health."""
        with self._lock:
            now = self._clock()
            self._state.known[key] = restarted(self._state.known.get(key, Liveness()), now)
            self._state.watched.pop(key, None)
            self._write()

    def note_told(self, key: Key) -> None:
        """Remember that an instance's state was announced."""
        with self._lock:
            known = self._state.known.get(key)
            if known is not None:
                self._state.known[key] = replace(known, told=True)
                self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        text = json.dumps(encode_liveness(self._state.known))
        # It is a memory: without it, the next checks tell.
        with contextlib.suppress(LxdockerError, OSError):
            atomic.write(self._path, f"{text}\n".encode(), mode=0o600)


def read_liveness(directory: Path) -> Mapping[Key, Liveness]:
    """Return what a service has written down in its state directory; nothing where it can't be read."""
    return _read(directory / FILE)


def _read(path: Path | None) -> dict[Key, Liveness]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return decode_liveness(json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, RecursionError):
        return {}


def _heal(instance: Instance) -> Heal:
    try:
        return heal_of(instance.expanded_config)
    except HealError:
        # The plan tells of it.
        return Heal.NOTIFY


def _is_changing(instance: Instance) -> bool:
    """Whether an update of it is open."""
    stamp = stamp_of(instance)
    return stamp is not None and not (isinstance(stamp, Stamp) and stamp.phase is Phase.COMMITTED)
