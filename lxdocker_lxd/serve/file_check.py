"""Reads every listed file of a tree once, several at a time, and compares it with what is promised.

Memory stays flat: a file is read block by block, and never further than one byte beyond its
promised size.
"""

import contextlib
import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from lxdocker_lxd.clients.tree import DamagedError, MissingError, Tree, UnreachedError
from lxdocker_lxd.progress import BytesDone, Progress, StageStarted
from lxdocker_lxd.serve.finding import Finding, wrong
from lxdocker_lxd.serve.stream_rules import Combination
from lxdocker_lxd.serve.xz_integrity import XzIntegrity

_BLOCK_BYTES = 1 << 18
_ATTEMPTS = 3
_MOST_BYTES = 1 << 40

CheckSignature = Callable[[BinaryIO], Finding | None]


class Sum(Protocol):
    """A sum that grows."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...

    def copy(self) -> "Sum":
        """Return one that goes on from here."""
        ...

    def hexdigest(self) -> str:
        """Return the sum so far."""
        ...


@dataclass(slots=True, kw_only=True)
class Promise:
    """What documents say of one path; a signature is checked by a function that reads the file."""

    sha256: set[str] = field(default_factory=set)
    size_bytes: set[int] = field(default_factory=set)
    combined: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    is_metadata: bool = False
    is_xz: bool = False
    signature: CheckSignature | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What reading a file showed."""

    sha256: Sum
    size_bytes: int
    combined: dict[str, Sum]
    findings: tuple[Finding, ...]


class FileCheck:
    """Collects promises, then reads. ``files`` and ``size_bytes`` count what was read."""

    def __init__(self, tree: Tree, progress: Progress) -> None:
        self._tree = tree
        self._progress = progress
        self._promises: dict[str, Promise] = defaultdict(Promise)
        self._metadata: dict[str, Sum] = {}
        self.files = 0
        self.size_bytes = 0
        self._total_bytes = 0

    def promise(self, path: str) -> Promise:
        """Return what is promised of ``path`` so far, to be added to."""
        return self._promises[path]

    def xz_paths(self) -> list[str]:
        """Return the paths whose files must be whole xz files."""
        return [path for path, promise in self._promises.items() if promise.is_xz]

    def combine(self, one: Combination) -> None:
        """Expect the sum over two files."""
        self._promises[one.metadata].is_metadata = True
        self._promises[one.rootfs].combined[one.metadata].add(one.sha256)

    def findings(self, jobs: int) -> list[Finding]:
        """Read all files, ``jobs`` at a time, and return what is wrong with them."""
        self._progress.emit(StageStarted(image="verify", stage="files"))
        found: list[Finding] = []
        self._total_bytes = sum(max(one.size_bytes, default=0) for one in self._promises.values())
        metadata = [path for path, promise in self._promises.items() if promise.is_metadata]
        others = [
            path
            for path, promise in self._promises.items()
            if promise.combined or not promise.is_metadata
        ]
        executor = ThreadPoolExecutor(jobs, thread_name_prefix="verify")
        try:
            # What is first in a sum must be known before what follows it is read.
            for paths in (metadata, others):
                for findings in executor.map(self._checked, self._groups(paths)):
                    found += findings
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
        return sorted(found, key=lambda finding: (finding.path, finding.problem))

    def _groups(self, paths: Iterable[str]) -> list[list[str]]:
        """Return the paths, those of one and the same file together."""
        groups: dict[object, list[str]] = defaultdict(list)
        for path in sorted(paths):
            groups[self._tree.identity(path)].append(path)
        return list(groups.values())

    def _checked(self, paths: Sequence[str]) -> list[Finding]:
        """Read one file and compare it with the promises of all its paths."""
        try:
            seen = self._read(paths)
        except (MissingError, DamagedError) as error:
            return [wrong(path, error.message) for path in paths]
        except UnreachedError as error:
            return [
                Finding(severity="unreached", path=path, problem=error.message) for path in paths
            ]
        self.files += 1
        self.size_bytes += seen.size_bytes
        self._progress.emit(
            BytesDone(
                image="verify",
                stage="files",
                digest=None,
                done_bytes=self.size_bytes,
                total_bytes=max(self._total_bytes, self.size_bytes),
            )
        )
        found = list(seen.findings)
        for path in paths:
            found += self._compared(path, seen)
        return found

    def _read(self, paths: Sequence[str]) -> _Seen:
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(UnreachedError):
                return self._read_once(paths)
        return self._read_once(paths)

    def _read_once(self, paths: Sequence[str]) -> _Seen:
        promises = [self._promises[path] for path in paths]
        combined = {
            metadata: self._metadata[metadata].copy()
            for promise in promises
            for metadata in promise.combined
            if metadata in self._metadata
        }
        sha256: Sum = hashlib.sha256()
        xz = XzIntegrity() if any(promise.is_xz for promise in promises) else None
        sizes = [size for promise in promises for size in promise.size_bytes]
        left_bytes = max(sizes) + 1 if sizes else _MOST_BYTES
        size_bytes = 0
        with self._tree.open(paths[0]) as body, contextlib.ExitStack() as stack:
            copy = None
            if any(promise.signature for promise in promises):
                copy = stack.enter_context(tempfile.TemporaryFile())
            while block := body.read(min(_BLOCK_BYTES, left_bytes)):
                size_bytes += len(block)
                left_bytes -= len(block)
                for one in (sha256, *combined.values()):
                    one.update(block)
                if xz is not None:
                    xz.take(block)
                if copy is not None:
                    copy.write(block)
                if not left_bytes:
                    break
            findings = self._contents(paths, xz, copy)
        return _Seen(sha256, size_bytes, combined, tuple(findings))

    def _contents(
        self, paths: Sequence[str], xz: XzIntegrity | None, copy: BinaryIO | None
    ) -> list[Finding]:
        """Return what the content itself and its signatures say."""
        found = []
        for path in paths:
            promise = self._promises[path]
            if promise.is_xz and xz is not None and xz.problem:
                found.append(wrong(path, xz.problem))
            if promise.signature is not None and copy is not None:
                copy.seek(0)
                finding = promise.signature(copy)
                found += [finding] if finding is not None else []
        return found

    def _compared(self, path: str, seen: _Seen) -> list[Finding]:
        promise = self._promises[path]
        if promise.is_metadata:
            self._metadata[path] = seen.sha256
        found = []
        for size in promise.size_bytes:
            if seen.size_bytes > size:
                found.append(wrong(path, f"expected {size} bytes, there are more"))
            elif seen.size_bytes < size:
                found.append(wrong(path, f"expected {size} bytes, got {seen.size_bytes}"))
        got = seen.sha256.hexdigest()
        if not found:
            found += [
                wrong(path, f"expected sha256 {sha256}, got {got}")
                for sha256 in promise.sha256
                if sha256 != got
            ]
        for metadata, wanted in promise.combined.items():
            # Where the first half is missing there is a finding already.
            both = seen.combined.get(metadata)
            found += [
                wrong(path, f"with {metadata} expected fingerprint {one}, got {both.hexdigest()}")
                for one in wanted
                if both is not None and both.hexdigest() != one
            ]
        return found
