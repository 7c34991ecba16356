"""The remotes of an ``lxc`` configuration (``config.yml``), edited without touching anything else. Pure.

A block is added to, replaced in or removed from the file's text, so that entries, unknown keys, order and
comments of others stay as they are, byte for byte. Each result is read again and compared with what was
meant; a text that can't be edited so (``remotes`` in one line, anchors) is written anew by the YAML
library with the same content.
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
    """Whether two texts say the same to lxc."""
    try:
        return bool(yaml.safe_load(one) == yaml.safe_load(other))
    except yaml.YAMLError:
        return False


def _edited(text: str, name: str, lines: list[str], meant: object) -> str:
    candidate = _by_lines(text, name, lines)
    try:
        same = candidate is not None and yaml.safe_load(candidate) == meant
    except yaml.YAMLError:
        same = False
    if same and candidate is not None:
        return candidate
    written: str = yaml.safe_dump(meant, sort_keys=False, allow_unicode=True)
    return written


def _by_lines(text: str, name: str, lines: list[str]) -> str | None:
    """Return the text with the block of ``name`` in ``remotes`` replaced by ``lines``, if possible."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
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


def _loaded(text: str, file: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
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
