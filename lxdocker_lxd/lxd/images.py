"""LXD's image store: listing, fetching by the daemon, refreshing, copying, deleting."""

import re

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.calls import ImageUpload, ProjectImage, TransferStep
from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.failures import AbsentError, ImageFetchError, RefusedError
from lxdocker_lxd.lxd.image_ports import OnTransfer
from lxdocker_lxd.lxd.image_requests import deleting, pulling, refreshing
from lxdocker_lxd.lxd.image_upload import UploadSender
from lxdocker_lxd.lxd.operations import OnStep, Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Image, UpdateSource
from lxdocker_lxd.lxd.request import Request


class LxdImages:
    """Implements the port :class:`Images`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Image, ...]:
        """All images the project sees."""
        doing = f"list the images of project {project}"
        answer = self._api.read("images", doing, recursion="1", project=project)
        return tuple(decoding.image(item, project=project) for item in answer.documents)

    def get(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> Image:
        """One image."""
        doing = f"read the image {fingerprint[:12]} of project {project}"
        answer = self._api.read(under("images", fingerprint), doing, project=project)
        return decoding.image(answer.document, project=project, etag=answer.etag)

    def upload(
        self,
        upload: ImageUpload,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Send an image."""
        sender = UploadSender(self._api, self._operations)
        return sender.send(upload, project=project, target=target, on_transfer=on_transfer)

    def pull(
        self,
        source: UpdateSource,
        *,
        project: str = DEFAULT_PROJECT,
        auto_update: bool = True,
        public: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Let the daemon fetch an image by alias."""
        request = pulling(source, project, auto_update=auto_update, public=public)
        steps = None if on_transfer is None else _download_steps(on_transfer)
        try:
            result = self._operations.run(request, on_step=steps)
        except RefusedError as error:
            raise ImageFetchError(
                error.message,
                hint="check the server, its certificate and the name: `lxc image list REMOTE:`",
            ) from error
        return self._fingerprint(result, source, project)

    def _fingerprint(self, result: Document, source: UpdateSource, project: str) -> str:
        if fingerprint := result.text("fingerprint"):
            return fingerprint
        raise RefusedError(
            f"could not tell which image {source.alias} of {source.server} is in project {project}:"
            " LXD's answer names no fingerprint",
            hint="`lxc image list` shows it",
        )

    def refresh(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> str:
        """Let LXD look for a newer image now."""
        doing = f"refresh the image {fingerprint[:12]} of project {project}"
        before = self.get(fingerprint, project=project)
        self._operations.run(refreshing(before.fingerprint, project))
        # The operation's own "refreshed" doesn't tell to what, and is true too early.
        source = before.update_source
        held = {image.fingerprint: image for image in self.list(project=project)}
        if before.fingerprint in held:
            return before.fingerprint
        for image in held.values():
            if source and image.update_source and image.update_source.key == source.key:
                return image.fingerprint
        raise AbsentError(
            f"could not {doing}: the image is gone and none came from the same source",
            hint="fetch it again",
        )

    def copy(self, source: ProjectImage, *, project: str) -> str:
        """Copy an image of another project."""
        short = source.fingerprint[:12]
        doing = f"copy the image {short} from project {source.project} to {project}"
        image = self.get(source.fingerprint, project=source.project)
        sender = UploadSender(self._api, self._operations)
        sender.relay(image, source_project=source.project, project=project, doing=doing)
        return image.fingerprint

    def edit(self, image: Image, *, project: str = DEFAULT_PROJECT) -> None:
        """Write what may be written."""
        body: dict[str, object] = {
            "auto_update": image.auto_update,
            "public": image.public,
            "properties": dict(image.properties),
            "profiles": list(image.profiles),
        }
        if image.expires_at is not None:
            body["expires_at"] = image.expires_at.isoformat()
        self._operations.run(
            Request(
                method="put",
                path=under("images", image.fingerprint),
                doing=f"edit the image {image.fingerprint[:12]} of project {project}",
                params={"project": project},
                body=body,
                etag=image.etag,
            )
        )

    def delete(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete an image."""
        self._operations.run(deleting(fingerprint, project))


def _download_steps(on_transfer: OnTransfer) -> OnStep:
    """LXD tells ``download_progress: "rootfs: 45% (12.3MB/s)"``; "metadata" comes first."""

    def step(words: Document) -> None:
        stage, _, rest = words.text("download_progress").partition(":")
        if percent := re.match(r"\s*([0-9]{1,3})(?:%|\s*$)", rest):
            on_transfer(TransferStep(stage=stage.strip(), percent=int(percent[1])))

    return step
