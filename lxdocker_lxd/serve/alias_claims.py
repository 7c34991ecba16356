"""Which listing gets an alias that several could have.

Pure. In LXD's reader an alias ``A`` of an image for ``ARCH`` stands for two words, ``A`` and
``A/ARCH``. Of two images of one architecture with the same word one loses it without a word, so
here the claims are settled before they are listed: each word has one holder.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """``holder`` (a product's key in a stream) would have ``alias``, for LXD's ``architecture``."""

    holder: str
    architecture: str
    alias: str


def settled(claims: Iterable[Claim]) -> Mapping[str, tuple[str, ...]]:
    """Return the aliases of each holder; earlier claims go first.

    A claim that shares a word with another holder's is left out as a whole: no answer is better
    than another image. So are aliases that a stream's text can't carry.
    """
    words: dict[tuple[str, str], str] = {}
    granted: defaultdict[str, list[str]] = defaultdict(list)
    for claim in claims:
        if not expressible(claim.alias) or claim.alias in granted.get(claim.holder, ()):
            continue
        both = [
            (claim.architecture, claim.alias),
            (claim.architecture, f"{claim.alias}/{claim.architecture}"),
        ]
        if all(words.get(word, claim.holder) == claim.holder for word in both):
            words.update(dict.fromkeys(both, claim.holder))
            granted[claim.holder].append(claim.alias)
    return {holder: tuple(aliases) for holder, aliases in granted.items()}


def expressible(alias: str) -> bool:
    """Tell whether a stream can carry ``alias``: commas separate, and nobody trims blanks."""
    return bool(alias) and "," not in alias and alias == alias.strip()
