"""Follows redirects one by one, with every hop checked and no credentials carried along.

``Authorization`` is dropped as soon as scheme, host or port differ from where the request began, and
stays dropped: content networks refuse requests with two kinds of credentials, and an attacker's
host must not get them. Forms are never sent on, for they hold secrets too.
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import replace

from lxdocker_lxd.convert.registry.origin import Origin, check_hop
from lxdocker_lxd.convert.registry.refusal import UnexpectedAnswerError
from lxdocker_lxd.convert.registry.settings import RegistriesSettings, RegistrySettings
from lxdocker_lxd.convert.registry.transport import Answer, Transport

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


def send_following(
    transport: Transport,
    registries: RegistriesSettings,
    method: str,
    url: str,
    *,
    settings: RegistrySettings,
    headers: Mapping[str, str],
    what: str,
) -> Answer:
    """Send a GET or HEAD and return the first answer that is no redirect.

    ``settings`` are those of the first host. Raises what the transport raises, UnsafeAddressError,
    and UnexpectedAnswerError after ten hops.
    """
    sent = dict(headers)
    origin = start = Origin.of(url, what=what)
    for _ in range(HOPS_LIMIT + 1):
        answer = transport.send(method, url, settings=settings, headers=sent, what=what)
        location = answer.header("Location")
        if answer.status not in _REDIRECTS or not location:
            answer.first_origin = start
            return answer
        answer.close()
        url = urllib.parse.urljoin(url, location)
        target = Origin.of(url, what=f"{what}: redirect by {origin.host}")
        check_hop(origin, target, what=what, trusted=registries.by_host)
        if target != start:
            sent.pop("Authorization", None)
        settings = replace(settings_of(target, registries, via=settings), mirrors=())
        origin = target
    raise UnexpectedAnswerError(f"{what}: {start.host} redirects more than {HOPS_LIMIT} times")
