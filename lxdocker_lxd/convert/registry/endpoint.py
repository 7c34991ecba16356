"""One registry host: requests to it, with login, redirects, retries and clear refusals.

An endpoint is shared by all images of a run, so that what was learned (the scheme, the challenge,
tokens, that nobody answers) is learned once.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lxdocker_lxd.convert.registry.authorization import Authorization
from lxdocker_lxd.convert.registry.challenge import parse_challenges
from lxdocker_lxd.convert.registry.credentials import Keychain
from lxdocker_lxd.convert.registry.header_number import parse_count
from lxdocker_lxd.convert.registry.origin import Origin
from lxdocker_lxd.convert.registry.redirect import Destination, NamedBy, send_following, settings_of
from lxdocker_lxd.convert.registry.refusal import BODY_LIMIT_BYTES, refusal
from lxdocker_lxd.convert.registry.retry import Patience
from lxdocker_lxd.convert.registry.settings import RegistriesSettings, api_host
from lxdocker_lxd.convert.registry.transport import (
    Answer,
    AnswerTooLongError,
    NotTlsError,
    TooSlowError,
    Transport,
    UnreachableError,
)

Taken = TypeVar("Taken")

_UNAUTHORIZED = 401
_FEW_PULLS = 10
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.){1,300})')
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a registry: ``path`` follows ``/v2/REPOSITORY/``.

    ``accepted`` are statuses beside 2xx that the caller wants to see. ``what`` names the object in
    errors. ``attempts`` None means the patience's own. ``seconds``: until the answer; None for what a
    document may take.
    """

    method: str
    repository: str
    path: str
    what: str
    headers: Mapping[str, str]
    accepted: Collection[int] = ()
    attempts: int | None = None
    seconds: float | None = None


class Endpoint:
    """One host under the name references (or the list of mirrors) use. Safe for threads."""

    def __init__(
        self,
        registry: str,
        *,
        prefix: str = "",
        registries: RegistriesSettings,
        keychain: Keychain,
        transport: Transport,
        patience: Patience,
    ) -> None:
        self.registry = registry
        self.name = f"{registry}/{prefix}" if prefix else registry
        self._prefix = f"{prefix}/" if prefix else ""
        self._registries = registries
        self._settings = registries.of(registry)
        self._transport = transport
        self._patience = patience
        self._authorization = Authorization(
            registry,
            self._settings,
            registries=registries,
            keychain=keychain,
            transport=transport,
            patience=patience,
        )
        self._base: Origin | None = None
        self._silent = False
        self.is_slow = False
        """Whether it was too slow in this run; a mirror that was isn't asked again."""
        self._told: set[str] = set()
        self._lock = threading.Lock()

    @property
    def blob_start_seconds(self) -> float:
        """How long a blob's first byte may take."""
        return self._transport.limits.blob_start_seconds

    def ask(
        self, request: Request, take: Callable[[Answer], Taken], notice: Callable[[str], None]
    ) -> Taken:
        """Send a request until it succeeds and return what ``take`` makes of the answer.

        ``take`` must close the answer; a break while it reads is tried again like any other.
        Raises NotFoundError, AuthenticationError, NetworkError, VerificationError, UsageError.
        """
        # A host nobody answered at isn't waited for again by each further image.
        attempts = 1 if self._silent else request.attempts
        try:
            taken = self._patience.persist(
                lambda: take(self._once(request, notice)), notice=notice, attempts=attempts
            )
        except UnreachableError as error:
            self._silent = True
            self.is_slow = self.is_slow or isinstance(error, TooSlowError)
            raise
        self._silent = False
        return taken

    def _once(self, request: Request, notice: Callable[[str], None]) -> Answer:
        repository = self._prefix + request.repository
        header: str | None = None
        if self._base is not None:
            header = self._authorization.header(repository, base=self._base, what=request.what)
        with contextlib.ExitStack() as opened:
            answer = opened.enter_context(self._send(request, repository, header))
            if answer.status == _UNAUTHORIZED and answer.first_origin == answer.origin:
                header = self._authorization.answer(
                    parse_challenges(answer.headers("WWW-Authenticate")),
                    repository,
                    base=answer.origin,
                    what=request.what,
                    refused=header,
                )
                if header is not None:
                    opened.close()
                    answer = opened.enter_context(self._send(request, repository, header))
            self._report(answer, notice)
            if answer.status // 100 == 2 or answer.status in request.accepted:  # noqa: PLR2004 - 2xx
                opened.pop_all()
                return answer
            raise self._refusal(answer, request, repository)

    def _send(self, request: Request, repository: str, header: str | None) -> Answer:
        headers = dict(request.headers)
        if header is not None:
            headers["Authorization"] = header
        host = api_host(self.registry)
        schemes = (self._base.scheme,) if self._base else ("https", "http")
        for scheme in schemes:
            url = f"{scheme}://{host}/v2/{repository}/{request.path}"
            try:
                answer = send_following(
                    self._transport,
                    self._registries,
                    request.method,
                    Destination(url=url, settings=self._settings),
                    headers=headers,
                    what=request.what,
                    seconds=request.seconds,
                )
            except (NotTlsError, UnreachableError):
                if scheme == schemes[-1] or not self._settings.plain_http_allowed:
                    raise
                continue
            self._base = answer.first_origin
            return self._again_anonymously(answer, request)
        raise AssertionError("one of the schemes returned or raised")

    def _again_anonymously(self, answer: Answer, request: Request) -> Answer:
        """Meet a challenge of a host we were redirected to: without credentials, for it alone."""
        if answer.status != _UNAUTHORIZED or answer.first_origin == answer.origin:
            return answer
        with contextlib.ExitStack() as opened:
            opened.enter_context(answer)
            challenges = parse_challenges(answer.headers("WWW-Authenticate"))
            header = self._authorization.anonymous(
                challenges, base=answer.origin, what=request.what
            )
            if header is None:
                opened.pop_all()
                return answer
        return send_following(
            self._transport,
            self._registries,
            request.method,
            Destination(
                url=answer.url,
                settings=settings_of(answer.origin, self._registries, via=self._settings),
                named_by=NamedBy(source=answer.first_origin),
            ),
            headers={**request.headers, "Authorization": header},
            what=request.what,
            seconds=request.seconds,
        )

    def _refusal(self, answer: Answer, request: Request, repository: str) -> Exception:
        try:
            body = answer.read_all(BODY_LIMIT_BYTES, what=request.what)
        except AnswerTooLongError:
            body = b""
        credentials = self._authorization.login(repository)
        return refusal(
            answer.status,
            body,
            what=request.what,
            registry=self.registry,
            headers=answer.lower_headers,
            now=self._patience.now(),
            logged_in_from=credentials.origin if credentials else "",
        )

    def _report(self, answer: Answer, notice: Callable[[str], None]) -> None:
        """Pass on what the registry wants users to know, each text once per run."""
        texts = [
            f"{self.registry} says: {found[1]}"
            for value in answer.headers("Warning")
            if (found := _WARNING.match(value))
        ]
        remaining = parse_count(
            (answer.header("ratelimit-remaining") or "").partition(";")[0].strip()
        )
        if remaining is not None:
            _log.debug("%s: %s pulls left", self.registry, remaining)
            if remaining < _FEW_PULLS:
                texts.append(f"{self.registry}: fewer than {_FEW_PULLS} pulls are left for now")
        for text in texts:
            shown = "".join(ch for ch in text if ch.isprintable())
            with self._lock:
                new = shown not in self._told
                self._told.add(shown)
            if new:
                notice(shown)
