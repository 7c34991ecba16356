"""The commands people copy from a page: for LXD, Incus and plain LXC. Pure.

Every word from the catalogue is quoted for a shell; what remains can be pasted without fear.
"""

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.serve import lxc_index
from lxdocker_lxd.serve.pages.image_view import ImageView
from lxdocker_lxd.serve.run_config import RunConfig
from lxdocker_lxd.serve.site import SiteSettings

_INSTANCE_NAME_CHARACTERS = 63
_NOT_IN_INSTANCE_NAMES = re.compile(r"[^A-Za-z0-9]+")
_SCHEME = re.compile(r"https?://")
# LXD's proxy devices pass nothing else on.
_PROXIED = ("tcp", "udp")
_MOST_PORTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCommand:
    """One line for a shell; ``client`` is the program's name in the world, ``text`` the line."""

    client: str
    text: str
    remark: str = ""


def launch(image: ImageView, settings: SiteSettings) -> tuple[ClientCommand, ...]:
    """Return how each client makes a container of ``image``, on one of its architectures."""
    source = f"{settings.remote_name}:{image.name}"
    instance = _instance_name(image.name)
    words = ("launch", source, instance) if instance else ("launch", source)
    return (
        ClientCommand(client="LXD", text=shlex.join(("lxc", *words))),
        ClientCommand(client="Incus", text=shlex.join(("incus", *words))),
        *_lxc_create(image, settings, instance or "container"),
    )


def short_launch(image: ImageView, settings: SiteSettings) -> str:
    """Return LXD's command for a list, where room is short."""
    return launch(image, settings)[0].text


def reach(image: ImageView) -> tuple[ClientCommand, ...]:
    """Return how each of the first declared ports becomes one of the host's, on all its addresses."""
    instance = _instance_name(image.name)
    ports = RunConfig.read(image.latest.config).ports if instance else ()
    return tuple(itertools.islice(_proxies(instance, ports), _MOST_PORTS))


def _proxies(instance: str, ports: Iterable[str]) -> Iterator[ClientCommand]:
    for port in ports:
        found = ExposedPort.parse(port)
        if found is None or found.protocol not in _PROXIED:
            continue
        number, protocol = found.numbers, found.protocol
        ends = (f"listen={protocol}:0.0.0.0:{number}", f"connect={protocol}:127.0.0.1:{number}")
        words = ("lxc", "config", "device", "add", instance, f"{protocol}-{number}", "proxy", *ends)
        yield ClientCommand(client=f"{number}/{protocol}", text=shlex.join(words))


def add_remote(settings: SiteSettings) -> tuple[ClientCommand, ...]:
    """Return what makes the server known to a client, once."""
    words = ("remote", "add", settings.remote_name, settings.base_url)
    flags = ("--protocol=simplestreams", "--public")
    return (
        ClientCommand(client="LXD", text=shlex.join(("lxc", *words, *flags))),
        ClientCommand(client="Incus", text=shlex.join(("incus", *words, *flags))),
    )


def trust(settings: SiteSettings) -> tuple[ClientCommand, ...]:
    """Return what puts the server's CA, saved as ``ca.crt``, where each client looks for it.

    lxc also hands it to LXD with each image, so that updates go on working.
    """
    file = shlex.quote(f"{settings.remote_name}.crt")
    return (
        ClientCommand(
            client="LXD",
            text=f"install -Dm644 ca.crt ~/.config/lxc/servercerts/{file}",
            remark="Debian's and most others' packages",
        ),
        ClientCommand(
            client="LXD as a snap",
            text=f"install -Dm644 ca.crt ~/snap/lxd/common/config/servercerts/{file}",
        ),
        ClientCommand(
            client="Incus",
            text=f"install -Dm644 ca.crt ~/.config/incus/servercerts/{file}",
        ),
        ClientCommand(
            client="LXC",
            text=f"sudo install -Dm644 ca.crt /usr/local/share/ca-certificates/{file}"
            " && sudo update-ca-certificates",
            remark="and every other program of the machine",
        ),
    )


def _lxc_create(image: ImageView, settings: SiteSettings, instance: str) -> Iterator[ClientCommand]:
    """Yield a command for each architecture that has a root filesystem for plain LXC."""
    server = _SCHEME.sub("", settings.base_url)
    for build in image.builds:
        if not lxc_index.is_listable(build.product):
            continue
        words = ("lxc-create", "-t", "download", "-n", instance, "--", "--server", server)
        choice = ("-d", image.name, "-r", lxc_index.RELEASE, "-a", build.architecture)
        yield ClientCommand(
            client="LXC",
            text=shlex.join((*words, *choice)),
            remark=f"on {build.architecture}" if len(image.builds) > 1 else "",
        )


def _instance_name(name: str) -> str:
    """Return a name LXD takes for an instance, or nothing: a host name that begins with a letter."""
    instance = _NOT_IN_INSTANCE_NAMES.sub("-", name)[:_INSTANCE_NAME_CHARACTERS].strip("-")
    return instance if instance[:1].isalpha() else ""
