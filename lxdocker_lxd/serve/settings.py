"""What of the image server can be set. Pure."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.interpretation import STATIC_REMOTES
from lxdocker_lxd.serve import server_names
from lxdocker_lxd.setting import Setting, choice, number, optional, path

Audience = Literal["local", "all", "none"]
_DAY_SECONDS = 86_400
_MOST_CONNECTIONS = 100_000
_WORD = re.compile(r"[\x21-\x7e]{1,255}")
_KEY_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """The settings of the image server, one field for each declaration below.

    ``url`` has no slash at its end. What is None was not given.
    """

    address: str
    http_address: str | None
    url: str | None
    names: tuple[str, ...]
    remote_name: str
    key: Path | None
    cert: Path | None
    tls_dir: Path
    tls_minimum: Literal["1.3", "1.2"]
    gpg_key: str | None
    publish_delay: int
    connections: int
    downloads: int
    stall_timeout: int
    stop_timeout: int
    metrics: Audience


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("text without spaces")
    return text


def _url(text: str) -> str:
    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not _WORD.fullmatch(url) or any(character in url for character in "?#@"):
        raise ValueError("https://host or https://host:port (names in IDNA form)")
    return url


def _names(text: str) -> tuple[str, ...]:
    """Return the names as certificates have them: lower case, IDNA, addresses without brackets."""
    try:
        return tuple(str(server_names.parse(name)) for name in text.split(",") if name.strip())
    except UsageError as error:
        raise ValueError("a DNS name or an address, without https:// and port") from error


def _key_name(text: str) -> str:
    # A user id has blanks: ``Images <images@example.org>``.
    if not _KEY_NAME.fullmatch(text) or not text.strip():
        raise ValueError("a fingerprint, key id or user id")
    return text


def _remote_name(text: str) -> str:
    if not _REMOTE_NAME.fullmatch(text):
        raise ValueError("a name for lxc remotes: letters, digits, dots, dashes")
    if text in STATIC_REMOTES:
        raise ValueError("a name that lxc doesn't set itself")
    return text


SETTINGS: tuple[Setting, ...] = (
    Setting(
        key="address",
        meaning="where to serve: `:PORT` (all addresses), `IP:PORT`, `[IPv6]:PORT` or `fd://N`;"
        " several with commas",
        default=":443",
        parse=_word,
    ),
    Setting(
        key="http_address",
        meaning="a plain HTTP address beside it, for image files only",
        default="",
        parse=optional(_word),
    ),
    Setting(
        key="url",
        meaning="where clients reach the server, if not at its first name and port",
        default="",
        parse=optional(_url),
    ),
    Setting(
        key="names",
        option="--name",
        meaning="names and addresses of the server, comma-separated; else those of the machine",
        default="",
        parse=_names,
    ),
    Setting(
        key="remote_name",
        meaning="how pages and `--print-remotes` call the server's remote",
        default="lxdocker",
        parse=_remote_name,
    ),
    Setting(
        key="key",
        meaning="PEM file with the TLS key; made, with a CA, if there is none",
        default="",
        parse=optional(path),
    ),
    Setting(
        key="cert",
        meaning="PEM file with the TLS certificate and its chain",
        default="",
        parse=optional(path),
    ),
    Setting(
        key="tls_dir",
        meaning="directory for the CA, key and certificate that the server makes",
        default="/var/lib/lxdocker-lxd/tls",
        parse=path,
    ),
    Setting(
        key="tls_minimum",
        meaning="oldest TLS version that is served: 1.3 or 1.2",
        default="1.3",
        parse=choice("1.3", "1.2"),
    ),
    Setting(
        key="gpg_key",
        meaning="OpenPGP key that signs the documents",
        default="",
        parse=optional(_key_name),
    ),
    Setting(
        key="publish_delay",
        meaning="seconds that a new version is listed before its aliases move to it",
        default="0",
        parse=number(0, 7 * _DAY_SECONDS),
    ),
    Setting(
        key="connections",
        meaning="connections at once; beyond, addresses share them",
        default="1024",
        parse=number(1, _MOST_CONNECTIONS),
    ),
    Setting(
        key="downloads",
        meaning="downloads at once; beyond, addresses share them",
        default="128",
        parse=number(1, _MOST_CONNECTIONS),
    ),
    Setting(
        key="stall_timeout",
        meaning="seconds after which a client that takes nothing is given up",
        default="60",
        parse=number(1, _DAY_SECONDS),
    ),
    Setting(
        key="stop_timeout",
        meaning="seconds that downloads may still take when the server stops",
        default="30",
        parse=number(0, _DAY_SECONDS),
    ),
    Setting(
        key="metrics",
        meaning="who may read `/metrics`: none, all or local (this machine, with all who come through"
        " a proxy on it)",
        default="none",
        parse=choice("local", "all", "none"),
    ),
)
