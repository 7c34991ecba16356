"""How pytest-xdist hands tests out: apart from ``workers``, since plain pytest does without it."""

from xdist.scheduler import LoadScopeScheduling

from tests.harness.workers import group_of


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a worker the next group as soon as it has nearly done its last one."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
