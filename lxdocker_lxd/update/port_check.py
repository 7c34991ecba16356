"""A port check from the updater's machine: at addresses that LXD itself gave to the instance.

What an instance says of its addresses isn't used: it could name any other machine.
"""

import contextlib
import http.client
import ipaddress
import socket
import threading
from collections.abc import Iterator, Mapping

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Config, Devices, Instance
from lxdocker_lxd.update.health_check import HEALTH_FROM_KEY, Check, Kind

_LAST_GOOD_STATUS = 399
# Whatever the instance's keys say: nothing else can be done meanwhile, not even a sign of life.
_LONGEST_LOOK_SECONDS = 60.0
_FIXED = ("ipv4.address", "ipv6.address")


class NotAskableError(LxdError):
    """LXD knows no address of the instance at which it could be asked."""


def addresses_from_outside(lxd: Lxd, name: str, *, project: str) -> tuple[str, ...]:
    """Return the addresses of the instance's NICs that LXD gave them; raise NotAskableError.

    Those are fixed in the device, or leased by a network that LXD manages.
    """
    instance = lxd.instances.get(name, project=project)
    found: list[str] = []
    for device, nic in _nics(instance.expanded_devices):
        found += [nic[key] for key in _FIXED if _is_address(nic.get(key, ""))]
        mac = nic.get("hwaddr") or instance.config.get(f"volatile.{device}.hwaddr", "")
        network = nic.get("network", "")
        if not network or not mac:
            continue
        with contextlib.suppress(AbsentError):
            leases = lxd.networks.leases(network, project=project)
            found += [
                one.address
                for one in leases
                if one.hardware_address.lower() == mac.lower() and _is_address(one.address)
            ]
    if not found:
        raise NotAskableError(
            f"{name} can't be asked from outside: LXD gave none of its NICs an address",
            hint=f"unset {HEALTH_FROM_KEY}, or give a NIC ipv4.address or a network of LXD",
        )
    return tuple(dict.fromkeys(found))


def may_be_asked_from_outside(instance: Instance) -> bool:
    """Whether LXD can know an address of the instance: by a fixed one, or by a network of its own."""
    return any(
        nic.get("network") or any(_is_address(nic.get(key, "")) for key in _FIXED)
        for _, nic in _nics(instance.expanded_devices)
    )


def _nics(devices: Devices) -> Iterator[tuple[str, Config]]:
    for name, device in devices.items():
        if device.get("type") == "nic":
            yield name, device


def _is_address(text: str) -> bool:
    """Whether an address is one of another machine on a network, and not of every machine itself."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
    )


def answers(address: str, check: Check, *, host: str) -> bool:
    """Whether the port answers at an address; ``host`` is who HTTP asks for."""
    seconds = min(check.timeout_seconds, _LONGEST_LOOK_SECONDS)
    if check.kind is Kind.TCP:
        try:
            socket.create_connection((address, check.port), seconds).close()
        except OSError:
            return False
        return True
    headers: Mapping[str, str] = {"Host": host, "Connection": "close"}
    connection = http.client.HTTPConnection(address, check.port, timeout=seconds)
    with contextlib.closing(connection):
        try:
            connection.connect()
            with _ended_after(connection.sock, seconds) as ended:
                connection.request("GET", check.path, headers=headers)
                status = connection.getresponse().status
                # Headers that are cut off there look complete.
                return status <= _LAST_GOOD_STATUS and not ended.is_set()
        except (OSError, http.client.HTTPException, ValueError):
            return False


@contextlib.contextmanager
def _ended_after(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Break the connection when the time is over, and say so: one that drips never times out."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
