"""The directory of specifications: one ``.yaml`` or ``.yml`` file an image.

Every file is read; one broken file fails alone. Hidden files and other endings are ignored. The
files that ``source:`` keys name are looked at here too, because their content decides whether an
image is built again.
"""

import dataclasses
import difflib
import hashlib
import json
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.local_file import open_regular
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import LxdockerError, NotFoundError
from lxdocker_lxd.reference import ArchiveSource, ImageSource, LayoutSource
from lxdocker_lxd.spec import ImageSpec, parse_spec
from lxdocker_lxd.spec_yaml import MAX_TEXT_BYTES, SpecError

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file beside the specifications that goes into an image."""

    host: HostFile
    mode: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSpec:
    """One specification with everything it names beside it.

    ``source`` is its image with paths counted from the specification's directory. ``digest`` covers
    the specification and the content of its source files (by the path as written).
    """

    spec: ImageSpec
    source: ImageSource
    files: dict[str, SourceFile]
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecEntry:
    """One name in the directory: a loaded specification, or the error that it failed with."""

    name: str
    loaded: LoadedSpec | None
    error: LxdockerError | None


def read_specs(directory: Path) -> tuple[SpecEntry, ...]:
    """Return all specifications in order of name; raise NotFoundError or StorageError."""
    try:
        paths = sorted(
            path
            for path in directory.iterdir()
            if path.suffix in _SUFFIXES and not path.name.startswith(".")
        )
    except FileNotFoundError as error:
        raise NotFoundError(
            f"the specification directory {directory} does not exist",
            hint="create it, or name another one with --specs",
        ) from error
    except OSError as error:
        raise storage_error("read directory", directory, error) from error
    by_name: dict[str, list[Path]] = {}
    for path in paths:
        by_name.setdefault(path.stem, []).append(path)
    entries = [_entry(name, by_name[name]) for name in sorted(by_name)]
    return tuple(_without_conflicts(entries))


def select(entries: Sequence[SpecEntry], names: Collection[str]) -> tuple[SpecEntry, ...]:
    """Return the entries with these names, all for none; raise NotFoundError for a strange one."""
    known = [entry.name for entry in entries]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise NotFoundError(
                f"there is no specification named {name!r}",
                hint=f"did you mean {close[0]!r}?" if close else "the name is the file's stem",
            )
    return tuple(entry for entry in entries if not names or entry.name in names)


def _entry(name: str, paths: list[Path]) -> SpecEntry:
    try:
        if len(paths) > 1:
            files = " and ".join(path.name for path in paths)
            raise SpecError(f"{paths[0].parent}: {files} both describe {name}", hint="remove one")
        return SpecEntry(name=name, loaded=_load(name, paths[0]), error=None)
    except LxdockerError as error:
        return SpecEntry(name=name, loaded=None, error=error)


def _load(name: str, path: Path) -> LoadedSpec:
    with open_regular(path, what=name) as file:
        try:
            content = file.read(MAX_TEXT_BYTES + 1)
        except OSError as error:
            raise storage_error("read", path, error) from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpecError(f"{path}:{line}: not UTF-8 text") from error
    spec = parse_spec(text, name=name, file=str(path))
    changes = [change for change in spec.files if change.kind == "source"]
    files = {change.value: _source_file(path, change.value) for change in changes}
    contents = {written: [file.sha256, file.mode] for written, file in files.items()}
    identity = json.dumps({"spec": str(spec.digest), "files": contents}, sort_keys=True)
    return LoadedSpec(
        spec=spec,
        source=_located(spec.image, path.parent),
        files=files,
        digest=Digest.of(identity.encode()),
    )


def _located(source: ImageSource, directory: Path) -> ImageSource:
    """Return ``source`` with a relative path counted from the specification's directory."""
    if isinstance(source, LayoutSource):
        return dataclasses.replace(source, directory=str(directory / source.directory))
    if isinstance(source, ArchiveSource):
        return dataclasses.replace(source, file=str(directory / source.file))
    return source


def _source_file(spec: Path, written: str) -> SourceFile:
    path = spec.parent / written
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SpecError(f"{spec}: source: {path} is not a regular file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{spec}: source: {path} does not exist",
            hint="paths count from the specification's directory",
        ) from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    return SourceFile(
        host=HostFile(path=path, size_bytes=status.st_size),
        mode=stat.S_IMODE(status.st_mode) & 0o777,
        sha256=digest,
    )


def _without_conflicts(entries: list[SpecEntry]) -> list[SpecEntry]:
    """Fail each specification whose alias is another's name, or an alias that came before.

    Which image such an alias means would be a matter of chance.
    """
    names = {entry.name for entry in entries}
    owners: dict[str, str] = {}
    checked: list[SpecEntry] = []
    for entry in entries:
        problem = ""
        for alias in entry.loaded.spec.aliases if entry.loaded else ():
            if alias in names:
                problem = f"the alias {alias!r} is the name of a specification"
            elif alias in owners:
                problem = f"the alias {alias!r} belongs to {owners[alias]} already"
            owners.setdefault(alias, entry.name)
        if problem:
            error = SpecError(f"{entry.name}: aliases: {problem}", hint="choose another alias")
            checked.append(SpecEntry(name=entry.name, loaded=None, error=error))
        else:
            checked.append(entry)
    return checked
