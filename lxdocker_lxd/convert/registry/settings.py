"""What a user may set about registries, and where their credentials are looked for.

Pure records. The settings file is parsed into them elsewhere; no record holds a secret.

A registry is named by the host of a reference (``docker.io``, ``ghcr.io``, ``127.0.0.1:5000``).
Mirrors, token servers and hosts a registry redirects to are hosts of their own and are looked up
by their own names, so that a CA file or ``insecure`` never spreads to another host.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

# Docker Hub is named docker.io in references, answers at another host, and is filed by
# `docker login` under its old address.
DOCKER_HUB = "docker.io"
_API_HOSTS = MappingProxyType({DOCKER_HUB: "registry-1.docker.io"})

CredentialForm = Literal["containers", "docker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """Settings of one host.

    ``mirrors``: tried in this order before the host itself; each is ``host[:port][/prefix]``.
    ``ca_file``: the PEM file whose authorities, and no others, vouch for the host.
    ``insecure``: plain http is allowed when https isn't spoken (always so for loopback hosts), and
    where a server that speaks https points to it; nothing else in here allows that. A certificate that can't be verified stays an error: that is what ``ca_file`` is for.
    ``proxy``: ``http://host:port``; empty for none; None for what the environment says.
    """

    host: str
    mirrors: tuple[str, ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    proxy: str | None = None

    @property
    def plain_http_allowed(self) -> bool:
        """Whether the host may be spoken to without TLS."""
        return self.insecure or is_loopback(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFile:
    """One file that may hold credentials; it needn't exist.

    ``form`` decides how its keys are matched: podman's ``containers`` files may name a
    repository or a namespace, Docker's name hosts only.
    """

    path: str
    form: CredentialForm


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLimits:
    """How long servers may take, so that a slow one holds up nothing but its own images.

    ``connect_seconds``: for one address of a host. ``quiet_seconds``: without a byte.
    ``document_seconds``: for a request, its redirects and the whole of a small answer (a manifest, a
    token, an error). ``blob_start_seconds``: until a blob's first byte, which a cache may have to fetch
    from elsewhere. After it the server must send ``least_bytes_per_second`` on average in each
    ``window_seconds`` of waiting for it: less than the slowest lines have. ``image_seconds``: for all
    downloads of one image; what came is kept, and the next run goes on there. ``turn_seconds``: how
    long an image that is being made keeps others from their turn.
    """

    connect_seconds: float = 15.0
    quiet_seconds: float = 60.0
    document_seconds: float = 30.0
    blob_start_seconds: float = 60.0
    window_seconds: float = 60.0
    least_bytes_per_second: int = 4096
    image_seconds: float = 3600.0
    turn_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesSettings:
    """All registries' settings, by host, the credential files in order of preference, the limits."""

    by_host: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    credential_files: tuple[CredentialFile, ...] = ()
    limits: TransferLimits = field(default_factory=TransferLimits)

    def of(self, host: str) -> RegistrySettings:
        """Return the settings of ``host``, the defaults when none are given."""
        return self.by_host.get(host) or RegistrySettings(host=host)


def api_host(registry: str) -> str:
    """Return the host that answers the API for the registry a reference names."""
    return _API_HOSTS.get(registry, registry)


def host_name(host: str) -> str:
    """Return ``host[:port]`` without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` can only be this machine."""
    name = host_name(host).lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def credential_search(
    environment: Mapping[str, str], *, home: str, user_id: int
) -> tuple[CredentialFile, ...]:
    """Return the files in which podman, skopeo and Docker keep credentials, in search order.

    ``$REGISTRY_AUTH_FILE``, then podman's file of the session and of the user, then Docker's.
    The first file with an entry for the registry wins. The pre-2014 ``~/.dockercfg`` isn't read.
    """
    runtime = environment.get("XDG_RUNTIME_DIR")
    session = f"{runtime}/containers" if runtime else f"/run/containers/{user_id}"
    configuration = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    named = environment.get("REGISTRY_AUTH_FILE")
    return (
        *((CredentialFile(path=named, form="containers"),) if named else ()),
        CredentialFile(path=f"{session}/auth.json", form="containers"),
        CredentialFile(path=f"{configuration}/containers/auth.json", form="containers"),
        CredentialFile(path=f"{docker}/config.json", form="docker"),
    )
