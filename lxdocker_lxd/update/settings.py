"""The ``update:`` section of the settings file: who is told, which hooks there are, metrics. Pure.

Commands and URLs stand here and nowhere else: the file is root's, an instance's keys aren't.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.spec_yaml import Value
from lxdocker_lxd.update.enrolment import Poll
from lxdocker_lxd.update.hook import DEFAULT_TIMEOUT_SECONDS, Hook, is_hook_name
from lxdocker_lxd.update.message_template import JSON, BodyTemplate, template_of
from lxdocker_lxd.update.notification import Severity
from lxdocker_lxd.update.quantity import duration_of
from lxdocker_lxd.update.retention import (
    MOST_COPIES,
    Retention,
    RetentionDefaults,
)

_RECEIVER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; ?[A-Za-z0-9-]+=[A-Za-z0-9.+-]+)*")
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_HEADERS = frozenset({"content-type", "content-length", "host", "transfer-encoding"})
_LAST_PORT = 65535
_LAST_ID = 2**32 - 2
_LONGEST_TIMEOUT_SECONDS = 300
_LONGEST_HOOK_SECONDS = 24 * 3600
_MOST_WORDS = 256
_LEAST_POLL_SECONDS = 5
_MOST_POLL_SECONDS = 24 * 3600
_Item = TypeVar("_Item")
_ADDRESS_KEYS = ("url", "url_file", "headers", "header_files", "ca_file", "insecure", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressSettings:
    """An URL to ask, given or in a file; what may be secret isn't shown."""

    url: str = field(default="", repr=False)
    url_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    header_files: Mapping[str, Path] = field(default_factory=dict)
    ca_file: Path | None = None
    insecure: bool = False
    timeout_seconds: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """Somebody who is told: by ``address``, or by the command ``words``."""

    name: str
    address: AddressSettings | None = None
    words: tuple[str, ...] = ()
    body: BodyTemplate = field(default_factory=BodyTemplate)
    minimum: Severity = Severity.INFO
    timeout_seconds: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where metrics are served."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """What of the updater stands in the settings file."""

    receivers: tuple[ReceiverSettings, ...] = ()
    ping: AddressSettings | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    metrics: Listen | None = None
    poll: Poll = Poll.LXD
    poll_interval_seconds: int = 60
    retention: RetentionDefaults = field(default_factory=RetentionDefaults)

    @property
    def runs_programs(self) -> bool:
        """Whether the file names programs for the host, so that it must be root's alone."""
        return any(receiver.words for receiver in self.receivers) or any(
            hook.where == "host" for hook in self.hooks.values()
        )


def update_settings(value: Value | None) -> UpdateSettings:
    """Return what the section says; raise SpecError that names file and line."""
    if value is None or value.is_null:
        return UpdateSettings()
    found = value.mapping(
        {"notify", "ping", "hooks", "metrics", "poll", "poll_interval", "retention"}
    )
    return UpdateSettings(
        receivers=tuple(
            _receiver(name, one) for name, one in _mapping(found.get("notify")).items()
        ),
        ping=_ping(found["ping"]) if "ping" in found else None,
        hooks=MappingProxyType(
            {name: _hook(name, one) for name, one in _mapping(found.get("hooks")).items()}
        ),
        metrics=_listen(found["metrics"]) if "metrics" in found else None,
        poll=_poll(found["poll"]) if "poll" in found else Poll.LXD,
        poll_interval_seconds=(
            found["poll_interval"].integer(least=_LEAST_POLL_SECONDS, most=_MOST_POLL_SECONDS)
            if "poll_interval" in found
            else 60
        ),
        retention=_retention(found["retention"]) if "retention" in found else RetentionDefaults(),
    )


def _retention(value: Value) -> RetentionDefaults:
    found = value.mapping({"keep", "copies", "projects"})
    everywhere = _retention_of(found, Retention())
    projects = {
        name: _retention_of(one.mapping({"keep", "copies"}), everywhere)
        for name, one in _mapping(found.get("projects")).items()
    }
    return RetentionDefaults(everywhere=everywhere, projects=MappingProxyType(projects))


def _retention_of(found: Mapping[str, Value], default: Retention) -> Retention:
    keep, copies = default.keep, default.copies
    if "keep" in found:
        try:
            keep = duration_of(found["keep"].text())
        except UsageError as error:
            raise found["keep"].error(
                f"{error.message}; expected a time as 12h, 3d or 2w"
            ) from error
    if "copies" in found:
        copies = found["copies"].integer(least=1, most=MOST_COPIES)
    return Retention(keep=keep, copies=copies)


def _poll(value: Value) -> Poll:
    if value.text() not in tuple(Poll):
        raise value.error(f"expected remote or lxd, got {value.text()[:40]!r}")
    return Poll(value.text())


def _mapping(value: Value | None) -> dict[str, Value]:
    return {} if value is None or value.is_null else value.mapping()


# ---- who is told


def _receiver(name: str, value: Value) -> ReceiverSettings:
    if not _RECEIVER_NAME.fullmatch(name):
        raise value.error("a receiver's name has lower case letters, digits and -, 32 at most")
    found = value.mapping({*_ADDRESS_KEYS, "command", "body", "content_type", "minimum"})
    address: AddressSettings | None = None
    words: tuple[str, ...] = ()
    if "command" in found:
        misplaced = [key for key in _ADDRESS_KEYS if key in found and key != "timeout"]
        if misplaced:
            raise found[misplaced[0]].error("a command and a URL at once; give each its own name")
        words = _words(found["command"])
    else:
        address = _address(found, value)
    content_type = _content_type(found["content_type"]) if "content_type" in found else JSON
    return ReceiverSettings(
        name=name,
        address=address,
        words=words,
        body=_body(found["body"], content_type) if "body" in found else BodyTemplate(),
        minimum=_severity(found["minimum"]) if "minimum" in found else Severity.INFO,
        timeout_seconds=_timeout(found, _LONGEST_TIMEOUT_SECONDS, 30),
    )


