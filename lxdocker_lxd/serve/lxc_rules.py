"""What LXC's download template takes of an index. Pure.

A line is ``dist;release;arch;variant;build;path``; the template compares the first four exactly, and
takes ``meta.tar.xz`` and ``rootfs.tar.xz`` below the path.
"""

from dataclasses import dataclass

from lxdocker_lxd.clients.tree import is_inside
from lxdocker_lxd.serve.finding import Finding, wrong

INDEXES = tuple(
    f"meta/1.0/index-{name}{ending}" for name in ("system", "user") for ending in ("", ".5", ".7")
)
_FIELDS = 6
_FILES = ("meta.tar.xz", "rootfs.tar.xz")


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcListing:
    """The files an index leads to, and what is wrong with its lines."""

    paths: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_index(content: bytes, *, path: str) -> LxcListing:
    """Return what the index at ``path`` lists."""
    paths: list[str] = []
    findings: list[Finding] = []
    seen: set[tuple[str, ...]] = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split(";")
        place = fields[-1].strip("/")
        name = tuple(fields[:4])
        if len(fields) != _FIELDS or not all(fields):
            findings.append(wrong(path, f"line {number}: expected six fields between semicolons"))
        elif not is_inside(place):
            findings.append(wrong(path, f"line {number}: the path leads out of the tree"))
        elif name in seen:
            findings.append(wrong(path, f"line {number}: {';'.join(name)} is listed twice"))
        else:
            seen.add(name)
            paths += [f"{place}/{file}" for file in _FILES]
    return LxcListing(paths=tuple(paths), findings=tuple(findings))
