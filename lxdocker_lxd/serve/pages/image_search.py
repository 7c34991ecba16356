"""Finding images by words. Pure; the page's script does the same with the same texts.

Lower case, not folded case: browsers have nothing else, and both are to find the same.
"""

from collections.abc import Iterable, Iterator

from lxdocker_lxd.serve.pages.image_view import ImageView
from lxdocker_lxd.serve.pages.legible import legible


def found(query: str, images: Iterable[ImageView]) -> Iterator[ImageView]:
    """Yield the images that have every word of ``query`` somewhere; all when it has no word."""
    words = query.lower().split()
    for image in images:
        text = findable(image)
        if all(word in text for word in words):
            yield image


def findable(image: ImageView) -> str:
    """Return what is searched of an image, without regard to case.

    Names, description, properties, architectures; references, digests, fingerprints and serials of
    the versions in use.
    """
    parts = [image.name, *image.aliases, image.description]
    parts += [f"{key}={value}" for key, value in image.properties.items()]
    for build in image.builds:
        version = build.current
        source = version.source
        parts += [build.architecture, version.serial, version.fingerprint]
        parts += [source.reference, source.top_digest, source.manifest_digest]
    return legible(" ".join(" ".join(dict.fromkeys(parts)).split()).lower())
