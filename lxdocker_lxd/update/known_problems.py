"""The problems of the last round, in a file: what they are, and since when each has been there."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.redaction import cleaned

FILE = "problems.json"
_FORMAT = 1
_MOST = 1000
_MOST_BYTES = 4 << 20
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProblem:
    """A problem, and when it was met first; other numbers in its text make no other problem."""

    problem: Problem
    since: datetime

    @property
    def subject(self) -> tuple[str, str, str]:
        """What is equal for the same problem at different times."""
        one = self.problem
        return (one.project, one.name, _NUMBER.sub("#", one.text))


class KnownProblems:
    """A file in ``directory``. A missing or damaged one holds nothing."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def read(self) -> tuple[KnownProblem, ...]:
        """Return the problems of the last whole round."""
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(_MOST_BYTES))
            return tuple(_known(one) for one in document["problems"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ()

    def replace(self, problems: Iterable[Problem], now: datetime) -> None:
        """Let these be the problems; one that was known keeps its time. Raises StorageError."""
        before = self.read()
        since = {one.subject: one.since for one in before}
        met = [KnownProblem(problem=_presentable(one), since=now) for one in problems]
        kept = [replace(one, since=since.get(one.subject, now)) for one in met[:_MOST]]
        if tuple(kept) == before:
            return
        document = {"format": _FORMAT, "problems": [_document(one) for one in kept]}
        atomic.make_directory(self._path.parent, mode=0o700)
        try:
            atomic.write(self._path, f"{json.dumps(document)}\n".encode(), mode=0o600)
        except OSError as error:
            raise atomic.storage_error("write", self._path, error) from error


def _presentable(problem: Problem) -> Problem:
    return Problem(project=problem.project, name=problem.name, text=cleaned(problem.text))


def _document(known: KnownProblem) -> dict[str, str]:
    return {
        "project": known.problem.project,
        "name": known.problem.name,
        "text": known.problem.text,
        "since": known.since.astimezone(UTC).isoformat(),
    }


def _known(document: dict[str, object]) -> KnownProblem:
    since = datetime.fromisoformat(str(document["since"]))
    return KnownProblem(
        problem=Problem(
            project=str(document["project"]),
            name=str(document["name"]),
            text=str(document["text"]),
        ),
        since=since if since.tzinfo is not None else since.replace(tzinfo=UTC),
    )
