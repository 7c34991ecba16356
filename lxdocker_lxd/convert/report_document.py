"""The report of a run as JSON: written for programs, and read back from another process. Pure.

What is read may be a stranger's: every field has its type and a bound, or the document is refused.
"""

import json
from collections.abc import Mapping
from typing import TypeVar, get_args

from lxdocker_lxd.convert.run import ImageOutcome, Outcome, RunReport
from lxdocker_lxd.errors import CATEGORIES, InternalError, LxdockerError, VerificationError

MOST_BYTES = 16 << 20
_MOST_IMAGES = 10_000
_MOST_CHARACTERS = 10_000
_Kind = TypeVar("_Kind")


def fields_of(report: RunReport) -> dict[str, object]:
    """Return the report as what JSON can hold."""
    images = [
        {
            "name": outcome.name,
            "architecture": outcome.architecture or None,
            "outcome": outcome.outcome,
            "reason": outcome.reason,
            "serial": outcome.serial,
            "fingerprint": outcome.fingerprint,
            "size_bytes": outcome.size_bytes,
            "seconds": round(outcome.seconds, 3),
            "error": {
                "message": outcome.error.message,
                "hint": outcome.error.hint,
                "exit_code": outcome.error.exit_code,
            }
            if outcome.error
            else None,
        }
        for outcome in report.outcomes
    ]
    return {"images": images, "freed_bytes": report.freed_bytes}


def parse(content: bytes, *, what: str) -> RunReport:
    """Return the report that ``content`` is; ``what`` names it in errors. Raises VerificationError."""
    try:
        document = json.loads(_bounded(content, MOST_BYTES))
        images = _bounded(_take(document, "images", list), _MOST_IMAGES)
        return RunReport(
            outcomes=tuple(map(_outcome, images)),
            freed_bytes=_take(document, "freed_bytes", int),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise VerificationError(
            f"{what}: no report of a conversion: {error}",
            hint="is it the same version of lxdocker-lxd for both users?",
        ) from error


def error_of(exit_code: int, message: str, hint: str) -> LxdockerError:
    """Return an error of the category that has this exit code."""
    kinds = {kind.exit_code: kind for kind in CATEGORIES}
    return kinds.get(exit_code, InternalError)(message, hint=hint)


def _outcome(fields: object) -> ImageOutcome:
    outcome = _text(fields, "outcome")
    if outcome not in get_args(Outcome):
        raise ValueError(f"an outcome is {outcome[:40]!r}")
    error = _optional(fields, "error", dict)
    return ImageOutcome(
        name=_text(fields, "name"),
        architecture=_optional(fields, "architecture", str) or "",
        outcome=outcome,  # type: ignore[arg-type]  # one of them, as was just looked at
        reason=_text(fields, "reason"),
        serial=_optional(fields, "serial", str),
        fingerprint=_optional(fields, "fingerprint", str),
        size_bytes=_optional(fields, "size_bytes", int),
        seconds=float(_take(fields, "seconds", (int, float))),
        error=None
        if error is None
        else error_of(
            _take(error, "exit_code", int), _text(error, "message"), _text(error, "hint")
        ),
    )


_Sized = TypeVar("_Sized", bytes, list[object])


def _bounded(value: _Sized, most: int) -> _Sized:
    if len(value) > most:
        raise ValueError(f"it has more than {most} parts")
    return value


def _text(fields: object, key: str) -> str:
    text = _take(fields, key, str)
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"{key} is too long")
    return text


def _optional(fields: object, key: str, kind: type[_Kind]) -> _Kind | None:
    assert isinstance(fields, Mapping)  # noqa: S101 - _text has looked at it
    return None if fields[key] is None else _take(fields, key, kind)


def _take(fields: object, key: str, kind: type[_Kind] | tuple[type[_Kind], ...]) -> _Kind:
    if not isinstance(fields, Mapping):
        raise TypeError("an object is expected")
    value = fields[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is of another type")
    return value
