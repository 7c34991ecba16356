"""A second, naive merge: one dictionary of path strings, entries applied one after the other.

Slow and plain on purpose, sharing no code with the product: every lookup walks strings, every
removal compares prefixes. What it can't express it says with :class:`RefusedError`.
"""

import tarfile
from dataclasses import dataclass, field, replace

from tests.harness.snapshots import Node, Snapshot
from tests.layers.tar_builder import Member
from tests.layers.trees import sha256

LINKS = 40
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
_IMPLIED = Node(kind="directory", mode=0o755, uid=0, gid=0, mtime_ns=0)


class RefusedError(Exception):
    """The entry has no place in a tree."""


@dataclass(slots=True)
class Model:
    """``nodes`` maps a path to (inode number, node); the root is ``""``."""

    nodes: dict[str, tuple[int, Node]] = field(default_factory=lambda: {"": (0, _IMPLIED)})
    upper: set[str] = field(default_factory=set)
    numbers: int = 0
    unusual: bool = False
    """Set by an entry that Debian's umoci is known to mishandle."""

    def begin_layer(self) -> None:
        self.upper = set()

    def apply(self, member: Member) -> None:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        name = parts[-1] if parts else ""
        directory = "/".join(parts[:-1])
        if name == ".wh..wh..opq":
            found = self.find_directory(directory)
            if found is not None:
                self.hide_lower(found, itself=False)
        elif name.startswith(".wh."):
            found = self.find_directory(directory)
            if found is not None:
                self.hide_lower(join(found, name[4:]), itself=True)
        elif not parts:
            self.nodes[""] = (0, node_of(member))
        else:
            self.put(directory, name, member)

    def put(self, directory: str, name: str, member: Member) -> None:
        target = None
        if member.typeflag == tarfile.LNKTYPE:
            # Looked up before the link's own name makes anything give way.
            target_path = self.link_target(member)
            target = self.nodes[target_path]
        path = join(self.make_directory(directory), name)
        old = self.nodes.get(path)
        if target is not None:
            if old is target:
                self.unusual = True
            else:
                self.remove(path)
                # A directory that gave way to a link into itself: umoci looks for the target late.
                self.unusual |= target_path not in self.nodes
                self.nodes[path] = target
        elif member.typeflag == tarfile.DIRTYPE and old and old[1].kind == "directory":
            self.nodes[path] = (old[0], node_of(member))
        else:
            self.remove(path)
            self.numbers += 1
            self.nodes[path] = (self.numbers, node_of(member))
        self.touch(path)

    def link_target(self, member: Member) -> str:
        parts = [part for part in member.target.split("/") if part not in ("", ".")]
        if not parts:
            raise RefusedError
        parent = self.find_directory("/".join(parts[:-1]))
        target = None if parent is None else join(parent, parts[-1])
        if target is None or target not in self.nodes:
            raise RefusedError
        if self.nodes[target][1].kind == "directory":
            raise RefusedError
        return target

    def touch(self, path: str) -> None:
        while path:
            self.upper.add(path)
            path = path.rpartition("/")[0]

    def remove(self, path: str) -> None:
        for other in list(self.nodes):
            if other == path or other.startswith(path + "/"):
                del self.nodes[other]

    def hide_lower(self, path: str, *, itself: bool) -> None:
        for other in list(self.nodes):
            below = other.startswith(path + "/") if path else bool(other)
            if (below or (itself and other == path)) and other not in self.upper:
                del self.nodes[other]

    def find_directory(self, path: str) -> str | None:
        return self.walk(path, make=False)

    def make_directory(self, path: str) -> str:
        made = self.walk(path, make=True)
        assert made is not None
        return made

    def walk(self, path: str, *, make: bool) -> str | None:
        """Follow ``path`` as a list of (part, came out of a link) pairs."""
        pending = [(part, False) for part in path.split("/")]
        here = ""
        followed = 0
        while pending:
            part, linked = pending.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            child = join(here, part)
            node = self.nodes.get(child, (0, None))[1]
            if node is not None and node.kind == "symlink":
                followed += 1
                if followed > LINKS:
                    raise RefusedError
                target = node.target.decode()
                here = "" if target.startswith("/") else here
                pending = [(piece, True) for piece in target.split("/")] + pending
                continue
            if node is None or node.kind != "directory":
                if not make:
                    # The kernel stops here; umoci goes on, and ".." takes it back in.
                    self.unusual |= ("..", True) in pending
                    return None
                if linked:
                    raise RefusedError
                self.unusual |= node is not None
                self.remove(child)
                self.numbers += 1
                self.nodes[child] = (self.numbers, _IMPLIED)
            here = child
        return here

    def snapshot(self) -> Snapshot:
        groups: dict[int, set[bytes]] = {}
        for path, (number, node) in self.nodes.items():
            if node.kind != "directory":
                groups.setdefault(number, set()).add(path.encode())
        return {
            path.encode() or b".": replace(node, same=frozenset(groups.get(number, ())))
            for path, (number, node) in self.nodes.items()
        }


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def node_of(member: Member) -> Node:
    kind = _KINDS[member.typeflag]
    is_file = kind == "file"
    whole, _, fraction = member.records.get("mtime", str(int(member.mtime))).partition(".")
    xattrs = {
        key.removeprefix("SCHILY.xattr.").encode(): value.encode("utf-8", "surrogateescape")
        for key, value in member.records.items()
        if key.startswith("SCHILY.xattr.")
    }
    return Node(
        kind=kind,
        mode=0o777 if kind == "symlink" else member.mode,
        uid=member.uid,
        gid=member.gid,
        mtime_ns=int(whole) * 10**9 + int(fraction.ljust(9, "0") or 0),
        size=len(member.content),
        sha256=sha256(member.content) if is_file else "",
        target=member.target.encode() if kind == "symlink" else b"",
        device=member.device,
        xattrs=tuple(sorted(xattrs.items())),
    )


Stack = tuple[tuple[Member, ...], ...]


def run_model(stack: Stack) -> Model:
    """Apply a whole stack; raise RefusedError at the first entry without a place."""
    model = Model()
    for layer in stack:
        model.begin_layer()
        for member in layer:
            model.apply(member)
    return model


def acceptable(stack: Stack, *, usual_only: bool) -> Stack:
    """Return the stack without entries that would be refused (or that umoci mishandles)."""
    model = Model()
    kept: list[tuple[Member, ...]] = []
    for layer in stack:
        model.begin_layer()
        members: list[Member] = []
        for member in layer:
            trial = replace(model, nodes=dict(model.nodes), upper=set(model.upper))
            try:
                trial.apply(member)
            except RefusedError:
                continue
            if not (usual_only and trial.unusual):
                model = trial
                members.append(member)
        kept.append(tuple(members))
    return tuple(kept)
