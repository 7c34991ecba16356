"""A journal in memory, for tests that need no disk."""

from lxdocker_lxd.update.journal_record import Entry


class MemoryJournal:
    """Implements the port Journal; ``lose`` forgets everything, as a lost disk does."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def reserve(self) -> None:
        """There is always room in memory."""

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)

    def read(self) -> tuple[Entry, ...]:
        return tuple(self.entries)

    def lose(self) -> None:
        self.entries.clear()
