"""The remotes of an ``lxc`` configuration (``config.yml``), edited without touching anything else. Pure.

A block is added to, replaced in or removed from the file's text, so that entries, unknown keys, order and
comments of others stay as they are, byte for byte. Each result is read again and compared with what was
meant; a text that can't be edited so (``remotes`` in one line, anchors) is written anew by the YAML
library with the same content.

Root reads it, and a user wrote it: values are counted as often as aliases repeat them, and a text that
grows large so, nests deep, or holds endless numbers is refused.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.setup.item import Value

FRESH = """\
default-remote: local
remotes:
  images:
    addr: https://images.linuxcontainers.org
    protocol: simplestreams
    public: true
  local:
    addr: unix://
    public: false
aliases: {}
"""
"""What ``lxc`` itself writes the first time; it adds the remotes it has built in."""

_INDENT = "  "
_MOST_LEVELS = 32
_MOST_VALUES = 100_000
_MOST_DIGITS = 100
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


class RemoteConfigError(UsageError):
    """A ``config.yml`` that isn't what lxc writes."""


def remote(text: str, name: str, *, file: str) -> Value | None:
    """Return the entry of a remote with all of its keys as texts; None without one.

    Raises RemoteConfigError.
    """
    found = _remotes(_loaded(text, file), file).get(name)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _broken(file, f"the remote {name} is no mapping")
    return {str(key): _word(value) for key, value in found.items()}


def with_remote(text: str, name: str, entry: Value, *, file: str) -> str:
    """Return the file's text with the remote ``name`` as ``entry``; raise RemoteConfigError."""
    before = _loaded(text, file)
    meant = {**before, "remotes": {**_remotes(before, file), name: _typed(entry)}}
    return _edited(text, name, _lines(name, entry), meant)


def without_remote(text: str, name: str, *, file: str) -> str:
    """Return the file's text without the remote ``name``; raise RemoteConfigError."""
    before = _loaded(text, file)
    left = {key: value for key, value in _remotes(before, file).items() if key != name}
    return _edited(text, name, [], {**before, "remotes": left})


def same(one: str, other: str) -> bool:
    """Whether two texts say the same to lxc; one that can't be read says nothing."""
    try:
        return bool(_content(one) == _content(other))
    except yaml.YAMLError:
        return False


def _edited(text: str, name: str, lines: list[str], meant: object) -> str:
    candidate = _by_lines(text, name, lines)
    try:
        same = candidate is not None and _content(candidate) == meant
    except yaml.YAMLError:
        same = False
    if same and candidate is not None:
        return candidate
    written: str = yaml.safe_dump(meant, sort_keys=False, allow_unicode=True)
    return written


def _by_lines(text: str, name: str, lines: list[str]) -> str | None:
    """Return the text with the block of ``name`` in ``remotes`` replaced by ``lines``, if possible."""
    node = _node(text)
    if node is None:
        return text + "remotes:\n" + "".join(_INDENT + line for line in lines)
    if not isinstance(node, yaml.MappingNode):
        return None
    section = next((value for key, value in node.value if key.value == "remotes"), None)
    if section is None:
        return text.rstrip("\n") + "\nremotes:\n" + "".join(_INDENT + line for line in lines)
    if not isinstance(section, yaml.MappingNode) or section.flow_style or not section.value:
        return None
    rows = text.splitlines(keepends=True)
    indent = " " * section.start_mark.column
    new = [indent + line for line in lines]
    for key, value in section.value:
        if key.value == name:
            # The end mark of a block stands where the next thing begins; comments there stay.
            first, last = key.start_mark.line, _last_line(value)
            return "".join([*rows[:first], *new, *rows[last + 1 :]])
    first = section.start_mark.line
    return "".join([*rows[:first], *new, *rows[first:]])


def _last_line(node: yaml.Node) -> int:
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1])
    end: int = node.end_mark.line
    return end


def _lines(name: str, entry: Value) -> list[str]:
    values = [f"{_INDENT}{key}: {_shown(value)}\n" for key, value in _typed(entry).items()]
    return [f"{_shown(name)}:\n", *values]


def _shown(value: str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A JSON text is a YAML text, whatever characters it has.
    return value if yaml.safe_load(value) == value else json.dumps(value)


def _typed(entry: Value) -> dict[str, str | bool]:
    return {
        key: value == "true" if value in {"true", "false"} else value
        for key, value in entry.items()
    }


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Loader(yaml.SafeLoader):
    """Composes nodes and counts them as if every alias were written out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:  # noqa: ANN401 - PyYAML
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs are partial
        is_alias = isinstance(event, yaml.AliasEvent)
        if self._depth >= _MOST_LEVELS:
            raise _refused(f"nested deeper than {_MOST_LEVELS} levels", event)
        self._depth += 1
        before = self._count
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise _refused("a value that holds itself", event)
        self._count += self._sizes[id(node)] if is_alias else 1
        if self._count > _MOST_VALUES:
            raise _refused(f"more than {_MOST_VALUES} values, aliases written out", event)
        self._sizes[id(node)] = self._count - before
        if node is not None and node.tag in _NUMBERS and len(node.value) > _MOST_DIGITS:
            raise _refused(f"a number of more than {_MOST_DIGITS} characters", event)
        return node


def _refused(text: str, event: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401 - untyped event
    return yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)


def _node(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _content(text: str) -> Any:  # noqa: ANN401 - whatever the text says
    """Return what a text says; raise YAMLError."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # What the library's constructors let pass: 2001-99-99, !!bool x.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def _loaded(text: str, file: str) -> Mapping[str, Any]:
    try:
        content = _content(text)
    except yaml.YAMLError as error:
        place = str(getattr(error, "problem_mark", "")).strip().partition("\n")[0]
        problem = getattr(error, "problem", None) or "no YAML"
        raise _broken(file, f"{problem} {place}".strip()) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _broken(file, "expected a mapping at the top")
    return content


def _remotes(content: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    found = content.get("remotes")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _broken(file, "remotes is no mapping")
    return found


def _broken(file: str, problem: str) -> RemoteConfigError:
    return RemoteConfigError(
        f"register the remote in {file}: the file is broken: {problem}",
        hint="mend it (`lxc remote list` fails with it as well), or move it away; then run setup again",
    )
