"""What a document of a server isn't, though it should be. Pure."""

from lxdocker_lxd.errors import VerificationError


class DocumentError(VerificationError):
    """A document that doesn't say what its protocol wants."""


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
