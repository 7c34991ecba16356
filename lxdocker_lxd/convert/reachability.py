"""Which content a set of entry points needs: manifests, what they name, what that names."""

from collections.abc import Callable, Collection, Iterable

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import VerificationError


def reachable(
    entries: Iterable[Descriptor],
    keep: Collection[Digest],
    read: Callable[[Digest], bytes | None],
) -> frozenset[Digest]:
    """Return ``keep``, the entries, and all they reach.

    ``read`` returns a document, or None for what isn't there. What ``entries`` call a manifest or
    index must be one; a digest in ``keep`` may be anything. Raises VerificationError when a
    document that may reach others can't be read: then nothing is certainly unused.
    """
    kinds: dict[Digest, str | None] = dict.fromkeys(keep)
    kinds.update((entry.digest, entry.media_type) for entry in entries)
    waiting = list(kinds.items())
    seen: set[Digest] = set()
    while waiting:
        digest, media_type = waiting.pop()
        if digest in seen:
            continue
        seen.add(digest)
        waiting.extend(
            (child.digest, child.media_type) for child in _children(digest, media_type, read)
        )
    return frozenset(seen)


def _children(
    digest: Digest, media_type: str | None, read: Callable[[Digest], bytes | None]
) -> tuple[Descriptor, ...]:
    if media_type is not None and media_type not in oci.MANIFEST_TYPES | oci.INDEX_TYPES:
        return ()
    raw = read(digest)
    if raw is None or (media_type is None and not raw.startswith(b"{")):
        return ()
    try:
        document = oci.parse_manifest(raw, media_type=media_type, what=str(digest))
    except VerificationError:
        # Kept by digest alone, it may be a configuration; a manifest by name must be one.
        if media_type is None:
            return ()
        raise
    if isinstance(document, oci.Index):
        return document.manifests
    return (document.config, *document.layers)
