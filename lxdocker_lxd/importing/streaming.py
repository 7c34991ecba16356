"""Images on their way from the packer into one project of one LXD, without a file between.

The packer's thread writes, another one sends; a few blocks wait between them, so that the slower
one sets the pace. LXD names an image when it has all of it: until then a broken stream leaves
nothing there. What has arrived has no name yet; whoever opened the delivery names it, or takes it
back.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Self

from lxdocker_lxd.convert.delivery import Carrier, Parcel
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.importing.block_pipe import BlockPipe, PipeBrokenError
from lxdocker_lxd.importing.sending import source_properties
from lxdocker_lxd.lxd.calls import ImageUpload
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    FingerprintMismatchError,
    ImageExistsError,
    UnknownOutcomeError,
)
from lxdocker_lxd.lxd.ports import Lxd

_WAITING_BYTES = 4 << 20
_ENDING_SECONDS = 10.0


class _Sending(Carrier):
    """One upload in a thread of its own."""

    def __init__(self, lxd: Lxd, project: str, parcel: Parcel, *, public: bool) -> None:
        self._lxd = lxd
        self._project = project
        self._pipe = BlockPipe(_WAITING_BYTES)
        self._upload = ImageUpload(
            metadata=parcel.metadata,
            rootfs=self._pipe,
            filename=f"{parcel.name}{parcel.suffix}",
            properties={
                **parcel.annotations,
                **source_properties(parcel.serial, parcel.source),
            },
            public=public,
        )
        held = lxd.images.list(project=project)
        self._before = frozenset(image.fingerprint for image in held)
        self._error: BaseException | None = None
        self._stored = ""
        # The image that this upload brought, as long as nobody else cares for it.
        self.arrived = ""
        self._finished = False
        self._thread = threading.Thread(target=self._send, name="send", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            self._stored = self._lxd.images.upload(self._upload, project=self._project)
        except BaseException as error:  # noqa: BLE001 - the packer's thread raises it
            self._error = error
        finally:
            # LXD may have answered before it read everything.
            self._pipe.give_up()

    def write(self, block: bytes) -> None:
        """Pass a block on; raise what the upload failed with."""
        try:
            self._pipe.put(block)
        except PipeBrokenError:
            self._thread.join()
            raise self._failure() from None

    def _failure(self) -> BaseException:
        if self._error is not None and not isinstance(self._error, PipeBrokenError):
            return self._error
        return UnknownOutcomeError(
            f"could not send the image {self._upload.filename} to project {self._project}:"
            " LXD's answer came before its end",
            hint="look into lxd.log, then try again",
        )

    def finish(self, fingerprint: str) -> None:
        """End the upload and see that LXD has the image."""
        self._pipe.end()
        self._thread.join()
        self._finished = True
        stored = self._stored
        if isinstance(self._error, ImageExistsError):
            stored = self._error.fingerprint
        elif isinstance(self._error, UnknownOutcomeError) and self._is_there(fingerprint):
            stored = fingerprint
        elif self._error is not None:
            raise self._failure()
        if stored not in self._before:
            self.arrived = stored
        if stored != fingerprint:
            self.take_back()
            raise FingerprintMismatchError(
                f"could not send the image {self._upload.filename} to project {self._project}:"
                f" expected the fingerprint {fingerprint}, LXD has {stored or 'none'}",
                hint="try again; if it stays so, something changes the bytes on the way",
            )

    def _is_there(self, fingerprint: str) -> bool:
        try:
            self._lxd.images.get(fingerprint, project=self._project)
        except LxdockerError:
            # LXD may just be starting again; the first failure tells more.
            return False
        return True

    def stop(self) -> None:
        """End an upload that wasn't finished; LXD drops what it has of it."""
        if self._finished:
            return
        self._pipe.give_up()
        self._thread.join(_ENDING_SECONDS)
        self._finished = True
        if self._stored not in self._before:
            self.arrived = self._stored

    def take_back(self) -> None:
        """Delete what arrived; the failure that led here is what a user is told."""
        gone, self.arrived = self.arrived, ""
        if gone:
            with contextlib.suppress(LxdockerError):
                self._lxd.images.delete(gone, project=self._project)


class Streaming:
    """The deliveries into one project; implements ``Delivery``.

    When its block ends, uploads end too, and what arrived and wasn't handed over goes again.
    """

    def __init__(self, lxd: Lxd, project: str, *, public: bool) -> None:
        self._lxd = lxd
        self._project = project
        self._public = public
        self._begun: list[_Sending] = []

    def has(self, name: str, architecture: str, fingerprint: str) -> bool:  # noqa: ARG002 - one project
        """Whether the project's store has that image."""
        try:
            self._lxd.images.get(fingerprint, project=self._project)
        except AbsentError:
            return False
        return True

    def wants(self, name: str, architecture: str) -> bool:  # noqa: ARG002 - one project
        """All images are wanted."""
        return True

    @contextlib.contextmanager
    def open(self, parcel: Parcel) -> Iterator[Carrier]:
        """Begin an upload; raises what asking LXD fails with."""
        sending = _Sending(self._lxd, self._project, parcel, public=self._public)
        self._begun.append(sending)
        try:
            yield sending
        except BaseException:
            sending.stop()
            sending.take_back()
            raise

    def hand_over(self, fingerprint: str) -> bool:
        """Return whether that image arrived; whoever asked names it or deletes it."""
        found = [sending for sending in self._begun if sending.arrived == fingerprint]
        for sending in found:
            sending.arrived = ""
        return bool(found)

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End it; see above."""
        for sending in self._begun:
            sending.stop()
            sending.take_back()
