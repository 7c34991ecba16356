"""What the SOURCE of an import names; the rules in the order in which they are tried.

Pure. 1. ``oci:``, ``oci-archive:``, ``docker-archive:``. 2. A specification's name. 3. A name or
alias of the catalogue. 4. ``REMOTE/ALIAS`` where lxc knows a remote of that name; the daemon copies
the image from there. A tag is left out, remotes have none. 5. An image of a registry: so is every
name whose first part looks like a host (holds ``.`` or ``:``, or is ``localhost``), and those of
remotes that are our own image server's.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from lxdocker_lxd.importing.lxc_remotes import LxcRemote
from lxdocker_lxd.reference import ImageSource, Reference, parse_source

_FOREIGN = ("oci:", "oci-archive:", "docker-archive:")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecChoice:
    """A specification of the user's."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChoice:
    """An image that is in the catalogue and has no specification."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteChoice:
    """An image that the daemon copies from a remote."""

    remote: LxcRemote
    alias: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChoice:
    """An image to pull and convert."""

    source: ImageSource


Choice = SpecChoice | CatalogueChoice | RemoteChoice | SourceChoice


def choose(
    text: str,
    *,
    specs: Collection[str],
    products: Mapping[str, str],
    remotes: Callable[[], Mapping[str, LxcRemote]],
    own_url: str = "",
) -> Choice:
    """Return what ``text`` names; raise UsageError when it can't name anything.

    ``products`` maps names and aliases of the catalogue to product names. ``remotes`` is called only
    when the text could name one. ``own_url`` is where our image server is, empty if it has none.
    """
    if text.startswith(_FOREIGN):
        return SourceChoice(source=parse_source(text))
    if text in specs:
        return SpecChoice(name=text)
    if text in products:
        return CatalogueChoice(name=products[text])
    first, slash, alias = text.partition("/")
    if slash and not _looks_like_host(first):
        remote = remotes().get(first)
        if remote is not None and not remote.local and not remote.serves_for(own_url):
            return RemoteChoice(remote=remote, alias=_without_tag(alias))
    return SourceChoice(source=Reference.parse(text))


def _looks_like_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost"


def _without_tag(alias: str) -> str:
    """Return the alias without ``:tag`` and ``@digest`` at its end."""
    path, slash, last = alias.partition("@")[0].rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"
