"""What others said, made fit to be told: one line, bounded, without what looks like a secret. Pure.

A second line of defence: nothing secret is put into messages, but servers and programs may quote it.
"""

import re

_MOST_CHARACTERS = 600
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_HIDDEN = "[hidden]"
_SECRETS = (
    # A user's part of a URL, and all of its query: tokens stand in both.
    (re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://)[^/?#\s@]{0,400}@", re.IGNORECASE), r"\1"),
    (re.compile(r"(\bhttps?://[^\s?#\"']{1,400})\?[^\s\"']*", re.IGNORECASE), r"\1?" + _HIDDEN),
    (
        re.compile(r"(?<![A-Za-z])((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE),
        r"\1" + _HIDDEN,
    ),
    # An instance's environment, whatever its names are.
    (
        re.compile(r"(\benvironment\.[^\s=:]{1,200}\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|\S+)"),
        r"\1" + _HIDDEN,
    ),
    (
        re.compile(
            r"([A-Za-z0-9_.-]{0,80}(?:passw(?:or)?d|passwd|secret|token|api[_-]?key|credentials?)"
            r"[A-Za-z0-9_.-]{0,80}[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)",
            re.IGNORECASE,
        ),
        r"\1" + _HIDDEN,
    ),
)


def cleaned(text: str) -> str:
    """Return ``text`` as one line of bounded length without what looks like a secret."""
    line = _CONTROL.sub(" ", text[: 4 * _MOST_CHARACTERS])
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    line = " ".join(line.split())
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"
