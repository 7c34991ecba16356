"""A registry's refusal, told to the user: status, the registry's own words, the next step. Pure.

Bodies are ``{"errors": [{"code", "message"}]}`` (distribution-spec), what token servers say, or
HTML, of which nothing is shown. Words from outside are cut and stripped of control characters.
"""

from collections.abc import Mapping
from datetime import datetime

from lxdocker_lxd.convert.json_document import InvalidDocumentError, JsonObject
from lxdocker_lxd.convert.registry.header_number import parse_count
from lxdocker_lxd.convert.registry.retry import RETRIED_STATUSES, TemporaryError, parse_retry_after
from lxdocker_lxd.convert.registry.settings import DOCKER_HUB
from lxdocker_lxd.errors import (
    AuthenticationError,
    LxdockerError,
    NetworkError,
    NotFoundError,
    VerificationError,
)

BODY_LIMIT_BYTES = 64 << 10
_SHOWN_CHARACTERS = 300
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 401, 403, 404, 429


class NotInRegistryError(NotFoundError):
    """The registry has no such repository, tag, manifest or blob."""


class DeniedError(AuthenticationError):
    """The registry wants other credentials, or any."""


class RateLimitedError(NetworkError):
    """The registry counts requests, and there have been too many; waiting here is no use."""


class BusyError(TemporaryError):
    """The registry has no time for us now, or failed inside."""


class UnexpectedAnswerError(NetworkError):
    """An answer a registry shouldn't give."""


def registry_words(body: bytes) -> str:
    """Return what the body says, as ``CODE: message``; empty when it says nothing readable."""
    try:
        document = JsonObject.parse(body, what="answer")
        errors = document.children("errors") if document.has("errors") else (document,)
        words = [_words(one) for one in errors]
    except (InvalidDocumentError, VerificationError):
        return ""
    text = "; ".join(word for word in words if word)
    text = "".join(ch if ch.isprintable() else " " for ch in text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _words(error: JsonObject) -> str:
    fields = error.fields
    code = fields.get("code") or fields.get("error") or ""
    message = fields.get("message") or fields.get("error_description") or fields.get("details")
    return ": ".join(str(part) for part in (code, message) if isinstance(part, str | int) and part)


def refusal(
    status: int,
    body: bytes,
    *,
    what: str,
    registry: str,
    headers: Mapping[str, str],
    now: datetime,
    logged_in_from: str = "",
) -> LxdockerError:
    """Return the error to raise for an answer that isn't a success.

    ``what`` is the thing asked for, ``registry`` the host that answered (under the name used in
    references), ``headers`` its headers by lower-case name, ``logged_in_from`` the file or helper
    whose credentials were sent, empty for none.
    """
    words = registry_words(body)
    said = f"{status} {words}".strip()
    if status == _NOT_FOUND:
        return NotInRegistryError(
            f"{what}: not found at {registry} ({said})",
            hint="check registry, repository and tag; private repositories may need a login",
        )
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        return _denied(what, registry, said, logged_in_from)
    wished = parse_retry_after(headers.get("retry-after") or headers.get("x-retry-after"), now=now)
    if status == _TOO_MANY and (spent := _rate_limit(what, registry, said, headers, wished)):
        return spent
    if status in RETRIED_STATUSES:
        again = f"; it asks to come back in {wished:.0f} s" if wished else ""
        return BusyError(
            f"{what}: {registry} answers {said}{again}",
            hint=_hub_hint(registry, wished)
            if status == _TOO_MANY
            else f"try again later; if it stays so, ask who runs {registry}",
            retry_after_seconds=wished,
        )
    return UnexpectedAnswerError(
        f"{what}: {registry} answers {said}", hint=f"check that {registry} is a container registry"
    )


def _denied(what: str, registry: str, said: str, logged_in_from: str) -> DeniedError:
    login = "docker login" if registry == DOCKER_HUB else f"docker login {registry}"
    if logged_in_from:
        return DeniedError(
            f"{what}: {registry} refused the credentials from {logged_in_from} ({said})",
            hint=f"run `{login}` (or podman login) again with an account that may pull it",
        )
    return DeniedError(
        f"{what}: {registry} wants a login ({said})",
        hint=f"check the name; for a private image run `{login}` or `podman login {registry}`",
    )


def _rate_limit(
    what: str, registry: str, said: str, headers: Mapping[str, str], wished: float | None
) -> RateLimitedError | None:
    """Return the error for a used-up allowance, None when a short wait may help."""
    remaining, _, window = headers.get("ratelimit-remaining", "").partition(";w=")
    if remaining.strip() != "0":
        return None
    limit = parse_count(headers.get("ratelimit-limit", "").partition(";")[0].strip())
    allowance = f" of {limit} pulls" if limit is not None else ""
    window_seconds = parse_count(window.partition(";")[0].strip())
    period = f" in {window_seconds // 60} minutes" if window_seconds is not None else ""
    again = f"; it asks to come back in {wished:.0f} s" if wished else ""
    return RateLimitedError(
        f"{what}: the allowance{allowance}{period} at {registry} is used up ({said}){again}",
        hint=_hub_hint(registry, wished),
    )


def _hub_hint(registry: str, wished: float | None) -> str:
    when = f"try again in {wished:.0f} s" if wished else "try again later"
    if registry == DOCKER_HUB:
        return (
            f"{when}, or run `docker login`: accounts may pull more, or set a mirror for docker.io"
        )
    return f"{when}, or log in: `docker login {registry}`"
