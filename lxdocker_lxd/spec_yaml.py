"""YAML text to values that remember where they stand, for files written by people.

A subset of YAML 1.1 on purpose: one document, at most 1 MiB, no anchors, aliases or tags, nesting up
to 32 levels, no key twice. Scalars keep the text as written, so ``restart: no`` is the word *no*
and ``mode: 0644`` isn't a number. Every complaint names file, line, column and key.
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import yaml

from lxdocker_lxd.errors import UsageError

MAX_TEXT_BYTES = 1 << 20
_MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class SpecError(UsageError):
    """A file that isn't what its format allows; names file, line and column."""


class _Loader(yaml.SafeLoader):
    """Composes nodes and refuses what could surprise: anchors, aliases, tags, deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:  # noqa: ANN401 - PyYAML
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs are partial
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused("anchors and aliases are not supported; write the value out", event)
        if getattr(event, "tag", None):
            raise _refused(f"the tag {event.tag!r} is not supported; remove it", event)
        if self.depth >= _MAX_DEPTH:
            raise _refused(f"nested deeper than {_MAX_DEPTH} levels", event)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _refused(text: str, event: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401 - untyped event
    return yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One YAML value with its place; the accessors return checked Python values.

    ``key`` is the dotted path from the top (``files[2].mode``), empty for the document. Every
    accessor raises SpecError when the value is of another kind.
    """

    node: yaml.Node
    file: str
    key: str

    def error(self, text: str, *, hint: str = "") -> SpecError:
        """Return the error to raise about this value."""
        mark = self.node.start_mark
        where = f"{self.file}:{mark.line + 1}:{mark.column + 1}"
        return SpecError(
            f"{where}: {self.key}: {text}" if self.key else f"{where}: {text}", hint=hint
        )

    @property
    def is_null(self) -> bool:
        """Whether nothing, ``null`` or ``~`` stands there."""
        return bool(self.node.tag == _TAG + "null")

    @property
    def is_scalar(self) -> bool:
        """Whether this is a single value rather than a list or map."""
        return isinstance(self.node, yaml.ScalarNode) and not self.is_null

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def text(self) -> str:
        """Return a scalar's text as written: ``8080``, ``no`` and ``0644`` stay words."""
        if not self.is_scalar:
            raise self.error(f"expected a text, got {self._kind()}")
        try:
            # JSON writes characters beyond 16 bits as pairs, which PyYAML leaves apart.
            text = str(self.node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise self.error("the text holds half a surrogate pair; remove it") from error
        if "\0" in text:
            raise self.error("the text holds a NUL character; remove it")
        return text

    def boolean(self) -> bool:
        """Return a truth value written as true/false (or YAML 1.1's yes/no, on/off)."""
        word = str(self.node.value).lower() if self.is_scalar else ""
        if self.node.tag != _TAG + "bool" or word not in _TRUE | _FALSE:
            raise self.error(f"expected true or false, got {self._kind()}")
        return word in _TRUE

    def integer(self, *, least: int, most: int) -> int:
        """Return a decimal whole number within the bounds, both included."""
        text = self.text()
        if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 - 64 bit
            raise self.error(f"expected a whole number, got {self._kind()}")
        if not least <= int(text) <= most:
            raise self.error(f"expected a number from {least} to {most}, got {int(text)}")
        return int(text)

    def items(self) -> tuple["Value", ...]:
        """Return the entries of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"expected a list, got {self._kind()}", hint="write it as [a, b]")
        return tuple(
            Value(node=node, file=self.file, key=f"{self.key}[{number}]")
            for number, node in enumerate(self.node.value, 1)
        )

    def mapping(self, known: Collection[str] | None = None) -> dict[str, "Value"]:
        """Return a map's values by key; with ``known``, any other key is an error."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"expected key: value lines, got {self._kind()}")
        found: dict[str, Value] = {}
        for key_node, value_node in self.node.value:
            place = Value(node=key_node, file=self.file, key=self.key)
            name = place.text()
            if name in found:
                first = found[name].node.start_mark.line + 1
                raise place.error(f"the key {name!r} appears twice, first on line {first}")
            if known is not None and name not in known:
                raise place.error(f"unknown key {name!r}", hint=_suggestion(name, known))
            path = f"{self.key}.{name}" if self.key else name
            found[name] = Value(node=value_node, file=self.file, key=path)
        return found

    def _kind(self) -> str:
        if self.is_null:
            return "nothing"
        if isinstance(self.node, yaml.ScalarNode):
            return repr(str(self.node.value)[:60])
        return "a list" if self.is_list else "key: value lines"


def compose(text: str, *, file: str, empty_hint: str = "") -> Value:
    """Return the one document in ``text``; ``file`` is its name in messages. Raises SpecError.

    ``empty_hint`` is the next step for someone whose file is empty.
    """
    if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise SpecError(f"{file}: larger than 1 MiB, which no such file needs")
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise SpecError(f"{where}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{file}: {' '.join(str(error).split())}") from error
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        raise SpecError(f"{file}:1:1: the file is empty", hint=empty_hint)
    return Value(node=node, file=file, key="")


def _suggestion(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}"
