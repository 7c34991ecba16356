"""Who updates this LXD now: one updater at a time, whatever machine and state directory it works from.

The claim is a key of LXD's own configuration, held while a round or a command is at work and renewed
meanwhile. What a dead updater leaves is its own again at once, and anybody's after ``VALID``.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import LxdError, LxdockerError, UsageError
from lxdocker_lxd.lxd.failures import ChangedMeanwhileError, PermissionRefusedError
from lxdocker_lxd.lxd.ports import Server
from lxdocker_lxd.update.bounded_json import json_object_of
from lxdocker_lxd.update.quantity import moment_of
from lxdocker_lxd.update.redaction import cleaned

KEY = "user.lxdocker.updater"
VALID = timedelta(minutes=15)
RENEWED = timedelta(minutes=1)
_MOST_TRIES = 5
_MOST_CHARACTERS = 4096


class OtherUpdaterError(LxdError):
    """Another updater is at work with this LXD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    owner: str
    at: datetime


class Claim:
    """One updater's claim to a LXD; ``owner`` names it, the same after a restart.

    ``clock`` is compared with those of other updaters' machines. Where a client certificate may not
    change LXD's configuration nothing is claimed, and leases of instances are all there is.
    """

    def __init__(
        self, server: Callable[[], Server], owner: str, clock: Callable[[], datetime]
    ) -> None:
        self._server = server
        self._owner = owner
        self._clock = clock
        self._written: datetime | None = None

    def take(self) -> None:
        """Claim LXD; raise OtherUpdaterError while somebody else does, and what the port raises."""
        for _ in range(_MOST_TRIES):
            info = self._server().info()
            held, now = _held(info.config.get(KEY, "")), self._clock()
            # A clock that is ahead makes no claim that lasts longer.
            if held and held.owner != self._owner and abs(now - held.at) < VALID:
                raise OtherUpdaterError(
                    f"another updater is at work with this LXD: {cleaned(held.owner)}, last heard of at"
                    f" {held.at:%Y-%m-%d %H:%M:%S} UTC",
                    hint="one for each LXD is enough; if that one is gone,"
                    f" `lxc config unset {KEY}` ends its claim, as {VALID.seconds // 60} minutes do",
                )
            text = json.dumps({"owner": self._owner, "at": now.isoformat(timespec="seconds")})
            try:
                self._server().configure({KEY: text}, etag=info.etag)
            except ChangedMeanwhileError:
                continue
            except PermissionRefusedError:
                return
            self._written = now
            return
        raise OtherUpdaterError(
            "claim this LXD: its configuration changes all the time", hint="try again"
        )

    def renew(self) -> None:
        """Prolong a claim that is held, about once a minute; failures are the next time's."""
        if self._written is None or abs(self._clock() - self._written) < RENEWED:
            return
        # Whatever comes of it: what waits below renews, too.
        self._written = self._clock()
        with contextlib.suppress(LxdockerError):
            self.take()

    def release(self) -> None:
        """Give LXD free. What can't be given free ends by itself."""
        if self._written is None:
            return
        self._written = None
        with contextlib.suppress(LxdockerError):
            info = self._server().info()
            held = _held(info.config.get(KEY, ""))
            if held is not None and held.owner == self._owner:
                self._server().configure({KEY: ""}, etag=info.etag)


def _held(text: str) -> _Held | None:
    """Return what a key's value says; what can't be understood is nobody's claim."""
    try:
        found = json_object_of(text, most_characters=_MOST_CHARACTERS)
        owner, at = found.get("owner"), found.get("at")
        if not isinstance(owner, str) or not isinstance(at, str):
            return None
        return _Held(owner=owner, at=moment_of(at, zone_needed=True).astimezone(UTC))
    except UsageError:
        return None
