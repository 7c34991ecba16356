"""Strict reading of JSON documents that came from outside.

Duplicate keys, NaN, numbers beyond any float, other encodings than UTF-8, wrong types, lone surrogates
and what is nested in more than 64 levels are refused, so are more than 200,000 values: a document of a
megabyte takes less than sixty in memory. Every error says which document and which field. ``null`` counts as an absent field, as it does for the
Go programs that write these documents.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import UsageError, VerificationError
from lxdocker_lxd.json_bounds import JsonBoundsError, check_levels, check_values

MOST_VALUES = 200_000


class InvalidDocumentError(VerificationError):
    """A document that isn't what its specification asks for."""

    def __init__(self, what: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{what}: {problem}", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonObject:
    """One JSON object and where it stands; its accessors check types. Raises InvalidDocumentError.

    ``what`` names the document, ``place`` the path inside it.
    """

    what: str
    place: str
    fields: Mapping[str, object]

    @classmethod
    def parse(cls, raw: bytes, *, what: str) -> "JsonObject":
        """Read a document whose top is an object."""
        return cls(what=what, place="", fields=_as_object(parse_json(raw, what=what), what, "it"))

    @classmethod
    def parse_list(cls, raw: bytes, *, what: str) -> tuple["JsonObject", ...]:
        """Read a document whose top is a list of objects."""
        document = parse_json(raw, what=what)
        if not isinstance(document, list):
            raise InvalidDocumentError(what, f"it must be a list, got {_kind(document)}")
        return cls(what=what, place="", fields={"entry": document}).children("entry")

    def fail(self, problem: str, *, hint: str = "") -> InvalidDocumentError:
        """Return the error for ``problem``, met in this object."""
        where = f"{self.place}: " if self.place else ""
        return InvalidDocumentError(self.what, where + problem, hint=hint)

    def has(self, key: str) -> bool:
        """Tell whether the field is there and not null."""
        return self.fields.get(key) is not None

    def text(self, key: str, default: str = "") -> str:
        """Return a string field, ``default`` when absent."""
        value = self.fields.get(key)
        return default if value is None else self._checked_text(value, key)

    def required_text(self, key: str) -> str:
        """Return a string field that must be there and not empty."""
        value = self.text(key)
        if not value:
            raise self.fail(f"{key} is missing")
        return value

    def number(self, key: str, default: int | None = None) -> int | None:
        """Return a whole number that fits 64 bits, ``default`` when absent."""
        value = self.fields.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(f"{key} must be a whole number, got {_kind(value)}")
        if not -(1 << 63) <= value < 1 << 63:
            raise self.fail(f"{key} does not fit 64 bits")
        return value

    def size_bytes(self, key: str) -> int:
        """Return a required size; a negative one is refused."""
        value = self.number(key)
        if value is None:
            raise self.fail(f"{key} is missing")
        if value < 0:
            raise self.fail(f"{key} is negative: {value}")
        return value

    def boolean(self, key: str) -> bool:
        """Return a boolean field, False when absent."""
        value = self.fields.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.fail(f"{key} must be true or false, got {_kind(value)}")
        return value

    def digest(self, key: str) -> Digest:
        """Return a required digest whose algorithm can be verified."""
        return self._parse_digest(self.required_text(key), key)

    def digests(self, key: str) -> tuple[Digest, ...]:
        """Return a list of digests, empty when absent."""
        return tuple(self._parse_digest(text, key) for text in self.texts(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty when absent."""
        return tuple(self._checked_text(value, f"{key}[{n}]") for n, value in self._list(key))

    def text_map(self, key: str) -> Mapping[str, str]:
        """Return an object of strings, empty when absent; null values become empty strings."""
        value = self.fields.get(key)
        if value is None:
            return MappingProxyType({})
        pairs = _as_object(value, self.what, self._path(key))
        return MappingProxyType(
            {
                self._checked_text(name, key): self._checked_text(
                    "" if text is None else text, f"{key}[{name!r}]"
                )
                for name, text in pairs.items()
            }
        )

    def keys_of(self, key: str) -> tuple[str, ...]:
        """Return the sorted names in an object field (a Go set), empty when absent."""
        value = self.fields.get(key)
        if value is None:
            return ()
        pairs = _as_object(value, self.what, self._path(key))
        return tuple(sorted(self._checked_text(name, key) for name in pairs))

    def child(self, key: str) -> "JsonObject | None":
        """Return an object field, None when absent."""
        value = self.fields.get(key)
        if value is None:
            return None
        return self._object(value, key)

    def children(self, key: str) -> tuple["JsonObject", ...]:
        """Return a list of objects, empty when absent."""
        return tuple(self._object(value, f"{key}[{n}]") for n, value in self._list(key))

    def _path(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def _object(self, value: object, key: str) -> "JsonObject":
        place = self._path(key)
        return JsonObject(what=self.what, place=place, fields=_as_object(value, self.what, place))

    def _list(self, key: str) -> Iterator[tuple[int, object]]:
        value = self.fields.get(key)
        if value is None:
            return iter(())
        if not isinstance(value, list):
            raise self.fail(f"{key} must be a list, got {_kind(value)}")
        return enumerate(value)

    def _checked_text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self.fail(f"{key} must be a string, got {_kind(value)}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.fail(f"{key} is not valid Unicode (half of a surrogate pair)") from error
        return value

    def _parse_digest(self, text: str, key: str) -> Digest:
        try:
            return Digest.parse(text)
        except UsageError as error:
            raise self.fail(f"{key}: {error.message}", hint=error.hint) from error


def parse_json(raw: bytes, *, what: str) -> object:
    """Return the document in ``raw``; raise InvalidDocumentError."""
    try:
        check_values(raw, most=MOST_VALUES)
        document: object = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_pairs,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        check_levels(document)
    except UnicodeDecodeError as error:
        raise InvalidDocumentError(what, f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise InvalidDocumentError(what, "nested too deeply") from error
    except JsonBoundsError as error:
        raise InvalidDocumentError(what, str(error)) from error
    except ValueError as error:
        raise InvalidDocumentError(what, f"not valid JSON: {error}") from error
    return document


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {name!r} occurs twice")
            seen.add(name)
    return fields


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number in JSON")


def _finite(text: str) -> float:
    # Infinity could not be written into a JSON document again.
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _as_object(value: object, what: str, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidDocumentError(what, f"{place} must be an object, got {_kind(value)}")
    return MappingProxyType(value)


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
