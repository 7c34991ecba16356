"""When an image is built again: the inputs that decide its bytes, their key, and the reason.

Pure. The key is the digest of canonical JSON, so different inputs can't share an encoding.
"""

import json
from dataclasses import asdict

from lxdocker_lxd.catalogue import RebuildInputs, Version
from lxdocker_lxd.convert.packing.settings import PackSettings
from lxdocker_lxd.digest import Digest

IMAGE_REVISION = 1
"""Raise it when the same inputs give other bytes: everything is then built again."""

_SHORT_CHARACTERS = 19


def rebuild_key(inputs: RebuildInputs) -> str:
    """Return the digest of all that decides an image's bytes."""
    fields = {"revision": IMAGE_REVISION, **asdict(inputs)}
    return str(Digest.of(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()))


def packer_text(settings: PackSettings, program: str, *, lxc: str) -> str:
    """Return the packing as text: format, compression, program with version, extra files.

    ``lxc`` is what makes the ``.tar.xz`` for LXC, empty where there is none.
    """
    extra = f", with .tar.xz for LXC by {lxc}" if lxc else ""
    return f"{settings.image_format} {settings.compression} by {program}{extra}"


def reason(published: Version | None, new: RebuildInputs) -> str:
    """Return why ``new`` has to be built where ``published`` is; empty if it hasn't."""
    if published is None:
        return "new"
    old = published.inputs
    if old.manifest_digest != new.manifest_digest:
        before, after = (inputs.manifest_digest[:_SHORT_CHARACTERS] for inputs in (old, new))
        return f"the image changed from {before} to {after}"
    if old.spec_digest != new.spec_digest or old.guest_digest != new.guest_digest:
        what = "specification" if old.spec_digest != new.spec_digest else "guest files"
        return f"the {what} changed"
    if old.packer != new.packer:
        return f"packed as {new.packer} now, as {old.packer} before"
    same = published.rebuild_key == rebuild_key(new)
    return "" if same else "this program makes images in another way than the one before"
