"""How much a stranger's JSON may make of itself in memory: values and levels, beside its bytes. Pure.

``[{},{},...`` takes thirty times its size when it is read, and an indent as deep as its brackets makes as
much of it again. So values are counted before a text is read, and levels after it.
"""

from collections.abc import Iterator

MOST_LEVELS = 64
"""Objects and lists in each other; images and indexes have less than ten."""

_OPENERS = (b",", b"[", b"{")


class JsonBoundsError(ValueError):
    """A text that would take far more memory than its size tells."""


def check_values(raw: bytes, *, most: int) -> None:
    """Raise JsonBoundsError if ``raw`` could hold more than ``most`` values.

    Each value but the first follows a comma or a bracket; those inside of texts are counted too.
    """
    if sum(raw.count(mark) for mark in _OPENERS) > most:
        raise JsonBoundsError(f"it holds more than {most} values")


def check_levels(document: object) -> None:
    """Raise JsonBoundsError if a document is nested deeper than MOST_LEVELS."""
    level = [document]
    depth = 0
    while level := [inner for one in level for inner in _containers(one)]:
        depth += 1
        if depth >= MOST_LEVELS:
            raise JsonBoundsError(f"nested too deeply, in more than {MOST_LEVELS} levels")


def _containers(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        inner: Iterator[object] = iter(value.values())
    elif isinstance(value, list):
        inner = iter(value)
    else:
        return iter(())
    return (one for one in inner if isinstance(one, dict | list))
