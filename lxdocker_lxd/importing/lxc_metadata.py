"""What a ``meta.tar.xz`` says, and the metadata LXD wants in its place.

LXC's metadata is a ``config`` for one container; LXD's is about the image. Of a stranger's image what
LXD must know is in the server's index already: architecture, time of the build, names. Nothing of
the ``config`` is for LXD, which has settings of its own.
"""

import io
import json
import lzma
import re
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.lxc_images import LxcImage

_MOST_ARCHIVE_BYTES = 16 << 20
_MOST_INFLATER_BYTES = 256 << 20
_MOST_CONFIG_BYTES = 1 << 20
_FALLBACK_CREATED_SECONDS = 315_532_800
_BUILD = re.compile(r"(\d{8})(?:[_-]?(\d{2}):?(\d{2}))?", re.ASCII)
# What the files of an image that our own server offers begin with (docs/lxc.md).
_OUR_HOOK = re.compile(r"^lxc\.hook\.start\s*=\s*/\.lxdocker/lxc-hook\s*$", re.MULTILINE)


def read_config(metadata: Path) -> str:
    """Return the ``config`` in a ``meta.tar.xz``; raise DocumentError and StorageError."""
    try:
        packed = metadata.read_bytes()
    except OSError as error:
        raise storage_error("read", metadata, error) from error
    try:
        inflater = lzma.LZMADecompressor(memlimit=_MOST_INFLATER_BYTES)
        content = inflater.decompress(packed, _MOST_ARCHIVE_BYTES)
        if not inflater.eof:
            raise DocumentError(f"{metadata.name}: it is cut short, or too large to be metadata")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.name.removeprefix("./") == "config" and member.isfile():
                    file = archive.extractfile(member)
                    return file.read(_MOST_CONFIG_BYTES).decode("utf-8", "replace") if file else ""
    except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise DocumentError(f"{metadata.name}: no tar.xz archive: {error}") from error
    raise DocumentError(f"{metadata.name}: there is no config in it")


def is_converted(config: str) -> bool:
    """Whether a ``config`` belongs to an image that was converted for plain LXC by this program."""
    return _OUR_HOOK.search(config) is not None


def created_seconds(build: str) -> int:
    """Return when a build was made, in seconds since 1970: builds are called by date and time."""
    found = _BUILD.match(build)
    if found is None:
        return _FALLBACK_CREATED_SECONDS
    day, hour, minute = found[1], found[2] or "00", found[3] or "00"
    try:
        time = datetime.strptime(f"{day}{hour}{minute}", "%Y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        return _FALLBACK_CREATED_SECONDS
    return max(1, int(time.timestamp()))


def lxd_metadata(image: LxcImage) -> bytes:
    """Return LXD's metadata tarball for an image as it is; the same image gives the same bytes."""
    name = image.name
    document = {
        "architecture": name.architecture,
        "creation_date": created_seconds(image.build),
        "properties": {
            "architecture": name.architecture,
            "description": f"{name.short} {name.architecture} ({image.build})",
            "os": name.distribution,
            "release": name.release,
            "serial": image.build,
            "variant": name.variant,
        },
    }
    # Every JSON text is a YAML text.
    content = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("metadata.yaml")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
