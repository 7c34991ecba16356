"""What has to be sent to one registry to be let in: nothing, a password, or a token.

Rules (distribution-spec's token documentation, Docker's OAuth2 extension):

1. A registry is asked without credentials first; its challenge decides. Passwords go to the
   registry (``basic``) or to the token server it names (``bearer``), and nowhere else.
2. One token per set of scopes, fetched once for all threads, renewed when it runs out or the
   registry refuses it. The scopes of the challenge come before our own.
3. An identity token is exchanged by POST; a server that doesn't know that (404, 405) is asked
   anonymously. A refresh token that comes back replaces the identity token.
4. Token servers are reached by https, by http only if the registry is or the settings call them
   ``insecure``, and never at a private address unless the registry is there itself.
"""

import base64
import threading
import urllib.parse
from collections.abc import Sequence

from lxdocker_lxd.convert.registry.bearer_token import (
    TOKEN_LIMIT_BYTES,
    BearerToken,
    parse_token,
)
from lxdocker_lxd.convert.registry.challenge import Challenge, choose_challenge
from lxdocker_lxd.convert.registry.credential_file import (
    IdentityToken,
    Password,
    RegistryToken,
)
from lxdocker_lxd.convert.registry.credentials import Credentials, Keychain
from lxdocker_lxd.convert.registry.origin import Origin, check_hop
from lxdocker_lxd.convert.registry.redirect import (
    Destination,
    NamedBy,
    permit_of,
    send_following,
    settings_of,
)
from lxdocker_lxd.convert.registry.refusal import (
    BODY_LIMIT_BYTES,
    UnexpectedAnswerError,
    refusal,
)
from lxdocker_lxd.convert.registry.retry import Patience
from lxdocker_lxd.convert.registry.settings import RegistriesSettings, RegistrySettings
from lxdocker_lxd.convert.registry.transport import Answer, Transport

_CLIENT = "lxdocker-lxd"
_NO_EXCHANGE = frozenset({404, 405})
_SUCCESS = 200