def _body(value: Value, content_type: str) -> BodyTemplate:
    try:
        return template_of(value.text(), content_type)
    except UsageError as error:
        raise value.error(error.message, hint=error.hint) from error


def _content_type(value: Value) -> str:
    text = value.text()
    if not _CONTENT_TYPE.fullmatch(text):
        raise value.error("expected a media type, as in application/json or text/plain")
    return text


def _severity(value: Value) -> Severity:
    words = [str(one) for one in Severity]
    if value.text() not in words:
        raise value.error(f"expected one of {', '.join(words)}, got {value.text()[:40]!r}")
    return Severity(value.text())


def _timeout(found: Mapping[str, Value], most: int, default: int) -> int:
    return found["timeout"].integer(least=1, most=most) if "timeout" in found else default


# ---- addresses


def _ping(value: Value) -> AddressSettings:
    return _address(value.mapping(_ADDRESS_KEYS), value)


def _address(found: Mapping[str, Value], value: Value) -> AddressSettings:
    if ("url" in found) == ("url_file" in found):
        raise value.error("expected either url or url_file, or a command")
    insecure = found["insecure"].boolean() if "insecure" in found else False
    return AddressSettings(
        url=_url(found["url"], insecure=insecure) if "url" in found else "",
        url_file=_file(found["url_file"]) if "url_file" in found else None,
        headers=MappingProxyType(_headers(found.get("headers"), _header_value)),
        header_files=MappingProxyType(_headers(found.get("header_files"), _file)),
        ca_file=_file(found["ca_file"]) if "ca_file" in found else None,
        insecure=insecure,
        timeout_seconds=_timeout(found, _LONGEST_TIMEOUT_SECONDS, 30),
    )


def _url(value: Value, *, insecure: bool) -> str:
    # The text isn't repeated in messages: many services put a token into it.
    problem = problem_of_url(value.text(), insecure=insecure)
    if problem:
        raise value.error(problem)
    return value.text()


def problem_of_url(url: str, *, insecure: bool) -> str:
    """Return what is wrong with an address to ask, or nothing."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        return "expected https://host/path"
    if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_good:
        return "expected https://host/path"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "expected a URL without spaces and special characters; write them as %20"
    if parts.username is not None or parts.password is not None:
        return "no user and password in the URL; give them in a header, from header_files"
    if parts.scheme == "http" and not insecure and parts.hostname not in _LOOPBACK:
        return "expected https://; plain http:// to another machine needs insecure: true"
    return ""


def _headers(value: Value | None, parse: Callable[[Value], _Item]) -> dict[str, _Item]:
    headers = {}
    for name, one in _mapping(value).items():
        if not _HEADER_NAME.fullmatch(name):
            raise one.error("that is no name of a header")
        if name.lower() in _OWN_HEADERS:
            raise one.error("this header is set by the request itself", hint="see content_type")
        headers[name] = parse(one)
    return headers


def _header_value(value: Value) -> str:
    text = value.text()
    if not _HEADER_VALUE.fullmatch(text):
        raise value.error("a header's value is one line of plain characters")
    return text


def _file(value: Value) -> Path:
    path = Path(value.text())
    if not path.is_absolute():
        raise value.error(f"expected an absolute path, got {value.text()[:80]!r}")
    return path


# ---- commands and hooks


def _words(value: Value) -> tuple[str, ...]:
    words = tuple(item.text() for item in value.items())
    if not words or len(words) > _MOST_WORDS or not words[0].startswith("/"):
        raise value.error(
            "expected a list that begins with a program's absolute path",
            hint="as in [/usr/sbin/sendmail, -t]; no shell reads it",
        )
    return words


def _hook(name: str, value: Value) -> Hook:
    if not is_hook_name(name):
        raise value.error("a hook's name has lower case letters, digits, - and _, 63 at most")
    found = value.mapping({"where", "command", "timeout", "user", "group", "projects"})
    if "command" not in found:
        raise value.error("expected a command")
    where = _where(found["where"]) if "where" in found else "instance"
    only = {"host": ("user", "group"), "instance": ("projects",)}[where]
    misplaced = [key for key in only if key in found]
    if misplaced:
        raise found[misplaced[0]].error(f"a hook of the {where} has none")
    ids = {
        key: found[key].integer(least=0, most=_LAST_ID) if key in found else 0
        for key in ("user", "group")
    }
    projects = [item.text() for item in found["projects"].items()] if "projects" in found else []
    return Hook(
        name=name,
        where=where,
        words=_words(found["command"]),
        timeout_seconds=float(_timeout(found, _LONGEST_HOOK_SECONDS, int(DEFAULT_TIMEOUT_SECONDS))),
        user_id=ids["user"],
        group_id=ids["group"],
        projects=frozenset(projects or {DEFAULT_PROJECT}),
    )


def _where(value: Value) -> Literal["instance", "host"]:
    text = value.text()
    if text not in ("instance", "host"):
        raise value.error(f"expected instance or host, got {text[:40]!r}")
    return "host" if text == "host" else "instance"


def _listen(value: Value) -> Listen | None:
    text = value.text()
    if text == "none":
        return None
    match = _LISTEN.fullmatch(text)
    if match is None or not 0 < int(match[3]) <= _LAST_PORT:
        raise value.error("expected HOST:PORT, as in 127.0.0.1:9178, or none")
    return Listen(host=match[1] or match[2], port=int(match[3]))
