"""Numbers in headers, which are a stranger's text. Pure.

``str.isdigit`` is true for ``²``, which ``int`` refuses, and ``int`` refuses thousands of digits.
"""

import re


def parse_count(text: str | None) -> int | None:
    """Return the number a header says, None for what is none or more than 64 bits hold."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,19}", text) else None
