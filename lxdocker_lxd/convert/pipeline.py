"""The use case ``convert``: every specification's image pulled, built where needed, and published."""

from collections.abc import Callable
from datetime import datetime

from lxdocker_lxd.convert.run import ConvertOptions, RunReport
from lxdocker_lxd.progress import Progress


def convert(
    options: ConvertOptions, progress: Progress, *, now: Callable[[], datetime]
) -> RunReport:
    """Run once over the specifications; ``now`` returns the time in UTC."""
    raise NotImplementedError
