"""The root filesystem of plain LXC: merged once more from the layers, and packed as a ``.tar.xz``.

The tree that LXD's was packed from has a guest of its own, so LXC's is composed anew, from the header
indexes that the first merge left in the cache. Only one of both trees is in memory at a time.
"""

from collections.abc import Callable

from lxdocker_lxd.catalogue import LxcSettings
from lxdocker_lxd.convert.account import Account, find_account
from lxdocker_lxd.convert.layer.file_content import file_content
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.lxc_files import LxcImage, add_lxc_guest
from lxdocker_lxd.convert.packing.tarball import TarSink
from lxdocker_lxd.convert.pull import PulledImage

_MOST_ACCOUNT_BYTES = 1 << 20


def image_account(tree: Tree, pulled: PulledImage, user: str) -> Account:
    """Return whom ``user`` stands for in a merged image.

    Raises UnknownAccountError, LayerLimitError for a huge account file, StorageError.
    """
    layers = [layer.path for layer in pulled.layers]
    passwd, group = (
        file_content(tree, layers, name, most_bytes=_MOST_ACCOUNT_BYTES)
        for name in (b"etc/passwd", b"etc/group")
    )
    return find_account(user, passwd=passwd, group=group)


class LxcRootfs:
    """Composes and writes the root filesystem when the packer asks for it.

    ``compose`` returns the image's tree with the specification's changes, ``write`` puts a tree
    into the packer. ``settings`` is there once the feed has run.
    """

    def __init__(
        self,
        image: LxcImage,
        *,
        compose: Callable[[], Tree],
        write: Callable[[Tree, TarSink], None],
    ) -> None:
        self.settings: LxcSettings | None = None
        self._image = image
        self._compose = compose
        self._write = write

    def feed(self, sink: TarSink) -> None:
        """Write the tree; raises what composing and writing raise."""
        tree = self._compose()
        self.settings = add_lxc_guest(tree, self._image)
        self._write(tree, sink)
