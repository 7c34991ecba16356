"""The inputs that tests replay: one file a target, one input a line, in base64."""

import base64
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 4096
"""Of all inputs of one target together."""


def read_corpus(name: str) -> tuple[bytes, ...]:
    """Return the kept inputs of a target, none where there are none yet."""
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        return ()
    return tuple(base64.b64decode(line, validate=True) for line in path.read_bytes().splitlines())
