"""``meta.tar.xz``: what lxc-create's download template needs beside a root filesystem.

Pure; the same record gives the same bytes. The members (lxc-download, ``relevant_file``):

* ``config``, or ``config-user`` inside a user namespace.
* ``expiry``, in seconds since 1970. Until then the template uses what it once downloaded without
  asking. It is the time of publication, long gone, so that each lxc-create looks for a newer build;
  files are only downloaded when there is one.
* ``create-message``, shown when a container was made.

There is no ``templates`` (the host's root would edit files through the image's own links) and no
``excludes`` (its lines become words of a tar command line).
"""

import io
import lzma
import tarfile

from lxdocker_lxd.catalogue import LxcSettings, Product, Version
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.serve.lxc_config import LxcContainer, container_config

_MESSAGE = """\
{name} (build {build}) is ready: lxc-start starts the image's command as PID 1.
Its address comes by DHCP; its output goes to the console (lxc-start -F, lxc-console).
From {reference}
"""
_MOST_PORTS = 20


def metadata_archive(product: Product, version: Version, settings: LxcSettings) -> bytes:
    """Return the bytes of ``meta.tar.xz`` for one version."""
    container = LxcContainer(
        name=product.name,
        build=version.serial,
        reference=version.source.reference,
        architecture=product.architecture,
        oci=version.config,
        settings=settings,
    )
    files = {
        "config": container_config(container, user_namespace=False),
        "config-user": container_config(container, user_namespace=True),
        "create-message": _message(container),
        "expiry": f"{int(version.published_at.timestamp())}\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(buffer.getvalue(), preset=6)


def _message(container: LxcContainer) -> str:
    """Return what lxc-create shows; nothing of an image begins a line or moves the cursor."""
    message = _MESSAGE.format(
        name=_shown(container.name),
        build=_shown(container.build),
        reference=_shown(container.reference),
    )
    ports = container.oci.get("ExposedPorts")
    if isinstance(ports, dict) and ports:
        shown = sorted(map(str, filter(None, map(ExposedPort.parse, ports))))[:_MOST_PORTS]
        message += f"It listens on {', '.join(shown)}\n" if shown else ""
    return message


def _shown(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
