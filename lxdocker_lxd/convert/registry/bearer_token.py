"""A token server's answer. Pure.

Source: distribution-spec's token documentation: ``token`` or ``access_token``, ``expires_in`` (60
seconds when absent or less), ``issued_at`` (now when absent), perhaps a ``refresh_token``.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.convert.json_document import JsonObject

TOKEN_LIMIT_BYTES = 128 << 10
_LEAST_LIFETIME_SECONDS = 60
_MOST_LIFETIME_SECONDS = 7 * 24 * 3600
# A token that ends while its request travels is as good as none.
_MARGIN = timedelta(seconds=5)
_SENDABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerToken:
    """A token, when it ends, and the refresh token that came with it (empty for none)."""

    value: str = field(repr=False)
    expires_at: datetime
    refresh: str = field(repr=False, default="")

    def is_fresh(self, now: datetime) -> bool:
        """Whether a request sent now will arrive in time."""
        return now + _MARGIN < self.expires_at


def parse_token(raw: bytes, *, now: datetime, what: str) -> BearerToken:
    """Read a token server's answer; raise InvalidDocumentError."""
    document = JsonObject.parse(raw, what=what)
    value = document.text("token") or document.text("access_token")
    if not _SENDABLE.fullmatch(value):
        raise document.fail("there is no token in it")
    lifetime_seconds = document.number("expires_in") or 0
    lifetime = timedelta(
        seconds=min(max(lifetime_seconds, _LEAST_LIFETIME_SECONDS), _MOST_LIFETIME_SECONDS)
    )
    refresh = document.text("refresh_token")
    return BearerToken(
        value=value,
        expires_at=_issued(document.text("issued_at"), now, lifetime) + lifetime,
        refresh=refresh if _SENDABLE.fullmatch(refresh) else "",
    )


def _issued(text: str, now: datetime, lifetime: timedelta) -> datetime:
    try:
        # Python takes six digits of a second; servers send nine.
        issued = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return now
    if issued.tzinfo is None:
        issued = issued.replace(tzinfo=UTC)
    # A server whose clock is wrong must not make each of its tokens useless.
    return issued if now - lifetime < issued <= now else now
