"""Everything a plan is made from, read from LXD at once."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Instance
from lxdocker_lxd.lxd.server_records import Operation
from lxdocker_lxd.update.enrolment import is_enrolled
from lxdocker_lxd.update.plan import Key, Scene
from lxdocker_lxd.update.source import Source

_INSTANCES_PATH = ("1.0", "instances")


def read_scene(
    lxd: Lxd,
    now: datetime,
    *,
    projects: frozenset[str] = frozenset(),
    by_hand: bool = False,
    standing: Mapping[tuple[str, Source], frozenset[str]] = MappingProxyType({}),
) -> Scene:
    """Return what is there now: enrolled instances of all projects, and their projects' images.

    ``standing`` is what servers said themselves; see :func:`newest`.
    """
    instances = lxd.instances.list(project=None)
    followed = followed_projects(instances, projects)
    return Scene(
        instances=instances,
        images={project: lxd.images.list(project=project) for project in followed},
        aliases={project: lxd.aliases.list(project=project) for project in followed},
        now=now,
        projects=projects,
        busy=frozenset(
            key for operation in lxd.server.operations() for key in _worked_on(operation)
        ),
        absent_members=frozenset(
            member.name for member in lxd.server.members() if member.status != "Online"
        ),
        by_hand=by_hand,
        standing=standing,
    )


def followed_projects(instances: tuple[Instance, ...], projects: frozenset[str]) -> tuple[str, ...]:
    """Return the projects with enrolled instances, in order."""
    return tuple(sorted({one.project for one in instances if is_enrolled(one, projects)}))


def _worked_on(operation: Operation) -> list[Key]:
    if operation.ended:
        return []
    found = []
    for path in operation.resources:
        parts = urlsplit(path)
        pieces = tuple(parts.path.strip("/").split("/"))
        if pieces[:2] == _INSTANCES_PATH and len(pieces) > len(_INSTANCES_PATH):
            project = parse_qs(parts.query).get("project", [operation.project or DEFAULT_PROJECT])
            found.append((project[0], pieces[2]))
    return found
