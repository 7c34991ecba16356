"""API paths made of names, and names out of the paths LXD gives."""

from collections.abc import Iterable
from urllib.parse import parse_qs, quote, unquote

from lxdocker_lxd.lxd.records import DEFAULT_PROJECT

_INSTANCE_KINDS = frozenset({"instances", "containers", "virtual-machines"})
_OBJECT_PARTS = 2


def under(*parts: str) -> str:
    """Join parts of an API path; each is one segment, whatever characters it has."""
    return "/".join(quote(part, safe="") for part in parts)


def parts_of(source: str) -> tuple[tuple[str, ...], str]:
    """Split what LXD names as ``/1.0/KIND/NAME?project=P`` into its parts and the project."""
    # A path, and no URL: whatever stands there can't be a wrong one.
    path, _, query = source.partition("#")[0].partition("?")
    parts = [unquote(part) for part in path.split("/") if part]
    project = parse_qs(query).get("project", [DEFAULT_PROJECT])[0]
    return tuple(parts[1:] if parts[:1] == ["1.0"] else parts), project


def instances_of(used_by: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return project and name of each instance among the paths of users of something."""
    found = (parts_of(path) for path in used_by)
    return frozenset(
        (project, parts[1])
        for parts, project in found
        if len(parts) == _OBJECT_PARTS and parts[0] in _INSTANCE_KINDS
    )
