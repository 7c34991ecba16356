"""The remotes an ``lxc`` knows, from the text of its ``config.yml``.

Pure. Only what an import needs is read: where a remote is and what it speaks. Every foreign key is
left alone; a broken file is refused with its line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lxdocker_lxd.spec_yaml import Value, compose

SIMPLESTREAMS = "simplestreams"
LXD_PROTOCOL = "lxd"
_HTTPS_PORT = 443
# What lxc has without a configuration; ``local`` is the daemon itself.
_BUILT_IN = {
    "images": "https://images.linuxcontainers.org",
    "ubuntu": "https://cloud-images.ubuntu.com/releases",
    "ubuntu-daily": "https://cloud-images.ubuntu.com/daily",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcRemote:
    """One remote: ``protocol`` is ``lxd`` or ``simplestreams``, ``project`` may be empty."""

    name: str
    address: str
    protocol: str = LXD_PROTOCOL
    project: str = ""

    @property
    def local(self) -> bool:
        """Whether it is a daemon of this machine, behind a socket."""
        return self.address.startswith("unix:")

    def serves_for(self, url: str) -> bool:
        """Whether it is a tree of the image server at ``url``, the main one or one below it."""
        ours, its = _tree(url), _tree(self.address)
        if ours is None or its is None or ours[:2] != its[:2]:
            return False
        return f"{its[2]}/".startswith(f"{ours[2]}/")


def _tree(url: str) -> tuple[str, int, str] | None:
    """Return host, port and path of an HTTPS URL; None for another text."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            return None
        return parts.hostname, parts.port or _HTTPS_PORT, parts.path.rstrip("/")
    except ValueError:
        return None


def parse_remotes(text: str, *, file: str) -> Mapping[str, LxcRemote]:
    """Return the remotes by name, those lxc brings along included; raise SpecError."""
    found = {
        name: LxcRemote(name=name, address=address, protocol=SIMPLESTREAMS)
        for name, address in _BUILT_IN.items()
    }
    found["local"] = LxcRemote(name="local", address="unix://")
    if not text.strip():
        return found
    top = compose(text, file=file).mapping()
    listed = top.get("remotes")
    if listed is None or listed.is_null:
        return found
    for name, value in listed.mapping().items():
        found[name] = _remote(name, value)
    return found


def _remote(name: str, value: Value) -> LxcRemote:
    fields = value.mapping()
    if "addr" not in fields:
        raise value.error(
            "the key 'addr' is missing",
            hint=f"remove the remote and add it again: lxc remote remove {name}",
        )
    return LxcRemote(
        name=name,
        address=fields["addr"].text(),
        protocol=fields["protocol"].text() if "protocol" in fields else LXD_PROTOCOL,
        project=fields["project"].text() if "project" in fields else "",
    )
