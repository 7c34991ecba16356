"""The door to mksquashfs: a tar stream in, a squashfs image out.

mksquashfs reads the stream strictly in order (``-tar``, squashfs-tools 4.5 and newer). Its memory is
bounded by ``-mem``; neither that nor the number of processors changes a byte of the result. It
writes its file back and forth, so sums are taken afterwards.
"""

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Self

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.convert.packing.settings import SQUASHFS_BLOCK_BYTES, PackSettings
from lxdocker_lxd.convert.packing.squashfs_root import RootAttributes, set_root
from lxdocker_lxd.convert.packing.tarball import TarSink
from lxdocker_lxd.errors import StorageError, ToolError

PROGRAM = "mksquashfs"
_PIPE_BYTES = 1 << 20
_SHOWN_BYTES = 2000
_LEAST_MEMORY_BYTES = 32 << 20
_OLDEST = (4, 5)
_LEVELLED = ("zstd", "gzip", "lzo")
# These two have no decompressor here, and squashfs_root reads the inode table back.
_PLAIN_INODES = ("lz4", "lzo")

Feed = Callable[[TarSink], None]


class PackerMissingError(ToolError):
    """mksquashfs isn't installed, or too old to read tar files."""


class PackerFailedError(ToolError):
    """mksquashfs ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mksquashfs:
    """One installed mksquashfs; ``version`` as it names itself, for instance ``4.5.1``."""

    path: str
    version: str

    @classmethod
    def find(cls) -> Self:
        """Return the mksquashfs in PATH; raise PackerMissingError."""
        hint = "install it (Debian: apt-get install squashfs-tools) or use --imageformat gzip"
        path = shutil.which(PROGRAM)
        if path is None:
            raise PackerMissingError(f"{PROGRAM} is not installed", hint=hint)
        done = subprocess.run(
            [path, "-version"], capture_output=True, text=True, check=False, env=_environment()
        )
        words = done.stdout.split()
        version = words[words.index("version") + 1] if "version" in words[:-1] else ""
        numbers = re.match(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?", version)
        if numbers is None or (int(numbers[1]), int(numbers[2] or 0)) < _OLDEST:
            raise PackerMissingError(
                f"{path} is version {version or 'unknown'}; reading tar files needs 4.5", hint=hint
            )
        return cls(path=path, version=version)

    def arguments(
        self,
        output: Path,
        settings: PackSettings,
        *,
        root: RootAttributes,
        created_seconds: int,
        memory_bytes: int,
    ) -> list[str]:
        """Return the command line that makes ``output`` from a tar file on standard input."""
        compression = ["-comp", settings.algorithm]
        if settings.algorithm == "none":
            compression = ["-noI", "-noD", "-noF", "-noX"]
        elif settings.algorithm in _LEVELLED:
            compression += ["-Xcompression-level", str(settings.level)]
        if settings.algorithm in _PLAIN_INODES:
            compression += ["-noI"]
        mebibytes = max(memory_bytes, _LEAST_MEMORY_BYTES) >> 20
        return [
            *(self.path, "-", os.fspath(output), "-tar", "-noappend", *compression),
            *("-b", str(SQUASHFS_BLOCK_BYTES), "-mem", f"{mebibytes}M"),
            *("-mkfs-time", str(created_seconds), "-root-mode", f"{root.mode:o}"),
            *("-no-progress", "-quiet", "-no-recovery"),
        ]

    def pack(
        self,
        feed: Feed,
        output: Path,
        file: BinaryIO,
        settings: PackSettings,
        *,
        root: RootAttributes,
        created_seconds: int,
        memory_bytes: int,
    ) -> None:
        """Write into ``file`` what ``feed`` gives; the caller syncs and, after errors, removes it.

        The program gets the open file; ``output`` is its name for messages. Raises PackerFailedError with the program's own words and a command that can be pasted,
        StorageError when the disk is full, and whatever ``feed`` raises.
        """
        command = self.arguments(
            output, settings, root=root, created_seconds=created_seconds, memory_bytes=memory_bytes
        )
        with tempfile.TemporaryFile() as words:
            with _running(command, words, file) as process:
                completed = _fed(process, feed)
                code = process.wait()
            if code != 0 or not completed:
                raise _failure(command, code, words, output)
        set_root(file, root)


class _Pipe:
    """The packer's standard input; a packer that went away isn't the feeder's error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data).cast("B")
        done_bytes = 0
        while done_bytes < len(view):
            try:
                done_bytes += os.write(self._descriptor, view[done_bytes:])
            except BrokenPipeError as error:
                raise _PackerGoneError from error
        return len(view)

    def close(self) -> None:
        """Leave closing to the process's owner."""


class _PackerGoneError(Exception):
    """The packer closed its input early; its exit code and words tell why."""


def _environment() -> dict[str, str]:
    """Return an environment that can't change the result (SOURCE_DATE_EPOCH would)."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


@contextlib.contextmanager
def _running(
    command: list[str], words: IO[bytes], file: BinaryIO
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the packer, which writes into ``file``; it never outlives the block."""
    program, source, _, *rest = command
    descriptor = file.fileno()
    with subprocess.Popen(
        [program, source, f"/proc/self/fd/{descriptor}", *rest],
        pass_fds=(descriptor,),
        stdin=subprocess.PIPE,
        stdout=words,
        stderr=words,
        bufsize=0,
        env=_environment(),
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _fed(process: subprocess.Popen[bytes], feed: Feed) -> bool:
    """Feed the packer and end its input; return whether it took everything."""
    assert process.stdin is not None  # noqa: S101 - opened as a pipe above
    descriptor = process.stdin.fileno()
    # A larger pipe saves most switches between the two processes; a quota may forbid it.
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    try:
        feed(_Pipe(descriptor))
    except _PackerGoneError:
        return False
    finally:
        process.stdin.close()
    return True


def _failure(
    command: list[str], code: int, words: IO[bytes], output: Path
) -> StorageError | ToolError:
    words.seek(0)
    text = words.read(_SHOWN_BYTES).decode("utf-8", "replace")
    said = " / ".join(line.strip() for line in text.splitlines() if line.strip()) or "no words"
    if "No space left on device" in text or "out of space" in text:
        return storage_error("write", output.parent, OSError(28, os.strerror(28)))
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = "more memory may help" if code == -9 else ""  # noqa: PLR2004 - the kernel's SIGKILL
    return PackerFailedError(
        f"{PROGRAM} {ended}: {said} (command: {shlex.join(command)} < rootfs.tar)", hint=hint
    )
