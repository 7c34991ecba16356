"""Text of strangers without what would command a terminal or deceive the eye. Pure.

Names, labels, and the output of containers come from strangers. Control characters, lone surrogates,
and the invisible characters that turn the direction of what follows are spelled out here, for
terminals, pages and messages alike.
"""

import codecs
import unicodedata


def spelled_out(text: str, *, kept: str = "\n\t") -> str:
    r"""Return ``text`` with ``\x1b``, ``\u202e`` and the like in place of what can't be seen."""
    if text.isprintable():
        return text
    return "".join(
        character if character in kept or _is_harmless(character) else _escaped(character)
        for character in text
    )


def _is_harmless(character: str) -> bool:
    """Whether people see what is there: not so controls, formats, surrogates, what has no meaning."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:  # noqa: PLR2004 - two hexadecimal digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four digits


class TerminalText:
    """Turns a stream of bytes, cut anywhere, into text that a terminal only shows.

    Lines may end as terminals end them, with a carriage return. Bytes that are no UTF-8 are spelled
    out.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""

    def shown(self, piece: bytes, *, last: bool = False) -> str:
        """Return the text of the next bytes; what may belong to later ones waits, unless ``last``."""
        text = self._held + self._decoder.decode(piece, last)
        self._held = ""
        if text.endswith("\r") and not last:
            text, self._held = text[:-1], "\r"
        return spelled_out(text.replace("\r\n", "\n"))
