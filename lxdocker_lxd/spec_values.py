"""Grammars of the single values in an image specification: text in, checked value out.

Each function takes the text as written, returns the value, and raises ValueError whose message says
what was expected; :mod:`lxdocker_lxd.spec` adds file, line and key. docs/spec.md lists them all.
"""

import re

from lxdocker_lxd.exposed_port import ExposedPort

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+%@-]{0,127}")
_ALIAS_MAX_CHARACTERS = 255
_VARIABLE = re.compile(r"[^=\0\n]+")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_MAX_IDENTIFIER = 2**32 - 2
_SIGNALS = re.compile(
    "HUP|INT|QUIT|ILL|TRAP|ABRT|IOT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|CLD|CONT"
    "|STOP|TSTP|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|POLL|PWR|SYS|RTMIN|RTMAX"
)
_REALTIME = re.compile(r"RTMIN\+(\d{1,2})|RTMAX-(\d{1,2})")
_RESERVED = ("/busybox-lxd", "/lxd-", "/.lxdocker")
_INIT = "/sbin/init"
_NEEDED = ("/sbin", "/etc", "/dev", "/proc", "/sys")
_LAST_SIGNAL = 64
_MOST_DIGITS = 18
_LONGEST_STOP_SECONDS = 3600
_REALTIME_SPAN = 30
# An image configuration counts nanoseconds in 64 bits.
_LONGEST_SECONDS = (2**63 - 1) // 10**9

COMPRESSION_LEVELS: dict[str, tuple[int, int] | None] = {
    "zstd": (1, 22),
    "gzip": (1, 9),
    "xz": (0, 9),
    "lzo": (1, 9),
    "lz4": None,
    "none": None,
}
"""Algorithms ``compression:`` may name, with the least and greatest level where there is one."""


def image_name(text: str) -> str:
    """Return an image's name (the stem of its file): what aliases, products and URLs can hold."""
    if not _NAME.fullmatch(text) or ".." in text:
        raise ValueError(
            f"{text!r} can't be an image name: expected up to 128 letters, digits and . _ + % @ -,"
            " starting with a letter or digit, without '..'"
        )
    return text


def alias(text: str) -> str:
    """Return an alias: any text without comma, blank, control character or leading ``/`` or ``-``.

    Commas separate aliases in simplestreams documents and LXD doesn't trim blanks there.
    """
    if not text or len(text) > _ALIAS_MAX_CHARACTERS:
        raise ValueError(f"expected an alias of 1 to {_ALIAS_MAX_CHARACTERS} characters")
    if any(
        character == "," or character.isspace() or not character.isprintable() for character in text
    ):
        raise ValueError(f"the alias {text!r} holds a comma, blank or control character")
    if text[0] in "/-" or text.endswith("/") or "//" in text or ".." in text.split("/"):
        raise ValueError(f"the alias {text!r} starts with - or has an empty or '..' part")
    return text


def variable_name(text: str) -> str:
    """Return the name of an environment variable: anything but ``=``, NUL and newline."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError(f"{text!r} can't name an environment variable")
    return text


def absolute_path(text: str) -> str:
    """Return an absolute path without empty, ``.`` or ``..`` parts and trailing slash."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not text.startswith("/") or ".." in parts:
        raise ValueError(f"expected an absolute path without '..', got {text!r}")
    if "\n" in text or "\0" in text:
        raise ValueError("the path holds a newline")
    return "/" + "/".join(parts)


def is_reserved(path: str) -> bool:
    """Tell whether an absolute path is the root or lies where the guest's own files are."""
    return path == "/" or path.startswith(_RESERVED)


def volume(text: str) -> str:
    """Return the absolute path of a volume, outside the guest's own files."""
    path = absolute_path(text)
    if is_reserved(path) or path == _INIT or path.startswith(_INIT + "/"):
        raise ValueError(f"{path} belongs to lxdocker-lxd and can't be a volume or tmpfs")
    return path


def tmpfs(text: str) -> str:
    """Return where a tmpfs may be mounted: as a volume, and over nothing that a start needs."""
    path = volume(text)
    if path in _NEEDED or path.startswith(("/proc/", "/sys/")):
        raise ValueError(f"a tmpfs on {path} would hide what a start needs")
    return path


