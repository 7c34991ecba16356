"""Proves that LXD itself reaches the image server and trusts its certificate.

The daemon is asked for an alias that doesn't exist, from a URL it has never seen: to answer that there is
no such image it must have connected, verified the certificate and read the server's index now (it
would take an index it knows from its cache for an hour).
"""

import socket

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import AbsentError, ImageFetchError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import UpdateSource

_ALIAS = "lxdocker-lxd-proof-of-the-remote"
# How LXD, old and new, and Incus say that a server answered and doesn't have the alias.
_NO_SUCH_IMAGE = ("requested image couldn't be found", "alias not found", "image not found")
_CONNECT_SECONDS = 3.0


class UnprovenError(LxdError):
    """LXD can't fetch from the image server."""


def prove(lxd: Lxd, url: str, certificate: str, *, serial: str) -> None:
    """Let LXD look into the server at ``url``; raise UnprovenError with what it says.

    ``serial`` makes the URL one that LXD hasn't seen.
    """
    source = UpdateSource(server=f"{url}/at/{serial}", alias=_ALIAS, certificate=certificate)
    try:
        lxd.images.pull(source, auto_update=False)
    except AbsentError:
        return
    except ImageFetchError as error:
        if any(words in error.message.lower() for words in _NO_SUCH_IMAGE):
            return
        raise UnprovenError(
            f"LXD can't fetch images from {url}: {error.message}", hint=_hint(error.message)
        ) from error


def _hint(message: str) -> str:
    if "x509" in message or "certificate" in message:
        return "the server at that address has another certificate: see who serves there (ss -ltnp)"
    return "see whether the server runs and LXD's host reaches that address; then run setup again"


def answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


def plain_port(host: str, port: int = 80, *, seconds: float = _CONNECT_SECONDS) -> str:
    """Return how plain HTTP is met at a host, ``open``, ``refused`` or ``dropped``.

    LXD asks there first for each file when a URL has no port; where a firewall drops that, it waits
    for minutes.
    """
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return "open"
    except TimeoutError:
        return "dropped"
    except OSError:
        return "refused"


def free_port(host: str) -> int:
    """Return a port of this machine's ``host`` that is free now; raise UnprovenError."""
    try:
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.bind(address)
            port: int = probe.getsockname()[1]
            return port
    except OSError as error:
        raise UnprovenError(
            f"the self-test can't listen at {host}: {error}",
            hint="is that an address of this machine? If not, leave the test out: --no-self-test",
        ) from error
