"""A document of a tree, read whole: never more than its kind may have."""

from lxdocker_lxd.clients.tree import Tree
from lxdocker_lxd.errors import VerificationError

_BLOCK_BYTES = 1 << 18


class OversizeError(VerificationError):
    """Content that is larger than anything of its kind."""


def read_whole(tree: Tree, path: str, *, most_bytes: int) -> bytes:
    """Return what is at ``path``; raise OversizeError, and what the tree raises."""
    pieces: list[bytes] = []
    left_bytes = most_bytes
    with tree.open(path) as body:
        while block := body.read(_BLOCK_BYTES):
            left_bytes -= len(block)
            if left_bytes < 0:
                raise oversize(f"{tree.name}/{path}", most_bytes)
            pieces.append(block)
    return b"".join(pieces)


def oversize(what: str, most_bytes: int) -> OversizeError:
    """Return the error for ``what``, which has more."""
    return OversizeError(
        f"{what} is larger than {most_bytes} bytes",
        hint="nothing was taken from there; ask who runs the server",
    )
