"""What an imported image is called: its specification, its local alias, and LXE's aliases for it.

Pure. A specification's name can't hold a slash or colon, so ``+`` stands for the one and ``%`` for the
other; neither occurs in references, so no two references get the same name. The local alias keeps
the slashes and writes ``/`` for the tag's colon, which ``lxc`` would take for the end of a remote's
name: ``nginx``, ``nginx/1.25``, ``ghcr.io/owner/app/stable``.
"""

from pathlib import PurePosixPath

from lxdocker_lxd.digest import Digest
from lxdocker_lxd.interpretation import DEFAULT_REMOTE, interpret
from lxdocker_lxd.reference import DEFAULT_TAG, ArchiveSource, ImageSource, Reference
from lxdocker_lxd.spec_values import image_name

_DIGEST_DIGITS = 12
_KEPT_CHARACTERS = 80


def spec_name(source: ImageSource, architecture: str = "") -> str:
    """Return the name of the specification for ``source``, the same for the same source always.

    ``architecture`` is set when it isn't this machine's own.
    """
    suffix = f"@{architecture}" if architecture else ""
    if not isinstance(source, Reference):
        return _digested(local_alias(source), suffix, str(source))
    plain = _short(source).replace("/", "+").replace(":", "%")
    try:
        return image_name(plain + suffix)
    except ValueError:
        return _digested(plain, suffix, str(source))


def local_alias(source: ImageSource) -> str:
    """Return the alias an import gets unless another is asked for."""
    if isinstance(source, Reference):
        short = _short(source)
        if source.digest is not None:
            return short.replace(":", "%")
        name, colon, tag = short.rpartition(":")
        return f"{name}/{tag}" if colon and "/" not in tag else short
    where = source.file if isinstance(source, ArchiveSource) else source.directory
    stem = PurePosixPath(where).name.partition(".")[0] or "image"
    return f"{stem}/{source.tag}" if source.tag else stem


def lxe_aliases(source: ImageSource, digests: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the aliases LXE looks for in the local store when a pod names this image.

    Only official images of Docker Hub have such names (``nginx``, ``nginx:1.25``, by digest);
    LXE copies all others from a remote, so there are none for them. ``digests`` are what the name
    stands for: index and manifest.
    """
    if not isinstance(source, Reference):
        return ()
    name = source.familiar.partition("@")[0].partition(":")[0]
    spoken = [source.familiar, *(f"{name}@{digest}" for digest in digests)]
    if source.digest is not None:
        spoken.append(f"{name}@{source.digest}")
    found = (_lxe_local(text) for text in spoken)
    return tuple(dict.fromkeys(alias for alias in found if alias))


def pinned_digest(alias: str) -> str:
    """Return the digest that an alias by digest names (``nginx@sha256%…``), empty for others."""
    _, at, rest = alias.rpartition("@")
    algorithm, percent, encoded = rest.partition("%")
    return f"{algorithm}:{encoded}" if at and percent and len(encoded) >= _DIGEST_DIGITS else ""


def _lxe_local(text: str) -> str:
    readings = {reading.key: reading.meaning for reading in interpret(text)}
    return readings["lxe_alias"] if readings["lxe_remote"] == DEFAULT_REMOTE else ""


def _short(reference: Reference) -> str:
    """Return the form Docker shows, without the tag that is meant anyway."""
    if reference.digest is None:
        return reference.familiar.removesuffix(f":{DEFAULT_TAG}")
    return reference.familiar


def _digested(plain: str, suffix: str, full: str) -> str:
    """Return a name of a part of ``plain`` and a digest of ``full``."""
    digest = Digest.of(full.encode()).encoded[:_DIGEST_DIGITS]
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_+%-") else "-" for c in plain)
    return image_name(f"{kept.strip('_+%-')[:_KEPT_CHARACTERS] or 'image'}%{digest}{suffix}")