class Authorization:
    """The state of one registry's door. Safe for threads."""

    def __init__(
        self,
        registry: str,
        settings: RegistrySettings,
        *,
        registries: RegistriesSettings,
        keychain: Keychain,
        transport: Transport,
        patience: Patience,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._registries = registries
        self._keychain = keychain
        self._transport = transport
        self._patience = patience
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._scopes: dict[str, tuple[str, ...]] = {}
        self._tokens: dict[tuple[str, ...], BearerToken] = {}
        self._refreshed: dict[str, str] = {}

    def login(self, repository: str) -> Credentials | None:
        """Return the credentials that count for a repository, None for none."""
        return self._keychain.find(self._registry, repository)

    def header(self, repository: str, *, base: Origin, what: str) -> str | None:
        """Return the ``Authorization`` to send without having been asked, None for none.

        Empty-handed until the registry's challenge is known. Raises what fetching a token raises.
        """
        with self._lock:
            if self._challenge is None:
                return None
            return self._meet(self._challenge, repository, base, what, refused=None)

    def answer(
        self,
        challenges: Sequence[Challenge],
        repository: str,
        *,
        base: Origin,
        what: str,
        refused: str | None,
    ) -> str | None:
        """Return the ``Authorization`` that meets a challenge, None when we have nothing to offer.

        ``refused`` is what was sent with the request that was challenged. Raises DeniedError,
        UnsafeAddressError, InvalidDocumentError and the transport's errors.
        """
        challenge = choose_challenge(challenges)
        if challenge is None:
            return None
        with self._lock:
            self._challenge = challenge
            own = self._own_scopes(repository)
            self._scopes[repository] = tuple(dict.fromkeys((*challenge.scopes, *own)))
            header = self._meet(challenge, repository, base, what, refused=refused)
        return None if header == refused else header

    def anonymous(self, challenges: Sequence[Challenge], *, base: Origin, what: str) -> str | None:
        """Return an anonymous token's header for a host we were redirected to; nothing is kept."""
        challenge = choose_challenge(challenges)
        if challenge is None or challenge.scheme != "bearer":
            return None
        token = self._fetch(challenge, challenge.scopes, None, base, what)
        return f"Bearer {token.value}"

    def _own_scopes(self, repository: str) -> tuple[str, ...]:
        return (f"repository:{repository}:pull",)

    def _meet(
        self, challenge: Challenge, repository: str, base: Origin, what: str, *, refused: str | None
    ) -> str | None:
        credentials = self.login(repository)
        secret = credentials.secret if credentials else None
        if challenge.scheme == "basic":
            return _basic(secret) if isinstance(secret, Password) else None
        if isinstance(secret, RegistryToken):
            return f"Bearer {secret.token}"
        scopes = self._scopes.get(repository) or self._own_scopes(repository)
        token = self._tokens.get(scopes)
        fresh = token is not None and token.is_fresh(self._patience.now())
        # Another thread may have renewed the token while this one was being refused.
        if token is None or not fresh or f"Bearer {token.value}" == refused:
            token = self._fetch(challenge, scopes, credentials, base, what)
            self._tokens[scopes] = token
        return f"Bearer {token.value}"

    def _fetch(
        self,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        base: Origin,
        what: str,
    ) -> BearerToken:
        what = f"{what}: token of {self._registry}"
        realm = Origin.of(challenge.realm, what=what)
        check_hop(base, realm, self._registries, what=what)
        named_by = NamedBy(source=base)
        secret = credentials.secret if credentials else None
        exchanged = isinstance(secret, IdentityToken)
        if isinstance(secret, IdentityToken):
            answer = self._post(challenge, scopes, secret, realm, named_by, what)
            if answer.status in _NO_EXCHANGE:
                answer.close()
                exchanged = False
                answer = self._get(challenge, scopes, None, realm, named_by, what)
        else:
            password = secret if isinstance(secret, Password) else None
            answer = self._get(challenge, scopes, password, realm, named_by, what)
        with answer:
            if answer.status != _SUCCESS:
                raise self._refused(answer, what, credentials)
            raw = answer.read_all(TOKEN_LIMIT_BYTES, what=what)
        token = parse_token(raw, now=self._patience.now(), what=what)
        if exchanged and token.refresh and isinstance(secret, IdentityToken):
            self._refreshed[secret.token] = token.refresh
        return token

    def _get(
        self,
        challenge: Challenge,
        scopes: tuple[str, ...],
        password: Password | None,
        realm: Origin,
        named_by: NamedBy,
        what: str,
    ) -> Answer:
        parts = urllib.parse.urlsplit(challenge.realm)
        query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        query += [("service", challenge.service)] if challenge.service else []
        query += [("scope", scope) for scope in scopes]
        query += [("account", password.username)] if password else []
        url = urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc, parts.path, urllib.parse.urlencode(query), "")
        )
        return send_following(
            self._transport,
            self._registries,
            "GET",
            Destination(
                url=url,
                settings=settings_of(realm, self._registries, via=self._settings),
                named_by=named_by,
            ),
            headers={"Authorization": _basic(password)} if password else {},
            what=what,
        )

    def _post(
        self,
        challenge: Challenge,
        scopes: tuple[str, ...],
        identity: IdentityToken,
        realm: Origin,
        named_by: NamedBy,
        what: str,
    ) -> Answer:
        return self._transport.send(
            "POST",
            challenge.realm,
            settings=settings_of(realm, self._registries, via=self._settings),
            form={
                "grant_type": "refresh_token",
                "refresh_token": self._refreshed.get(identity.token, identity.token),
                "service": challenge.service,
                "scope": " ".join(scopes),
                "client_id": _CLIENT,
            },
            what=what,
            permit=permit_of(named_by, realm, self._registries, what=what),
        )

    def _refused(self, answer: Answer, what: str, credentials: Credentials | None) -> Exception:
        if answer.status < _SUCCESS or answer.status // 100 == 3:  # noqa: PLR2004 - 3xx
            return UnexpectedAnswerError(f"{what}: {answer.origin.host} answers {answer.status}")
        return refusal(
            answer.status,
            answer.read_all(BODY_LIMIT_BYTES, what=what),
            what=what,
            registry=self._registry,
            headers=answer.lower_headers,
            now=self._patience.now(),
            logged_in_from=credentials.origin if credentials else "",
        )


def _basic(password: Password) -> str:
    pair = f"{password.username}:{password.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()
