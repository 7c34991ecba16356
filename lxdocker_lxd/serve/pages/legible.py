"""Text from images as people may see it. Pure.

Names, labels and commands come from strangers. HTML, XML and JSON have their own ways to keep markup out;
here goes what would still deceive or break: what can't be seen, what has no end, and links that lead
elsewhere than they say.
"""

from lxdocker_lxd.control_characters import spelled_out

MOST_CHARACTERS = 4000


def legible(text: str) -> str:
    r"""Return ``text`` with ``\u202e`` and the like in place of what can't be seen, and not endless."""
    short = text
    if len(text) > MOST_CHARACTERS:
        short = f"{text[:MOST_CHARACTERS]}… ({len(text)} characters)"
    return spelled_out(short)
