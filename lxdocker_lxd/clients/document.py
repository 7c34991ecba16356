"""Documents of servers, and what they aren't, though they should be. Pure."""

import json

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.json_bounds import check_levels, check_values

MOST_VALUES = 400_000
"""Of one document: in memory less than 100 MB. Lists of images have one value in 40 bytes or more."""


class DocumentError(VerificationError):
    """A document that doesn't say what its protocol wants."""


def parse_object(content: bytes, *, what: str) -> dict[str, object]:
    """Return the JSON object that a document is; raise DocumentError."""
    try:
        check_values(content, most=MOST_VALUES)
        document = json.loads(content)
        check_levels(document)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{what}: no JSON: {str(error)[:200]}") from error
    return mapping(document, what=what)


def texts(value: object, *, what: str) -> tuple[str, ...]:
    """Return a list of texts, an empty one for nothing; raise DocumentError."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DocumentError(f"{what}: expected a list of texts")
    return tuple(value)


def text(value: object, *, what: str) -> str:
    """Return a text, an empty one for nothing; raise DocumentError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DocumentError(f"{what}: expected a text")
    return value


def mapping(value: object, *, what: str) -> dict[str, object]:
    """Return an object, an empty one for nothing; raise DocumentError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError(f"{what}: expected an object")
    return value
