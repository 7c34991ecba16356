"""LXD's metadata tarball: metadata.yaml and the templates that bring instance config to the guest.

Pure, and the same input gives the same bytes: a plain tar without owner names, times fixed, which LXD
takes under the usual name ``lxd.tar.xz`` too (it looks at the content). Templates are never
written through a symbolic link of the image, which would keep an instance from starting: the
guest's own are rendered below ``/.lxdocker/in``, and ``/etc/hostname`` and ``/etc/hosts`` only where
:func:`~lxdocker_lxd.convert.guest_files.add_guest` found plain files; else the guest copies them.

Property values reach an image that is imported from files; image servers have their own.
"""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from lxdocker_lxd.instance_keys import INIT_SCRIPT_KEY, guest_keys

IN_DIRECTORY = "/.lxdocker/in"
"""Where templates are rendered that the guest reads; a directory of our own in every image."""

SETTINGS_FILE = f"{IN_DIRECTORY}/settings"
PRELAUNCH_FILE = "/lxd-prelaunch"

_WIDEST = 1 << 16
_NAMING = ("create", "copy", "rename")
_START = ("start",)

_HOSTNAME = "{{ instance.name }}\n"
_HOSTS = """\
127.0.0.1\tlocalhost
127.0.1.1\t{{ instance.name }}
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_PRELAUNCH = f'{{{{ config_get("{INIT_SCRIPT_KEY}", "") }}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMetadata:
    """What an LXD image says about itself.

    ``architecture`` is LXD's name. ``created_seconds`` counts from 1970; take it from the image's
    configuration. ``product`` must differ between any two images of a catalogue: it alone keeps the
    fingerprints of two images with equal files apart. ``etc_templates`` tells whether hostname and
    hosts are rendered in /etc itself (GuestReport has the answer).
    """

    product: str
    architecture: str
    created_seconds: int
    description: str
    properties: Mapping[str, str]
    etc_templates: bool


def metadata_tarball(metadata: ImageMetadata) -> bytes:
    """Return the metadata tarball, byte-identical for equal input."""
    names = {"hostname.tpl": _HOSTNAME, "hosts.tpl": _HOSTS}
    files = {"metadata.yaml": _document(metadata)}
    texts = names | {"prelaunch.tpl": _PRELAUNCH, "settings.tpl": _settings_template()}
    files |= {f"templates/{name}": text for name, text in sorted(texts.items())}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in files.items():
            if name.startswith("templates/") and "templates" not in archive.getnames():
                directory = tarfile.TarInfo("templates")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(directory)
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _document(metadata: ImageMetadata) -> str:
    properties = {
        "description": metadata.description,
        "name": metadata.product,
        **dict(sorted(metadata.properties.items())),
    }
    naming = "/etc" if metadata.etc_templates else IN_DIRECTORY
    document = {
        "architecture": metadata.architecture,
        # LXD takes 0, the date of many reproducible images, for "Missing creation date".
        "creation_date": max(1, metadata.created_seconds),
        "expiry_date": 0,
        "properties": properties | {"lxdocker.product": metadata.product},
        "templates": {
            f"{naming}/hostname": _template("hostname.tpl", _NAMING),
            f"{naming}/hosts": _template("hosts.tpl", _NAMING),
            PRELAUNCH_FILE: _template("prelaunch.tpl", _START),
            SETTINGS_FILE: _template("settings.tpl", _START),
        },
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=_WIDEST)


def _template(name: str, when: tuple[str, ...]) -> dict[str, object]:
    return {"when": list(when), "create_only": False, "template": name, "properties": {}}


def _settings_template() -> str:
    # One line a key. Percent encoding keeps newlines, quotes and "=" of a value out of the
    # file's own grammar; the guest decodes each value to plain data.
    lines = [
        f'{key.short}={{{{ config_get("{key.name}", "")|urlencode }}}}' for key in guest_keys()
    ]
    return "\n".join(lines) + "\n"
