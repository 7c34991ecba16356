"""What can be asked about images and their names; the rules of ``ports`` hold."""

from collections.abc import Callable
from typing import Protocol

from lxdocker_lxd.lxd.calls import (
    ImageUpload,
    ProjectImage,
    TransferStep,
)
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Alias,
    Image,
    UpdateSource,
)

OnTransfer = Callable[[TransferStep], None]


class Images(Protocol):
    """The image store. A fingerprint is always the full one."""

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Image, ...]:
        """All images the project sees."""
        ...

    def get(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> Image:
        """One image, with its ETag."""
        ...

    def upload(
        self,
        upload: ImageUpload,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Send an image and return its fingerprint; it is in the store then, without aliases.

        Memory stays bounded. ImageExistsError names the fingerprint LXD already has.
        """
        ...

    def pull(
        self,
        source: UpdateSource,
        *,
        project: str = DEFAULT_PROJECT,
        auto_update: bool = True,
        public: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Let the daemon fetch an image by alias, and keep it; return its fingerprint.

        One that is there already keeps its update source, or gets this one if it has none; it stays
        ``cached`` if it was. ``image-created`` tells of it in either case.
        """
        ...

    def refresh(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> str:
        """Let LXD look for a newer image now; the fingerprint that holds afterwards.

        The old fingerprint is gone when they differ. LXD reads a server's index at most once an
        hour, and calls a failed download a success; so "the same" may mean "could not look".
        """
        ...

    def copy(self, source: ProjectImage, *, project: str) -> str:
        """Copy an image of another project of this daemon, without aliases; its fingerprint."""
        ...

    def edit(
        self,
        image: Image,
        *,
        project: str = DEFAULT_PROJECT,
    ) -> None:
        """Write ``public``, ``auto_update``, ``properties``, ``profiles`` and ``expires_at``.

        Conditional on ``image.etag``.
        """
        ...

    def delete(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete an image with its aliases; instances made of it live on."""
        ...


class Aliases(Protocol):
    """Local names of images. Any text is a name; a slash is part of it."""

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Alias, ...]:
        """All aliases the project sees."""
        ...

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Alias:
        """One alias, with its ETag."""
        ...

    def create(
        self, name: str, fingerprint: str, *, project: str = DEFAULT_PROJECT, description: str = ""
    ) -> None:
        """Give an image a name."""
        ...

    def move(self, alias: Alias, fingerprint: str) -> None:
        """Point an alias to another image; conditional on ``alias.etag``."""
        ...

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Rename an alias."""
        ...

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Remove a name; the image stays."""
        ...
