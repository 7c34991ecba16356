"""An event message as a record: LXD's source path becomes kind, name and project.

LXD 5.0.2 tells name and project only in the source, and percent-encodes some names there once more
than in the API's own paths (seen with aliases); later versions add fields, which are not needed.
"""

import json
import re
from urllib.parse import unquote

from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.paths import parts_of
from lxdocker_lxd.lxd.server_records import LifecycleEvent

_URL_LETTERS = re.compile(r"(?:[A-Za-z0-9._~:@&=+$!*'(),;-]|%[0-9A-F]{2})*")

_KINDS = {
    "instances": "instance",
    "containers": "instance",
    "virtual-machines": "instance",
    "images": "image",
    "profiles": "profile",
    "networks": "network",
    "projects": "project",
    "storage-pools": "storage-pool",
    "operations": "operation",
    "certificates": "certificate",
    "cluster": "cluster",
}


def lifecycle_event(message: bytes) -> LifecycleEvent | None:
    """Return the event in a message; None for what is no lifecycle event."""
    try:
        document = Document(json.loads(message))
    except (ValueError, RecursionError):
        return None
    if document.text("type") != "lifecycle":
        return None
    metadata = document.part("metadata")
    context = metadata.part("context")
    encoded, project = parts_of(metadata.text("source"))
    parts = tuple(_plain(part) for part in encoded)
    kind, name, detail = _subject(parts)
    return LifecycleEvent(
        action=metadata.text("action"),
        kind=kind,
        name=name,
        project=document.text("project") or project,
        location=document.text("location") or "none",
        detail=detail,
        old_name=context.text("old_name"),
        target=context.text("target"),
        by=metadata.part("requestor").text("username"),
        at=document.time("timestamp"),
    )


def _plain(part: str) -> str:
    """Decode once more what still looks encoded: ``%`` among nothing but a URL's own letters.

    A name that looks so by itself is misread on a LXD that encodes once; events are hints only.
    """
    return unquote(part) if "%" in part and _URL_LETTERS.fullmatch(part) else part


def _subject(parts: tuple[str, ...]) -> tuple[str, str, str]:
    first, rest = (parts[0] if parts else ""), parts[1:]
    if first == "images" and rest[:1] == ("aliases",):
        return "image-alias", "/".join(rest[1:]), ""
    if first == "storage-pools" and rest[1:2] == ("volumes",):
        # storage-pools/POOL/volumes/TYPE/NAME…
        return "storage-volume", "/".join(rest[3:4]), rest[0]
    kind = _KINDS.get(first, first or "server")
    return kind, "/".join(rest[:1]), "/".join(rest[2:])
