"""The entries a client's ``config.yml`` needs to reach every tree of this server.

Pure. ``lxc remote add`` writes the same lines; the registry-shaped trees need many, and LXE reads
the file once when it starts.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from lxdocker_lxd.catalogue import Catalogue
from lxdocker_lxd.interpretation import LXC_REMOTES, STATIC_REMOTES
from lxdocker_lxd.serve.site import SiteSettings
from lxdocker_lxd.serve.views import View, members

_PROTOCOL = "simplestreams"
# What lxc sets itself since 5.21, whatever the configuration says.
_LATER_STATIC_REMOTES = frozenset({"ubuntu-minimal", "ubuntu-minimal-daily"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A remote named ``name`` at ``addr``; with a ``remark`` it can't be had, which says why."""

    name: str
    addr: str
    remark: str = ""


def remotes(catalogue: Catalogue, settings: SiteSettings) -> tuple[Remote, ...]:
    """Return the main tree's remote, then one for each registry-shaped tree."""
    return (
        Remote(name=settings.remote_name, addr=settings.base_url),
        *(
            Remote(
                name=view.remote,
                addr=f"{settings.base_url}/{quote(view.root[:-1], safe='/:')}",
                remark=_remark(view, settings),
            )
            for view in members(catalogue)
        ),
    )


def config_text(given: Iterable[Remote]) -> str:
    """Return the ``remotes`` section of a ``config.yml``; what can't be had is a comment."""
    return "".join(_config_lines(given))


def records(given: Iterable[Remote]) -> list[dict[str, str | bool]]:
    """Return the same for ``--format json``; ``remark`` is empty where the remote works."""
    return [
        {
            "name": remote.name,
            "addr": remote.addr,
            "protocol": _PROTOCOL,
            "public": True,
            "remark": remote.remark,
        }
        for remote in given
    ]


def _config_lines(given: Iterable[Remote]) -> Iterator[str]:
    yield "remotes:\n"
    for remote in given:
        if remote.remark:
            yield f"  # {remote.name} ({remote.addr}): {remote.remark}\n"
            continue
        # A JSON text is a YAML text, whatever characters the name has.
        yield f"  {json.dumps(remote.name)}:\n"
        yield f"    addr: {json.dumps(remote.addr)}\n"
        yield f"    protocol: {_PROTOCOL}\n    public: true\n"


def _remark(view: View, settings: SiteSettings) -> str:
    """Return why clients can't have this remote, or an empty text."""
    name = view.remote
    if ":" in name:
        return "no remote can have a colon in its name: use a host name instead of an address"
    if name in STATIC_REMOTES | _LATER_STATIC_REMOTES:
        return f"lxc and LXE set this remote themselves: write docker.io/{name}/… instead"
    if name in LXC_REMOTES:
        return f"it would replace a remote lxc brings along: write docker.io/{name}/… instead"
    if name == settings.remote_name:
        return f"this is the name of the main remote: write docker.io/{name}/… instead"
    return ""
