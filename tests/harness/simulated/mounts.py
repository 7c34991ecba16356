"""What an instance sees at each path: its own root, or a custom volume that is mounted there.

As in LXD, a volume's files are seen through an instance that runs, and only then; a stopped one
shows what its root has below.
"""

from collections.abc import Iterator, Mapping, MutableMapping

from lxdocker_lxd.lxd.calls import GuestFile
from tests.harness.simulated.store import Box, Store, VolumeKey

Files = dict[str, GuestFile]


class Mounts(MutableMapping[str, GuestFile]):
    """The files of an instance by their paths."""

    def __init__(self, store: Store, box: Box) -> None:
        self._root = box.guest.files
        self._below = mounted(store, box) if box.runs else {}

    def _place(self, path: str) -> tuple[Files, str]:
        """The files that a path belongs to, and its name among them."""
        for mount in sorted(self._below, key=len, reverse=True):
            if path == mount or path.startswith(f"{mount}/"):
                return self._below[mount], path.removeprefix(mount) or "/"
        return self._root, path

    def __getitem__(self, path: str) -> GuestFile:
        files, name = self._place(path)
        if name == "/" and files is not self._root:
            return files.get(name, GuestFile(kind="directory", mode=0o711))
        return files[name]

    def __setitem__(self, path: str, file: GuestFile) -> None:
        files, name = self._place(path)
        files[name] = file

    def __delitem__(self, path: str) -> None:
        files, name = self._place(path)
        del files[name]

    def __iter__(self) -> Iterator[str]:
        yield from (path for path in self._root if self._place(path)[0] is self._root)
        for mount, files in self._below.items():
            yield mount
            for name in files:
                path = f"{mount}{name}"
                if name != "/" and self._place(path)[0] is files:
                    yield path

    def __len__(self) -> int:
        return sum(1 for _ in self)


def mounted(store: Store, box: Box) -> Mapping[str, Files]:
    """The files of each custom volume by the path that its device names."""
    owner = store.owner(box.project, "storage.volumes")
    found = {}
    for device in store.expanded_devices(box.project, box.settings).values():
        key: VolumeKey = (owner, device.get("pool", ""), device.get("source", ""))
        if device.get("type") == "disk" and key in store.contents:
            found["/" + device.get("path", "").strip("/")] = store.contents[key].files
    return found
