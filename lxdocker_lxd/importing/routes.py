"""Where a refresh brings its images: each to the LXD that its import named."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Self

from lxdocker_lxd.convert.delivery import Carrier, Parcel
from lxdocker_lxd.importing.import_record import ImportRecord
from lxdocker_lxd.importing.streaming import Streaming
from lxdocker_lxd.lxd.ports import Lxd


class Routes:
    """Implements ``Delivery`` for several images; ``connect`` opens a remote's LXD when needed.

    What one LXD alone gets is streamed there. What several get becomes a file, made once.
    """

    def __init__(self, records: Iterable[ImportRecord], connect: Callable[[str], Lxd]) -> None:
        self._connect = connect
        self._records: dict[tuple[str, str], list[ImportRecord]] = {}
        for record in records:
            if record.kind == "source":
                self._records.setdefault((record.name, record.architecture), []).append(record)
        self._streams: dict[tuple[str, ...], Streaming] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End all uploads; images that arrived and weren't handed over go again."""
        self._open.close()

    def _stream(self, record: ImportRecord) -> Streaming:
        if record.key not in self._streams:
            lxd = self._connect(record.remote)
            stream = Streaming(lxd, record.project, public=record.public)
            self._streams[record.key] = self._open.enter_context(stream)
        return self._streams[record.key]

    def _of(self, name: str, architecture: str) -> list[ImportRecord]:
        return self._records.get((name, architecture), [])

    def has(self, name: str, architecture: str, fingerprint: str) -> bool:
        """Whether all that shall have the image have it."""
        found = self._of(name, architecture)
        return bool(found) and all(
            self._stream(record).has(name, architecture, fingerprint) for record in found
        )

    def wants(self, name: str, architecture: str) -> bool:
        """Whether exactly one LXD shall have the image."""
        return len(self._of(name, architecture)) == 1

    def open(self, parcel: Parcel) -> AbstractContextManager[Carrier]:
        """Begin an upload there; raises what connecting and asking fail with."""
        (record,) = self._of(parcel.name, parcel.architecture)
        return self._stream(record).open(parcel)

    def hand_over(self, record: ImportRecord, fingerprint: str) -> bool:
        """Return whether that image arrived; whoever asked names it or deletes it."""
        stream = self._streams.get(record.key)
        return stream is not None and stream.hand_over(fingerprint)
