"""What others said, made fit to be told: one line, bounded, without what looks like a secret. Pure.

A second line of defence: nothing secret is put into messages, but servers and programs may quote it.
"""

import re
from collections.abc import Iterable

from lxdocker_lxd.secret_value import HIDDEN, SECRET_WORDS

_MOST_CHARACTERS = 600
_MOST_LINES = 20
_MOST_EXCERPT_BYTES = 4096
_LONGEST_READ = 1 << 16
# Shorter values stand everywhere by chance, as "true" and "8080" do.
_SHORTEST_SECRET = 6
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
# The end may be cut off, and so may the beginning: then the lines look like a key's alone.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    r"|\A[^-]*-----END [A-Z ]{0,40}PRIVATE KEY-----",
    re.DOTALL,
)
_SECRETS = (
    # A user's part of a URL, and all of its query: tokens stand in both.
    (re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://)[^/?#\s@]{0,400}@", re.IGNORECASE), r"\1"),
    (re.compile(r"(\bhttps?://[^\s?#\"']{1,400})\?[^\s\"']*", re.IGNORECASE), r"\1?" + HIDDEN),
    (
        re.compile(r"(?<![A-Za-z])((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE),
        r"\1" + HIDDEN,
    ),
    # An instance's environment, whatever its names are.
    (
        re.compile(r"(\benvironment\.[^\s=:]{1,200}\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|\S+)"),
        r"\1" + HIDDEN,
    ),
    (
        re.compile(
            rf"([A-Za-z0-9_.-]{{0,80}}(?:{SECRET_WORDS})"
            r"[A-Za-z0-9_.-]{0,80}[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)",
            re.IGNORECASE,
        ),
        r"\1" + HIDDEN,
    ),
)


def cleaned(text: str) -> str:
    """Return ``text`` as one line of bounded length without what looks like a secret."""
    line = _CONTROL.sub(" ", text[: 4 * _MOST_CHARACTERS])
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    line = " ".join(line.split())
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"


def excerpt(text: str, *, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the last lines of a log or of a check's output, few and short, without secrets.

    ``secrets`` are values that are hidden wherever they stand: an instance's environment. At most 20
    lines and 4 KiB; private keys are left out.
    """
    text = text[-_LONGEST_READ:]
    for secret in sorted({one for one in secrets if len(one) >= _SHORTEST_SECRET}, key=len)[::-1]:
        text = text.replace(secret, HIDDEN)
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    kept: list[str] = []
    left = _MOST_EXCERPT_BYTES
    for line in reversed(text.splitlines()):
        shown = cleaned(line)
        left -= len(shown.encode("utf-8", "replace")) + 1
        if left < 0 or len(kept) == _MOST_LINES:
            break
        if shown:
            kept.append(shown)
    return tuple(reversed(kept))
