"""What an image is, without its layers: the documents behind a name, fetched and read.

``inspect`` serves the command of that name; ``resolve`` tells which manifest a platform would get.
A few small requests each; nothing is stored.
"""

from dataclasses import dataclass

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.convert.oci import Descriptor, Index, Manifest
from lxdocker_lxd.convert.pull import (
    INDEX_COUNT_LIMIT,
    INDEX_DEPTH_LIMIT,
    PlatformNotFoundError,
    check_count,
    check_platform,
)
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.digest import Digest, VerifyingReader
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.platform import Platform, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One platform an image is offered for; ``platform`` is None when the index doesn't say."""

    platform: Platform | None
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a name means for one platform.

    ``offers`` is empty for an image without an index, and ``described`` None: it is the platform
    that the index gives the image.
    """

    top_digest: Digest
    manifest_digest: Digest
    manifest: Manifest
    offers: tuple[Offer, ...]
    described: Platform | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """An image's documents; ``size_bytes`` is what its layers have as they are transferred."""

    resolved: Resolved
    config: ImageConfig
    size_bytes: int


def inspect(
    source: Source, wanted: Platform, *, image: str, or_another: bool = False
) -> Inspection:
    """Return what ``source`` names for ``wanted``; ``image`` names it in errors.

    With ``or_another`` an image without an index may be for any platform. Raises NotFoundError, VerificationError, NetworkError, AuthenticationError.
    """
    resolved = resolve(source, wanted, image=image)
    manifest = resolved.manifest
    what = f"{image}: manifest {resolved.manifest_digest}"
    oci.check_image(manifest, what=what)
    what_config = f"{image}: configuration {manifest.config.digest}"
    config = oci.parse_image_config(_config(source, manifest.config, what_config), what=what_config)
    oci.check_layers(manifest, config, what=what)
    if not or_another:
        check_platform(config, wanted, described=resolved.described, image=image)
    return Inspection(
        resolved=resolved,
        config=config,
        size_bytes=sum(layer.size_bytes for layer in manifest.layers),
    )


def resolve(source: Source, wanted: Platform, *, image: str) -> Resolved:
    """Return which manifest ``source`` names for ``wanted``.

    Raises PlatformNotFoundError and what :class:`Source` raises.
    """
    answer = source.manifest(None)
    top = oci.parse_manifest(
        answer.raw,
        media_type=answer.media_type or None,
        what=f"{image}: manifest {answer.digest}",
    )
    if isinstance(top, Manifest):
        return Resolved(
            top_digest=answer.digest,
            manifest_digest=answer.digest,
            manifest=top,
            offers=(),
            described=None,
        )
    entries = _flattened(source, top, image)
    chosen = choose(entries, wanted)
    if chosen is None:
        offered = tuple(entry.platform for entry in entries if entry.platform)
        raise PlatformNotFoundError(image, wanted, offered)
    manifest = _document(source, chosen, image)
    if not isinstance(manifest, Manifest):
        raise VerificationError(f"{image}: {chosen.digest} is not a manifest")
    return Resolved(
        top_digest=answer.digest,
        manifest_digest=chosen.digest,
        manifest=manifest,
        offers=tuple(Offer(platform=entry.platform, digest=entry.digest) for entry in entries),
        described=chosen.platform,
    )


def _flattened(source: Source, index: Index, image: str) -> list[Descriptor]:
    """Return the manifests of an index and of those nested in it, in their order."""
    found: list[Descriptor] = []
    seen: set[Digest] = set()
    pending = [(entry, 1) for entry in reversed(index.images)]
    while pending:
        check_count(len(pending) + len(found), image=image)
        entry, depth = pending.pop()
        if not entry.is_index:
            found.append(entry)
            continue
        if entry.digest in seen:
            continue
        seen.add(entry.digest)
        if depth >= INDEX_DEPTH_LIMIT or len(seen) > INDEX_COUNT_LIMIT:
            raise VerificationError(f"{image}: index {entry.digest} is nested too deeply")
        nested = _document(source, entry, image)
        if isinstance(nested, Index):
            pending.extend((inner, depth + 1) for inner in reversed(nested.images))
    return found


def _document(source: Source, descriptor: Descriptor, image: str) -> Manifest | Index:
    what = f"{image}: manifest {descriptor.digest}"
    raw = descriptor.data or source.manifest(descriptor.digest).raw
    return oci.parse_manifest(raw, media_type=descriptor.media_type, what=what)


def _config(source: Source, descriptor: Descriptor, what: str) -> bytes:
    if descriptor.data is not None:
        return descriptor.data
    if descriptor.size_bytes > oci.CONFIG_LIMIT_BYTES:
        raise VerificationError(
            f"{what}: {descriptor.size_bytes} bytes, more than {oci.CONFIG_LIMIT_BYTES}"
        )
    with source.blob(descriptor, 0) as stream:
        reader = VerifyingReader(stream, descriptor.digest, descriptor.size_bytes, what=what)
        return b"".join(reader)
