"""The index of the protocol ``registry``: which servers there are, and whose signatures count. Pure.

The protocol was planned for LXD in 2014 and 2015: one registry names servers, with the paths of the
keys and certificates to trust for each, and aliases that stand for an image of a server.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lxdocker_lxd.clients.document import DocumentError, mapping, parse_object, text, texts
from lxdocker_lxd.clients.lxc_images import DEFAULT_VARIANT, LxcImageName, parse_name
from lxdocker_lxd.clients.tree import is_inside
from lxdocker_lxd.errors import NotFoundError

INDEX = "1.0/index.json"
_VERSION = 1
_MOST_SHOWN = 8
_RELEASE, _DISTRIBUTION, _VARIANT = "release", "distribution", "variant"


class UnknownRemoteError(NotFoundError):
    """A registry names no such server, and has no such alias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryServer:
    """One server: ``url`` with its protocol, and paths in the registry's own tree."""

    name: str
    url: str
    trusted_keys: tuple[str, ...]
    trusted_certs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAlias:
    """A name that stands for an image of a server, on any architecture."""

    server: str
    distribution: str
    release: str
    variant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryIndex:
    """All that a registry says; ``what`` is how errors call it."""

    what: str
    servers: Mapping[str, RegistryServer]
    aliases: Mapping[str, RegistryAlias]

    def resolve(self, name: str, architecture: str) -> tuple[RegistryServer, LxcImageName]:
        """Return server and image that ``name`` stands for.

        That is ``SERVER/DIST/RELEASE[/ARCH[/VARIANT]]``, or one of the registry's aliases.
        ``architecture`` is taken where nothing says another. Raises UnknownRemoteError, UsageError.
        """
        first, slash, rest = name.partition("/")
        if slash and first in self.servers:
            return self.servers[first], parse_name(rest, architecture)
        alias = self.aliases.get(name)
        if alias is not None and alias.server in self.servers:
            wanted = LxcImageName(
                distribution=alias.distribution,
                release=alias.release,
                architecture=architecture,
                variant=alias.variant,
            )
            return self.servers[alias.server], wanted
        raise UnknownRemoteError(
            f"{self.what} has neither a remote {first[:200]!r} nor an alias {name[:200]!r}",
            hint=f"its remotes are {_listed(self.servers)}; its aliases {_listed(self.aliases)}",
        )


def parse_registry(content: bytes, *, what: str) -> RegistryIndex:
    """Return what a registry's index says; raise DocumentError."""
    document = parse_object(content, what=what)
    if document.get("version") != _VERSION:
        raise DocumentError(f"{what}: its version isn't {_VERSION}, the only one known")
    listed = document.get("servers")
    if not isinstance(listed, list):
        raise DocumentError(f"{what}: it names no servers")
    servers = [_server(one, what) for one in listed]
    names = [server.name for server in servers]
    if len(set(names)) != len(names):
        raise DocumentError(f"{what}: two servers have one name")
    aliases = mapping(document.get("aliases"), what=f"{what}: aliases")
    return RegistryIndex(
        what=what,
        servers=dict(zip(names, servers, strict=True)),
        aliases={name: _alias(name, one, what) for name, one in aliases.items()},
    )


def _server(value: object, what: str) -> RegistryServer:
    fields = mapping(value, what=f"{what}: a server")
    name = text(fields.get("name"), what=f"{what}: a server's name")
    if not name or "/" in name:
        raise DocumentError(f"{what}: {name[:200]!r} is no name of a server")
    where = f"{what}: {name}"
    return RegistryServer(
        name=name,
        url=text(fields.get("url"), what=f"{where}: url"),
        trusted_keys=_paths(fields, "trusted_keys", where),
        trusted_certs=_paths(fields, "trusted_certs", where),
    )


def _paths(fields: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    listed = texts(fields.get(key), what=f"{where}: {key}")
    paths = tuple(path.removeprefix("/") for path in listed)
    for path in paths:
        if not is_inside(path):
            raise DocumentError(f"{where}: {key}: {path[:200]!r} leads out of the registry")
    return paths


def _alias(name: str, value: object, what: str) -> RegistryAlias:
    where = f"{what}: alias {name[:200]}"
    fields = mapping(value, what=where)
    arguments = mapping(fields.get("arguments"), what=f"{where}: arguments")

    def argument(key: str) -> str:
        return text(arguments.get(key), what=f"{where}: {key}")

    return RegistryAlias(
        server=text(fields.get("server"), what=f"{where}: server"),
        distribution=argument(_DISTRIBUTION),
        release=argument(_RELEASE),
        variant=argument(_VARIANT) or DEFAULT_VARIANT,
    )


def _listed(names: Mapping[str, object]) -> str:
    shown = ", ".join(sorted(names)[:_MOST_SHOWN])
    return (shown + (", …" if len(names) > _MOST_SHOWN else "")) or "none"
