"""A JSON object of LXD's, read field by field: absent or oddly typed fields are empty.

LXD adds fields with every version and leaves others out, so nothing unknown is an error. What must
be there (a name, a fingerprint) is checked by the reader that needs it.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeGuard

from lxdocker_lxd.lxd.failures import RefusedError

# LXD writes year 1 or the start of 1970 for "never".
_NEVER = 1970


class Document:
    """One JSON object; anything else counts as an empty one."""

    __slots__ = ("_fields",)

    def __init__(self, value: object) -> None:
        self._fields: Mapping[str, object] = value if isinstance(value, dict) else {}

    def __contains__(self, field: str) -> bool:
        return field in self._fields

    def text(self, field: str) -> str:
        """A text, or empty."""
        value = self._fields.get(field)
        return value if isinstance(value, str) else ""

    def needed(self, field: str, what: str) -> str:
        """A text that must be there; RefusedError naming ``what`` otherwise."""
        if value := self.text(field):
            return value
        raise RefusedError(
            f"{what}: LXD's answer has no {field}",
            hint="is it LXD 5.0 or newer that answers there?",
        )

    def number(self, field: str) -> int:
        """A whole number, or 0."""
        value = self._fields.get(field)
        if isinstance(value, float):
            return int(value) if math.isfinite(value) else 0
        return int(value) if isinstance(value, int) else 0

    def flag(self, field: str) -> bool:
        """True only for true."""
        return self._fields.get(field) is True

    def texts(self, field: str) -> tuple[str, ...]:
        """The texts of a list."""
        value = self._fields.get(field)
        return tuple(item for item in value if isinstance(item, str)) if _is_list(value) else ()

    def part(self, field: str) -> "Document":
        """An object inside, or an empty one."""
        return Document(self._fields.get(field))

    def parts(self, field: str) -> tuple["Document", ...]:
        """The objects of a list."""
        return documents(self._fields.get(field))

    def config(self, field: str) -> dict[str, str]:
        """An object of texts; numbers and booleans become LXD's spelling of them."""
        return {key: _spelt(value) for key, value in self.part(field).items() if value is not None}

    def devices(self, field: str) -> dict[str, dict[str, str]]:
        """An object of objects of texts."""
        part = self.part(field)
        return {name: part.config(name) for name in part.names()}

    def items(self) -> Iterator[tuple[str, object]]:
        """All fields."""
        yield from self._fields.items()

    def names(self) -> tuple[str, ...]:
        """The names of all fields."""
        return tuple(self._fields)

    def time(self, field: str) -> datetime | None:
        """A time in UTC; None when absent, unreadable, or LXD's "never"."""
        text = self.text(field)
        head, dot, tail = text.partition(".")
        if dot:
            # Go writes nanoseconds; Python 3.11 reads at most six digits.
            digits = len(tail) - len(tail.lstrip("0123456789"))
            text = f"{head}.{tail[: min(digits, 6)]:0<6}{tail[digits:]}"
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None or moment.year <= _NEVER:
                return None
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            return None


def documents(value: object) -> tuple[Document, ...]:
    """The objects of a JSON list; none for anything else."""
    return (
        tuple(Document(item) for item in value if isinstance(item, dict)) if _is_list(value) else ()
    )


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _spelt(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
