"""Follows redirects one by one, with every hop checked and no credentials carried along.

``Authorization`` is dropped as soon as scheme, host or port differ from where the request began, and
stays dropped: content networks refuse requests with two kinds of credentials, and an attacker's
host must not get them. Forms are never sent on, for they hold secrets too.
"""

import functools
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lxdocker_lxd.convert.registry.origin import (
    Address,
    Origin,
    UnsafeAddressError,
    check_hop,
    check_peer,
)
from lxdocker_lxd.convert.registry.refusal import UnexpectedAnswerError
from lxdocker_lxd.convert.registry.settings import RegistriesSettings, RegistrySettings
from lxdocker_lxd.convert.registry.transport import Answer, Transport
from lxdocker_lxd.http_deadline import Deadline

HOPS_LIMIT = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def settings_of(
    origin: Origin, registries: RegistriesSettings, *, via: RegistrySettings
) -> RegistrySettings:
    """Return the settings of a host that another one named.

    Its own if the user gave any; else only the proxy of the host it was reached ``via``, since
    that is a matter of this machine's network, not of trust.
    """
    own = registries.by_host.get(origin.host)
    return own or RegistrySettings(host=origin.host, proxy=via.proxy)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBy:
    """Who named the first URL, when it wasn't the user: a server, or (None) a document."""

    source: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a request goes first: ``settings`` are the host's; ``named_by`` is None for the user."""

    url: str
    settings: RegistrySettings
    named_by: NamedBy | None = None


def permit_of(
    named_by: NamedBy | None, target: Origin, registries: RegistriesSettings, *, what: str
) -> Callable[[Address], None] | None:
    """Return what judges the addresses of ``target``; None for a host that the user named."""
    if named_by is None or target.host in registries.by_host:
        return None
    return functools.partial(check_peer, named_by.source, target, what=what)


def send_following(
    transport: Transport,
    registries: RegistriesSettings,
    method: str,
    first: Destination,
    *,
    headers: Mapping[str, str],
    what: str,
    seconds: float | None = None,
) -> Answer:
    """Send a GET or HEAD and return the first answer that is no redirect.

    All of it may take ``seconds`` until an answer; None for what a document may take. Raises what the
    transport raises, UnsafeAddressError, and UnexpectedAnswerError after ten hops.
    """
    url, settings, named_by = first.url, first.settings, first.named_by
    sent = dict(headers)
    deadline = Deadline.after(transport.limits.document_seconds if seconds is None else seconds)
    origin = start = Origin.of(url, what=what)
    for hop in range(HOPS_LIMIT + 1):
        answer = transport.send(
            method,
            url,
            settings=settings,
            headers=sent,
            what=what,
            deadline=deadline,
            permit=permit_of(named_by, origin, registries, what=what),
        )
        start = start if hop else answer.origin
        location = answer.header("Location")
        if answer.status not in _REDIRECTS or not location:
            answer.first_origin = start
            return answer
        answer.close()
        origin = answer.origin
        url = _joined(url, location, what=f"{what}: redirect by {origin.host}")
        target = Origin.of(url, what=f"{what}: redirect by {origin.host}")
        check_hop(origin, target, registries, what=what)
        if target != start:
            sent.pop("Authorization", None)
        settings = replace(settings_of(target, registries, via=settings), mirrors=())
        named_by = NamedBy(source=origin)
        origin = target
    raise UnexpectedAnswerError(f"{what}: {start.host} redirects more than {HOPS_LIMIT} times")


def _joined(url: str, location: str, *, what: str) -> str:
    try:
        return urllib.parse.urljoin(url, location)
    except ValueError as error:
        raise UnsafeAddressError(f"{what}: the address is not a URL") from error
