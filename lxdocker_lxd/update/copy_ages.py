"""How long kept copies have been there, counted in time that passed while an updater looked."""

from pathlib import Path

from lxdocker_lxd.update.elapsed_time import ElapsedTimes
from lxdocker_lxd.update.uptime import Uptimes

FILE = "copies.json"


class CopyAges(ElapsedTimes):
    """The ages of copies by the id of their update, in a file of the state directory.

    A file that is lost or can't be read makes every copy new again, which keeps it longer. With
    ``dry_run`` nothing is written. ``uptimes`` are those of the instances that copies wait for.
    """

    def __init__(self, directory: Path, *, dry_run: bool = False) -> None:
        super().__init__(directory / FILE, dry_run=dry_run)
        self.uptimes = Uptimes(directory, dry_run=dry_run)
