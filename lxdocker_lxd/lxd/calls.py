"""What is asked of LXD where a few words aren't enough: new things, and answers to one call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lxdocker_lxd.lxd.records import Config, InstanceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUpload:
    """A split image to send: the metadata tarball, then the root filesystem as a stream.

    ``rootfs`` is read once, piece by piece. When it raises, nothing remains in LXD.
    ``fingerprint`` is what LXD must find (sha256 of both, one after the other), or empty.
    ``properties`` are merged over those of the metadata.
    """

    metadata: bytes
    rootfs: Iterable[bytes]
    rootfs_size_bytes: int | None = None
    fingerprint: str = ""
    filename: str = ""
    properties: Config = field(default_factory=dict)
    public: bool = False
    virtual_machine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStep:
    """How far an image has come: bytes for an upload, percent for a download by the daemon.

    ``stage`` is ``upload``, ``metadata`` or ``rootfs``. What isn't known is None.
    """

    stage: str
    done_bytes: int | None = None
    total_bytes: int | None = None
    percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """An instance to create from a local image, stopped.

    ``image`` is a fingerprint; with ``by_alias`` it is an alias, which LXD resolves itself.
    ``target`` is a cluster member, or ``@group``; empty lets LXD choose.
    """

    name: str
    image: str
    settings: InstanceSettings
    by_alias: bool = False
    type: str = "container"
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to run inside an instance; ``timeout_seconds`` kills it, and then fails.

    Of each output only the first ``output_bytes`` are kept; the rest is read and dropped.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user_id: int = 0
    group_id: int = 0
    directory: str = ""
    timeout_seconds: float = 60.0
    output_bytes: int = 1 << 16
    stdin: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended. A signal N gives 128 + N; a missing program gives 127.

    Where LXD doesn't know how it ended there is no result: ``execute`` raises UnknownOutcomeError.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


FileKind = Literal["file", "directory", "symlink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """A file of an instance; ids and mode are as seen inside.

    ``content`` is a file's bytes or a symlink's target; ``entries`` a directory's names.
    """

    kind: FileKind = "file"
    content: bytes = b""
    entries: tuple[str, ...] = ()
    mode: int = 0o644
    user_id: int = 0
    group_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectImage:
    """An image to copy from another project of the same daemon."""

    project: str
    fingerprint: str
