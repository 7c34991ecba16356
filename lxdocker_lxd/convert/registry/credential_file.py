"""Docker's and podman's credential files: bytes in, credentials by registry out. Pure.

Rules (docker/cli, containers/image):

1. ``auth`` is base64 of ``user:password``, split at the first colon, trailing NULs dropped; an entry
   without a colon is no entry. Bad base64 is an error.
2. ``identitytoken`` is exchanged for tokens; so is a password whose user is ``<token>``.
   ``registrytoken`` is sent as it is.
3. podman's keys may name a repository; the longest match wins: ``host/ns/repo``, ``host/ns``,
   ``host``. Docker's name hosts, also as ``https://host/v1/``. Docker Hub is
   ``https://index.docker.io/v1/``, ``index.docker.io``, ``registry-1.docker.io`` or ``docker.io``.
4. ``credHelpers`` of the host wins over ``credsStore``, both over ``auths``.

Secrets never show: not in ``repr``, not in errors.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lxdocker_lxd.convert.json_document import JsonObject
from lxdocker_lxd.convert.registry.settings import DOCKER_HUB, CredentialForm

HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks a token, not a secret
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A user name and password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityToken:
    """A long-lived token the token server exchanges for short-lived ones."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryToken:
    """A token the registry takes as it is."""

    token: str = field(repr=False)


Secret = Password | IdentityToken | RegistryToken


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialEntries:
    """The content of one file. ``helpers`` maps hosts to programs, ``store`` is for all others."""

    form: CredentialForm
    secrets: Mapping[str, Secret]
    helpers: Mapping[str, str]
    store: str

    def secret(self, registry: str, repository: str) -> Secret | None:
        """Return what the file holds for a repository, None when nothing does."""
        for key in _keys(registry, repository, self.form):
            if key in self.secrets:
                return self.secrets[key]
        hosts = _host_names(registry)
        for key, secret in self.secrets.items():
            if ("://" in key or self.form == "docker") and _host_of(key) in hosts:
                return secret
        return None

    def helper(self, registry: str) -> str:
        """Return the helper program's short name for a registry, empty when there is none."""
        for host in (*_host_names(registry), *((HUB_KEY,) if registry == DOCKER_HUB else ())):
            if host in self.helpers:
                return self.helpers[host]
        return self.store


def server_address(registry: str) -> str:
    """Return the name under which helpers keep a registry's credentials."""
    return HUB_KEY if registry == DOCKER_HUB else registry


def make_secret(username: str, secret: str) -> Secret | None:
    """Return the credentials a helper's answer or an ``auth`` entry means."""
    if username == _TOKEN_USER:
        return IdentityToken(token=secret) if secret else None
    return Password(username=username, password=secret) if username else None


def parse_credentials(raw: bytes, *, form: CredentialForm, what: str) -> CredentialEntries:
    """Read a credential file; raise InvalidDocumentError, which never shows a value."""
    document = JsonObject.parse(raw, what=what)
    helpers = document.text_map("credHelpers")
    store = document.text("credsStore")
    for name in (*helpers.values(), store):
        if name and not _HELPER_NAME.fullmatch(name):
            raise document.fail(
                "a credential helper's name holds other characters than A-Z 0-9 ._-"
            )
    auths = document.child("auths")
    secrets: dict[str, Secret] = {}
    for key in auths.fields if auths else ():
        entry = auths.child(key) if auths else None
        secret = _secret(entry) if entry else None
        if secret is not None:
            secrets[key] = secret
    return CredentialEntries(
        form=form, secrets=MappingProxyType(secrets), helpers=helpers, store=store
    )


def _secret(entry: JsonObject) -> Secret | None:
    if registry_token := entry.text("registrytoken"):
        return RegistryToken(token=registry_token)
    if identity_token := entry.text("identitytoken"):
        return IdentityToken(token=identity_token)
    encoded = entry.text("auth")
    if not encoded:
        return make_secret(entry.text("username"), entry.text("password"))
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        # The cause would show the value.
        raise entry.fail(
            "auth is not base64 of user:password", hint="log in again to write it anew"
        ) from None
    username, colon, password = decoded.partition(":")
    return make_secret(username, password.rstrip("\0")) if colon else None


def _host_names(registry: str) -> tuple[str, ...]:
    return _HUB_HOSTS if registry in _HUB_HOSTS else (registry,)


def _host_of(key: str) -> str:
    return re.sub(r"^https?://", "", key).partition("/")[0]


def _keys(registry: str, repository: str, form: CredentialForm) -> Iterator[str]:
    if form == "containers":
        parts = repository.split("/") if repository else []
        for length in range(len(parts), 0, -1):
            for host in _host_names(registry):
                yield "/".join((host, *parts[:length]))
    yield from _host_names(registry)
    if registry in _HUB_HOSTS:
        yield HUB_KEY
