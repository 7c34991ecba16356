"""Several workers of one run (pytest-xdist): whole files, those that take longest first.

Each worker has a private LXD of its own. What files share for the whole run is made once by each worker that
gets one of them, so files with the same dear fixture stay together.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, TypeVar

SECONDS = {"lxd": 8.0, "registry": 2.0, "oracle": 2.0, "browser": 2.0, "tools": 1.0, "root": 1.0}
"""What a test with this marker usually takes; one without any takes ``PLAIN_SECONDS``."""
PLAIN_SECONDS = 0.1
TOGETHER = {
    f"tests/lxd/{name}.py": "converted_images"
    for name in ("test_real_images", "test_server_unit", "test_setup_in_container")
} | {"tests/lxd/test_setup_systemd.py": "converted_images"}
"""Files that stay together, with the fixture that they share."""


class Test(Protocol):
    """What is asked of pytest's items."""

    @property
    def nodeid(self) -> str:
        """Its name: file, ``::``, and the rest."""

    def get_closest_marker(self, name: str) -> object:
        """Return its marker of this name, or None."""


AnyTest = TypeVar("AnyTest", bound=Test)


def group_of(nodeid: str) -> str:
    """What a test belongs to: its file, or the fixture that several files share."""
    file = nodeid.split("::", 1)[0]
    return TOGETHER.get(file, file)


def longest_first(items: Iterable[AnyTest]) -> list[AnyTest]:
    """Order whole groups so that no long one is left for the end; the same in each worker."""
    groups: dict[str, list[AnyTest]] = defaultdict(list)
    for item in items:
        groups[group_of(item.nodeid)].append(item)
    ordered = sorted(groups.values(), key=lambda group: -sum(map(_seconds, group)))
    return [item for group in ordered for item in group]


def _seconds(item: Test) -> float:
    marked = (seconds for name, seconds in SECONDS.items() if item.get_closest_marker(name))
    return max(marked, default=PLAIN_SECONDS)


def number() -> int:
    """Which worker this process is, from 0 on; 0 too when there is only one."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
