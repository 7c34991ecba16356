"""What a registry asks for before it answers: the ``WWW-Authenticate`` headers of a 401.

Grammar (RFC 9110, 11.6.1)::

    header    := challenge ("," challenge)*
    challenge := scheme [token68 | parameter ("," parameter)*]
    parameter := name "=" (token | quoted string)

A server may send several headers and several challenges in one. Values without quotes may hold
any character but comma and white space, since registries forget the quotes around URLs. Pure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_GAP = re.compile(r"[\s,]*")
_SCHEME = re.compile(rf"({_WORD})(?=\s|,|$)")
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_PARAMETER = re.compile(rf"({_WORD})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))")
_KNOWN = ("bearer", "basic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to authenticate: a lower-case scheme and its parameters, by lower-case name."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def realm(self) -> str:
        """For ``bearer`` the address of the token server."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """The name under which the token server knows the registry."""
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """The rights the registry wants to see."""
        return tuple(self.parameters.get("scope", "").split())


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges of all headers, in order; what can't be read ends its header."""
    return tuple(challenge for header in headers for challenge in _parse(header))


def choose_challenge(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the first challenge that can be met: ``bearer`` or ``basic``."""
    return next((one for one in challenges if one.scheme in _KNOWN), None)


def _parse(header: str) -> Iterable[Challenge]:
    scheme = ""
    parameters: dict[str, str] = {}
    position = _skip(header, 0)
    while position < len(header):
        if scheme and (found := _PARAMETER.match(header, position)):
            name, quoted, plain = found.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            # A name given twice is an error; the first one is what the quoted rules saw.
            parameters.setdefault(name.lower(), value)
        elif found := _SCHEME.match(header, position):
            if scheme:
                yield Challenge(scheme=scheme, parameters=MappingProxyType(parameters))
            scheme, parameters = found[1].lower(), {}
            found = _TOKEN68.match(header, found.end()) or found
        else:
            break
        position = _skip(header, found.end())
    if scheme:
        yield Challenge(scheme=scheme, parameters=MappingProxyType(parameters))


def _skip(header: str, position: int) -> int:
    found = _GAP.match(header, position)
    return found.end() if found else position
