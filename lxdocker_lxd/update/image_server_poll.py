"""Asks image servers what followed names stand for now, more often than LXD does.

Only answers are kept, never documents. A server that is down, slow or sends nonsense is asked ever
more rarely, told of once an hour, and disturbs neither the others nor the rounds: ``look`` is for a
thread of its own, everything else for the rounds' thread.
"""

import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.update.image_server_http import Answer, NoSuchDocumentError
from lxdocker_lxd.update.source import AGAIN_PATH
from lxdocker_lxd.update.stream_listing import (
    INDEX_PATH,
    Listed,
    ListingError,
    Wanted,
    product_documents,
    standing_for,
)

_LONGEST_WAIT_SECONDS = 3600.0
_MOST_DOUBLINGS = 10
_TOLD_AGAIN_SECONDS = 3600.0
_BELIEVED_SECONDS = 3600.0
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_SHORT = 12


class Ask(Protocol):
    """Asks for a document; see ``image_server_http.ask``."""

    def __call__(self, url: str, *, certificate: str = "", tag: str = "") -> Answer:
        """Return it; raise AskingError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An image server as it is trusted: ``certificate`` in PEM, or empty for the system's."""

    url: str
    certificate: str = field(default="", repr=False)


@dataclass(slots=True)
class _Knowledge:
    """What is known of one server."""

    wanted: frozenset[Wanted] = frozenset()
    tags: dict[str, str] = field(default_factory=dict)
    documents: tuple[str, ...] = ()
    listed: dict[str, dict[Wanted, Listed]] = field(default_factory=dict)
    has_again: bool | None = None
    due: float = -math.inf
    answered: float = -math.inf
    failures: int = 0
    problem: str = ""
    told: float = -math.inf


class ImageServerPoll:
    """Knows what names stand for. ``clock`` counts seconds, ``draw`` gives numbers from 0 to 1."""

    def __init__(
        self,
        ask: Ask,
        *,
        clock: Callable[[], float],
        draw: Callable[[], float],
        interval_seconds: float,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._draw = draw
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._known: dict[Server, _Knowledge] = {}

    def follow(self, wanted: Mapping[Server, frozenset[Wanted]]) -> None:
        """Look for these names from now on, and forget all others."""
        with self._lock:
            known = {server: self._known.get(server, _Knowledge()) for server in wanted}
            for server, names in wanted.items():
                if known[server].wanted != names:
                    # What was asked for by its tag would come back without its content.
                    known[server].tags.clear()
                    known[server].wanted = names
                    known[server].due = -math.inf
            self._known = known

    def look(self, *, at_once: bool = False) -> bool:
        """Ask the servers that are due, or all; return whether a name stands for something else."""
        now = self._clock()
        with self._lock:
            due = [
                (server, one) for server, one in self._known.items() if at_once or one.due <= now
            ]
        changed = [self._look(server, one) for server, one in due]
        return any(changed)

    def listed(self, server: Server, wanted: Wanted) -> Listed | None:
        """Return what the name stands for, as far as is known and not too old."""
        with self._lock:
            one = self._known.get(server)
            if one is None or one.answered + _BELIEVED_SECONDS < self._clock():
                return None
            return _first(one, wanted)

    def again_url(self, server: Server, listed: Listed) -> str:
        """Return the URL under which LXD reads the server anew; empty if it offers none."""
        with self._lock:
            one = self._known.get(server)
            if one is None or not one.has_again:
                return ""
        serial = _UNSAFE.sub("-", listed.serial)
        return f"{_base(server)}{AGAIN_PATH}{serial}-{min(listed.fingerprints)[:_SHORT]}"

    def problems(self) -> tuple[str, ...]:
        """Return a line for each server that fails, at the beginning and then once an hour."""
        now, lines = self._clock(), []
        with self._lock:
            for server, one in self._known.items():
                if one.problem and one.told + _TOLD_AGAIN_SECONDS <= now:
                    one.told = now
                    lines.append(f"ask {server.url} for new images: {one.problem}")
        return tuple(lines)

    # ---- one server

    def _look(self, server: Server, one: _Knowledge) -> bool:
        with self._lock:
            wanted, tags = one.wanted, dict(one.tags)
            documents, listed = one.documents, dict(one.listed)
        try:
            found = self._read(server, wanted, tags, documents, listed)
            has_again = self._offers_again(server, one.has_again, found[1])
        except Exception as error:  # noqa: BLE001 - a bug with one server must not end all asking
            known = isinstance(error, LxdockerError)
            with self._lock:
                self._failed(one, str(error) if known else f"a bug: {type(error).__name__}")
            return False
        with self._lock:
            return self._answered(one, wanted, found, has_again)

    def _read(
        self,
        server: Server,
        wanted: frozenset[Wanted],
        tags: dict[str, str],
        documents: tuple[str, ...],
        listed: dict[str, dict[Wanted, Listed]],
    ) -> tuple[dict[str, str], tuple[str, ...], dict[str, dict[Wanted, Listed]]]:
        index = self._fetch(server, INDEX_PATH, tags)
        if index is not None:
            documents = product_documents(index)
        for path in documents:
            content = self._fetch(server, path, tags)
            if content is not None:
                listed[path] = standing_for(content, wanted)
        kept = {path: tags[path] for path in (INDEX_PATH, *documents) if path in tags}
        return kept, documents, {path: listed.get(path, {}) for path in documents}

    def _fetch(self, server: Server, path: str, tags: dict[str, str]) -> bytes | None:
        url = f"{_base(server)}/{path}"
        answer = self._ask(url, certificate=server.certificate, tag=tags.get(path, ""))
        if answer.content is not None:
            tags.pop(path, None)
            if answer.tag:
                tags[path] = answer.tag
        return answer.content

    def _offers_again(self, server: Server, known: bool | None, documents: tuple[str, ...]) -> bool:
        """Whether the server has its tree under other URLs too, so that LXD reads it anew."""
        if known is not None:
            return known
        url = f"{_base(server)}{AGAIN_PATH}asks/{INDEX_PATH}"
        try:
            content = self._ask(url, certificate=server.certificate).content
            return content is not None and product_documents(content) == documents
        except (NoSuchDocumentError, ListingError):
            return False

    def _answered(
        self,
        one: _Knowledge,
        wanted: frozenset[Wanted],
        found: tuple[dict[str, str], tuple[str, ...], dict[str, dict[Wanted, Listed]]],
        has_again: bool,
    ) -> bool:
        before = {name: _first(one, name) for name in wanted}
        one.documents, one.listed = found[1], found[2]
        one.tags = found[0] if one.wanted == wanted else {}
        one.has_again, one.problem, one.failures = has_again, "", 0
        one.told = -math.inf
        one.answered = self._clock()
        if one.wanted == wanted:
            one.due = one.answered + self._interval_seconds * (0.9 + 0.2 * self._draw())
        return any(_first(one, name) != before[name] for name in wanted)

    def _failed(self, one: _Knowledge, problem: str) -> None:
        one.failures += 1
        one.problem = problem
        wait = self._interval_seconds * (1 << min(one.failures, _MOST_DOUBLINGS))
        longest = max(_LONGEST_WAIT_SECONDS, self._interval_seconds)
        one.due = self._clock() + min(wait, longest) * (0.5 + 0.5 * self._draw())


def _base(server: Server) -> str:
    return server.url.rstrip("/")


def _first(one: _Knowledge, wanted: Wanted) -> Listed | None:
    found = (one.listed.get(path, {}).get(wanted) for path in one.documents)
    return next((listed for listed in found if listed is not None), None)
