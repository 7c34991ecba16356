"""JSON that others wrote, read within bounds of length, depth and numbers. Pure."""

import json
import math
import re
from collections.abc import Mapping

from lxdocker_lxd.errors import UsageError

MOST_CHARACTERS = 4 << 20
DEEPEST = 32
_LONGEST_NUMBER = 40
# One that doesn't end goes on to the end of the text, so that none is read twice.
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


def json_of(text: str, *, most_characters: int = MOST_CHARACTERS) -> object:
    """Return the value that a text in JSON is; raise UsageError for others, and nothing else.

    Its numbers are finite and have 40 characters at most, its texts have no lone surrogates, and
    nothing is nested deeper than 32 levels.
    """
    if len(text) > most_characters:
        raise UsageError(f"it has more than {most_characters} characters")
    if _depth(text) > DEEPEST:
        raise UsageError(f"it is nested deeper than {DEEPEST} levels")
    try:
        found: object = _DECODER.decode(text)
        text.encode()
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError("it is no JSON") from error
    return found


def json_object_of(text: str, *, most_characters: int = MOST_CHARACTERS) -> Mapping[str, object]:
    """Return the JSON object a text is; raise UsageError as :func:`json_of` does."""
    found = json_of(text, most_characters=most_characters)
    if not isinstance(found, dict):
        raise UsageError("it is no JSON object")
    return found


def _depth(text: str) -> int:
    """Return how deep a text's brackets are nested, where it is JSON."""
    deepest = depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise ValueError("a number isn't finite")
    return number


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)
