"""What setup did, as its state file keeps it: each thing with what was there before. Pure.

A record is written as ``begun`` before a thing is made and as ``done`` after it, so that a crash in
between is completed by the next run and taken back by ``--undo``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.setup.item import Item, Key, Value

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing that was made: how it was ``before`` (None: absent) and how it is ``after``."""

    kind: str
    name: str
    text: str
    before: Value | None
    after: Value
    done: bool

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return (self.kind, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupState:
    """All records in the order they were made.

    ``directories`` were made for the state file itself, outermost first. ``proven`` tells whether
    the self-test passed after the last change.
    """

    records: tuple[Record, ...] = ()
    directories: tuple[str, ...] = ()
    proven: bool = False

    def get(self, key: Key) -> Record | None:
        """Return the record of a thing."""
        return next((record for record in self.records if record.key == key), None)

    def begun(self, item: Item, before: Value | None) -> Self:
        """Return the state before ``item`` is made: ``before`` is how to take it back."""
        record = Record(
            kind=item.kind,
            name=item.name,
            text=item.text,
            before=before,
            after=item.wanted,
            done=False,
        )
        return self._with(record)

    def finished(self, key: Key) -> Self:
        """Return the state after the thing was made."""
        found = self.get(key)
        return self if found is None else self._with(replace(found, done=True))

    def without(self, key: Key) -> Self:
        """Return the state without a thing that was taken back."""
        left = tuple(record for record in self.records if record.key != key)
        return replace(self, records=left, proven=False)

    def _with(self, record: Record) -> Self:
        if self.get(record.key) is None:
            return replace(self, records=(*self.records, record), proven=False)
        changed = (record if one.key == record.key else one for one in self.records)
        return replace(self, records=tuple(changed), proven=False)


def encode(state: SetupState) -> str:
    """Return the state file's text."""
    content = {
        "version": VERSION,
        "proven": state.proven,
        "directories": list(state.directories),
        "records": [
            {
                "kind": record.kind,
                "name": record.name,
                "text": record.text,
                "before": None if record.before is None else dict(record.before),
                "after": dict(record.after),
                "done": record.done,
            }
            for record in state.records
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def decode(text: str, *, file: str) -> SetupState:
    """Return the state of a state file; raise VerificationError for one that setup didn't write."""
    try:
        content = json.loads(text)
        _check_version(content["version"])
        return SetupState(
            records=tuple(map(_record, content["records"])),
            directories=tuple(map(_text, content["directories"])),
            proven=content["proven"] is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(
            f"read what setup did: {file} is damaged ({type(error).__name__}: {error})",
            hint="bring it back from a copy; without it `setup --undo` can't know what to take back",
        ) from error


def _check_version(version: object) -> None:
    if version != VERSION:
        raise ValueError(f"version {version!r}")


def _record(content: Mapping[str, object]) -> Record:
    before = content["before"]
    return Record(
        kind=_text(content["kind"]),
        name=_text(content["name"]),
        text=_text(content["text"]),
        before=None if before is None else _value(before),
        after=_value(content["after"]),
        done=content["done"] is True,
    )


def _value(content: object) -> Value:
    if not isinstance(content, dict):
        raise TypeError("expected an object")
    return {_text(key): _text(value) for key, value in content.items()}


def _text(content: object) -> str:
    if not isinstance(content, str):
        raise TypeError("expected a text")
    return content
