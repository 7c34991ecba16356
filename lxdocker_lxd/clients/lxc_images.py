"""The index of the protocol ``lxc-images``: which images a server has, and where. Pure.

A line is ``dist;release;arch;variant;build;path``, without a heading (LXC's template lxc-download).
Below the path are ``meta.tar.xz`` and the root filesystem.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.tree import is_inside
from lxdocker_lxd.errors import NotFoundError, UsageError

USER_INDEX = "meta/1.0/index-user"
METADATA = "meta.tar.xz"
ROOTFS = ("rootfs.tar.xz", "rootfs.squashfs")
"""The root filesystem's possible names, the usual one first."""

DEFAULT_VARIANT = "default"
_FIELDS = 6
_MOST_SHOWN = 8
_FORM = "DIST/RELEASE[/ARCH[/VARIANT]]"


class UnknownImageError(NotFoundError):
    """A server's index has no such image."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LxcImageName:
    """What one image is called."""

    distribution: str
    release: str
    architecture: str
    variant: str = DEFAULT_VARIANT

    def __str__(self) -> str:
        return f"{self.distribution}/{self.release}/{self.architecture}/{self.variant}"

    @property
    def short(self) -> str:
        """The name without the architecture, and without the usual variant."""
        variant = "" if self.variant == DEFAULT_VARIANT else f"/{self.variant}"
        return f"{self.distribution}/{self.release}{variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcImage:
    """One line of an index: a build, and the directory of its files."""

    name: LxcImageName
    build: str
    path: str

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.path}/{name}"


def parse_name(text: str, architecture: str) -> LxcImageName:
    """Return the name in ``DIST/RELEASE[/ARCH[/VARIANT]]``; raise UsageError.

    ``architecture`` is taken where the text has none.
    """
    parts = text.split("/")
    if not 2 <= len(parts) <= 4 or not all(parts) or ";" in text or not text.isprintable():  # noqa: PLR2004 - the form below
        raise UsageError(f"{text[:200]!r} names no image", hint=f"write it as {_FORM}")
    distribution, release, *rest = parts
    chosen, variant = (*rest, *(architecture, DEFAULT_VARIANT)[len(rest) :])
    return LxcImageName(
        distribution=distribution, release=release, architecture=chosen, variant=variant
    )


def parse_index(content: bytes, *, what: str) -> tuple[LxcImage, ...]:
    """Return the images of an index; raise DocumentError for a line that isn't one."""
    return tuple(_images(content, what))


def _images(content: bytes, what: str) -> Iterator[LxcImage]:
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split(";")
        place = fields[-1].strip("/")
        if len(fields) != _FIELDS or not all(fields):
            raise DocumentError(f"{what}: line {number}: expected six fields between semicolons")
        if not is_inside(place):
            raise DocumentError(f"{what}: line {number}: the path leads out of the tree")
        distribution, release, architecture, variant, build, _ = fields
        name = LxcImageName(
            distribution=distribution, release=release, architecture=architecture, variant=variant
        )
        yield LxcImage(name=name, build=build, path=place)


def find(images: tuple[LxcImage, ...], name: LxcImageName, *, what: str) -> LxcImage:
    """Return the image of that name; raise UnknownImageError, which tells what there is instead."""
    # Of several builds under one name the template takes the last line.
    for image in reversed(images):
        if image.name == name:
            return image
    near = [one.name for one in images if one.name.distribution == name.distribution]
    if near:
        known = sorted(set(map(str, near)))
        hint = f"it has {', '.join(known[:_MOST_SHOWN])}"
    else:
        known = sorted({one.name.distribution for one in images})
        hint = f"it has {', '.join(known[:_MOST_SHOWN])}" if known else "its index is empty"
    more = ", …" if len(known) > _MOST_SHOWN else ""
    raise UnknownImageError(f"{what}: there is no image {name}", hint=hint + more)
