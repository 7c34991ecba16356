"""Sending a split image: a multipart body whose parts pass through, never whole in memory.

LXD wants the metadata first (``metadata``), then the root filesystem (``rootfs``, or
``rootfs.img`` of a virtual machine). A body without its end is refused by LXD, which removes
what it had received; so whatever breaks our stream leaves nothing behind.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.calls import ImageUpload, TransferStep
from lxdocker_lxd.lxd.failures import FingerprintMismatchError, ImageExistsError, NameTakenError
from lxdocker_lxd.lxd.image_ports import OnTransfer
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import Image
from lxdocker_lxd.lxd.request import Request

_ANSWER_SECONDS = 900.0


class _Body:
    """The multipart body; knows the fingerprint of what it has sent."""

    def __init__(self, upload: ImageUpload, on_transfer: OnTransfer | None) -> None:
        self.boundary = secrets.token_hex(24)
        self._upload = upload
        self._on_transfer = on_transfer
        self._hash = hashlib.sha256()

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        upload = self._upload
        root = "rootfs.img" if upload.virtual_machine else "rootfs"
        yield self._head("metadata", "metadata.tar")
        yield from self._content([upload.metadata])
        yield b"\r\n" + self._head(root, upload.filename or root)
        yield from self._content(upload.rootfs)
        yield f"\r\n--{self.boundary}--\r\n".encode()

    def _head(self, name: str, filename: str) -> bytes:
        quoted = filename.replace("\\", "_").replace('"', "_")
        return (
            f"--{self.boundary}\r\n"
            f'Content-Disposition: form-data; name="{name}"; filename="{quoted}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()

    def _content(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        done = 0
        total = self._upload.rootfs_size_bytes
        for piece in pieces:
            # An empty piece would end a chunked body early.
            if not piece:
                continue
            self._hash.update(piece)
            yield piece
            done += len(piece)
            if self._on_transfer is not None and pieces is self._upload.rootfs:
                self._on_transfer(TransferStep(stage="upload", done_bytes=done, total_bytes=total))


class UploadSender:
    """Sends images into a project's store."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations
        incus = api.host_info.part("environment").text("server") == "incus"
        self._prefix = "X-Incus-" if incus else "X-LXD-"

    def send(
        self, upload: ImageUpload, *, project: str, target: str, on_transfer: OnTransfer | None
    ) -> str:
        """Send one image and return its fingerprint; what ``Images.upload`` promises."""
        body = _Body(upload, on_transfer)
        doing = f"send the image {upload.filename or upload.fingerprint[:12]} to project {project}"
        request = Request(
            method="post",
            path="images",
            doing=doing,
            params={"project": project, "target": target},
            data=body,
            headers=self._headers(upload, body),
            answer_seconds=_ANSWER_SECONDS,
        )
        try:
            result = self._operations.run(request)
        except NameTakenError as error:
            raise ImageExistsError(
                error.message,
                fingerprint=body.fingerprint,
                hint="use the image that is there",
            ) from error
        stored = result.text("fingerprint")
        if stored != body.fingerprint:
            self._drop(stored, project)
            raise FingerprintMismatchError(
                f"could not {doing}: expected the fingerprint {body.fingerprint}, LXD has"
                f" {stored or 'none'}",
                hint="try again; if it stays so, something changes the bytes on the way",
            )
        return stored

    def _drop(self, fingerprint: str, project: str) -> None:
        """Delete an image that isn't what was sent; that it was another one is what matters."""
        if not fingerprint:
            return
        request = Request(
            method="delete",
            path=under("images", fingerprint),
            doing=f"delete the image {fingerprint[:12]} of project {project}",
            params={"project": project},
        )
        with contextlib.suppress(LxdockerError):
            self._operations.run(request)

    def _headers(self, upload: ImageUpload, body: _Body) -> dict[str, str]:
        headers = {"Content-Type": f"multipart/form-data; boundary={body.boundary}"}
        if upload.public:
            headers[f"{self._prefix}public"] = "1"
        if upload.fingerprint:
            headers[f"{self._prefix}fingerprint"] = upload.fingerprint
        if upload.filename:
            headers[f"{self._prefix}filename"] = upload.filename
        if upload.properties:
            headers[f"{self._prefix}properties"] = urlencode(upload.properties)
        return headers

    def relay(self, image: Image, *, source_project: str, project: str, doing: str) -> None:
        """Send one project's stored files of ``image`` to another project, piece by piece."""
        headers = {f"{self._prefix}fingerprint": image.fingerprint}
        if image.public:
            headers[f"{self._prefix}public"] = "1"
        path = under("images", image.fingerprint, "export")
        with self._api.read_raw(path, doing, project=source_project) as answer:
            headers["Content-Type"] = answer.headers.get("content-type", "application/octet-stream")
            request = Request(
                method="post",
                path="images",
                doing=doing,
                params={"project": project},
                data=answer.pieces,
                headers=headers,
                answer_seconds=_ANSWER_SECONDS,
            )
            try:
                self._operations.run(request)
            except NameTakenError as error:
                raise ImageExistsError(
                    error.message,
                    fingerprint=image.fingerprint,
                    hint="use the image that is there",
                ) from error
