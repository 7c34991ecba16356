"""What is fuzzed: a parser, the errors it may raise, and inputs to begin with."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lxdocker_lxd.console import printable
from lxdocker_lxd.errors import InternalError, LxdockerError

Mutation = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser under attack.

    ``parse`` may raise what is foreseen (an LxdockerError that is no InternalError) and what
    ``refuses`` names; anything else is a fault. ``seeds`` are inputs to begin with.
    """

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...] = ()
    mutation: Mutation | None = None
    most_bytes: int = 4096

    def check(self, data: bytes) -> bool:
        """Whether the parser took ``data``; raise what a parser mustn't."""
        refuses: tuple[type[Exception], ...] = (LxdockerError, *self.refuses)
        try:
            self.parse(data)
        except InternalError:
            raise
        except refuses as error:
            printable(str(error)).encode()
            return False
        return True


def compact(document: object) -> bytes:
    """Return a document as bytes."""
    return json.dumps(document, separators=(",", ":")).encode()


ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**40, 1.5, -0.0, 1e308, "", " ", "0", "-1",
    "\0", "\ud800", "\u202e", "\x1b[2J", "a" * 300, "9" * 5000, "../x", "/", "//", "..", "²", "٣", "=",
    "sha256:", "1970-01-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "http://[", [],
    [[]], {}, {"": ""}, [None], [0], [""], {"a": None},
)  # fmt: skip


def json_mutation(data: bytes, dice: random.Random) -> bytes:
    """Return the document with one value, key or element changed; other bytes as they are."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places = list(_places(document))
    if not places or dice.random() < 0.02:
        return compact(dice.choice(ODD_VALUES))
    holder, key = dice.choice(places)
    choice = dice.randrange(6)
    if choice < 3:
        holder[key] = dice.choice(ODD_VALUES)
    elif choice == 3:
        other, at = dice.choice(places)
        holder[key] = json.loads(json.dumps(other[at]))
    elif choice == 4:
        del holder[key]
    elif isinstance(holder, dict):
        holder[str(dice.choice(ODD_VALUES))] = holder[key]
    else:
        holder.append(holder[key])
    return compact(document)


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            keys = list(one) if isinstance(one, dict) else list(range(len(one)))
            found += [(one, key) for key in keys]
            waiting += [one[key] for key in keys]
    return found