def user(text: str) -> str:
    """Return ``USER[:GROUP]``, each a name or number."""
    parts = text.split(":")
    if len(parts) > 2 or not all(parts) or any(c.isspace() or not c.isprintable() for c in text):  # noqa: PLR2004 - two parts
        raise ValueError(f"expected a user or user:group, each a name or number, got {text!r}")
    return text


def owner(text: str) -> tuple[int, int]:
    """Return uid and gid of ``UID[:GID]``; without GID the group has the user's number."""
    parts = text.split(":")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) <= 10]  # noqa: PLR2004
    if len(numbers) != len(parts) or len(parts) > 2 or max(numbers) > _MAX_IDENTIFIER:  # noqa: PLR2004 - two parts
        raise ValueError(f"expected numbers as in 1000 or 1000:1000, got {text!r}")
    return numbers[0], numbers[-1]


def mode(text: str) -> int:
    """Return permission bits written in octal (``0644``, ``644``, ``0o644``, ``4755``)."""
    digits = text.removeprefix("0o")
    if not re.fullmatch(r"0?[0-7]{3,4}", digits):
        raise ValueError(f"expected permission bits in octal as in 0644, got {text!r}")
    return int(digits, 8)


def stop_signal(text: str) -> str:
    """Return a signal as ``SIGTERM``, ``SIGRTMIN+3`` or a number's text, from any usual spelling."""
    if text.isascii() and text.isdigit():
        if len(text) > _MOST_DIGITS or not 1 <= int(text) <= _LAST_SIGNAL:
            raise ValueError(f"expected a signal number from 1 to {_LAST_SIGNAL}, got {text[:80]}")
        return str(int(text))
    name = text.upper().removeprefix("SIG")
    realtime = _REALTIME.fullmatch(name)
    if realtime and int(realtime[1] or realtime[2]) <= _REALTIME_SPAN:
        return "SIG" + name
    if not _SIGNALS.fullmatch(name):
        raise ValueError(f"{text!r} is no signal; expected a name like SIGTERM or a number")
    return "SIG" + name


def stop_timeout(text: str) -> int:
    """Return whole seconds between the stop signal and SIGKILL, from ``0`` to ``3600``."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,3}", text) or int(text) > _LONGEST_STOP_SECONDS:
        raise ValueError(f"expected seconds from 0 to {_LONGEST_STOP_SECONDS}, got {text!r}")
    return int(text)


def restart(text: str) -> str:
    """Return a restart policy: ``no``, ``on-failure``, ``on-failure:N`` or ``always``."""
    if text in ("no", "always", "on-failure") or re.fullmatch(r"on-failure:[1-9]\d{0,5}", text):
        return text
    hint = " (unless-stopped is what always means here)" if text == "unless-stopped" else ""
    raise ValueError(f"expected no, on-failure, on-failure:N or always, got {text!r}{hint}")


def duration_seconds(text: str) -> float:
    """Return the seconds of a duration like ``30s``, ``1m30s``, ``500ms`` or ``1h``."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"expected a duration as in 30s, 1m30s or 500ms, got {text!r}")
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    if not total <= _LONGEST_SECONDS:
        raise ValueError(f"expected a duration of at most 292 years, got {text[:40]!r}")
    return total


def port(text: str) -> str:
    """Return ``NUMBER/PROTOCOL`` or a range; the protocol is tcp unless udp or sctp is named."""
    found = ExposedPort.parse(text)
    if found is None:
        raise ValueError(f"expected a port as in 80, 53/udp or 8000-8010, got {text!r}")
    return str(found)


def compression(text: str) -> tuple[str, int | None]:
    """Return algorithm and level of ``ALGORITHM[:LEVEL]``; level None = that packer's default."""
    algorithm, colon, level = text.partition(":")
    if algorithm not in COMPRESSION_LEVELS:
        raise ValueError(f"expected one of {', '.join(COMPRESSION_LEVELS)}, got {text!r}")
    if not colon:
        return algorithm, None
    bounds = COMPRESSION_LEVELS[algorithm]
    if bounds is None:
        raise ValueError(f"{algorithm} has no levels; write {algorithm!r} alone")
    digits = level.isascii() and level.isdigit() and len(level) <= _MOST_DIGITS
    if not (digits and bounds[0] <= int(level) <= bounds[1]):
        raise ValueError(f"expected a level from {bounds[0]} to {bounds[1]}, got {text[:80]!r}")
    return algorithm, int(level)
