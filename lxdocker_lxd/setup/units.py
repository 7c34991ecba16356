"""The systemd units as this host needs them. Pure; ``unit_files`` reads the shipped ones.

What is shipped stays as it is except for the program's path; what belongs to this host stands in drop-ins
beside it.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from lxdocker_lxd.setup.wish import SERVER_USER

SHIPPED_COMMAND = "/opt/lxdocker-lxd/bin/lxdocker-lxd"
DROP_IN = "10-setup.conf"
SERVE_SOCKET = "lxdocker-lxd-serve.socket"
SERVE_SERVICE = "lxdocker-lxd-serve.service"
CONVERT_TIMER = "lxdocker-lxd-convert.timer"
CERTIFICATE_TIMER = "lxdocker-lxd-certificate.timer"
UPDATE_SERVICE = "lxdocker-lxd-update.service"
REFRESH_SERVICE = "lxdocker-lxd-refresh.service"
REFRESH_TIMER = "lxdocker-lxd-refresh.timer"
_ALWAYS = (SERVE_SOCKET, SERVE_SERVICE, CONVERT_TIMER, CERTIFICATE_TIMER)
_NEED_LXD = {UPDATE_SERVICE, REFRESH_SERVICE, REFRESH_TIMER}
_SUFFIXES = (".service", ".socket", ".timer")


def enabled(*, updater: bool) -> tuple[str, ...]:
    """Return what is enabled and started, in this order.

    The server's service comes with its socket, and at boot, too. The updater and the refresh of
    imports need a LXD that units find: one of this machine, from a package.
    """
    return (*_ALWAYS, UPDATE_SERVICE, REFRESH_TIMER) if updater else _ALWAYS


def installed(
    shipped: Mapping[str, str], command: Iterable[str], addresses: Iterable[str], *, updater: bool
) -> dict[str, str]:
    """Return the units' texts by their path below systemd's directory."""
    left_out = {"lxdocker-lxd-serve-http.socket"} | (set() if updater else _NEED_LXD)
    words = " ".join(map(_quoted, command))
    found = {
        name: text.replace(SHIPPED_COMMAND, words)
        for name, text in shipped.items()
        if PurePath(name).suffix in _SUFFIXES and name not in left_out
    }
    found[f"{SERVE_SOCKET}.d/{DROP_IN}"] = _socket_drop_in(addresses)
    found[f"{SERVE_SERVICE}.d/{DROP_IN}"] = _SERVICE_DROP_IN
    return found


_SERVICE_DROP_IN = f"""\
# Written by lxdocker-lxd setup. The certificate is made by root and readable by this user, also where
# somebody changed the unit; without the last line systemd would give its directory to the server.
[Service]
User={SERVER_USER}
Group={SERVER_USER}
StateDirectory=
"""


def _socket_drop_in(addresses: Iterable[str]) -> str:
    listen = "".join(f"ListenStream={address}\n" for address in map(_listen_stream, addresses))
    return (
        "# Written by lxdocker-lxd setup. LXD makes its bridge after this socket is opened.\n"
        f"[Socket]\nListenStream=\n{listen}FreeBind=yes\n"
    )


def _listen_stream(address: str) -> str:
    return address.removeprefix(":")


def _quoted(word: str) -> str:
    """Return a word of ExecStart (systemd.service(5)): quoted, with % and $ standing for themselves."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if any(character in plain for character in " '\"\\;") else plain
