"""One YAML image specification as a frozen record, and its canonical digest.

The file's stem is the image's name; docs/spec.md describes every key. Pure: the text comes in, and
``source:`` paths are kept as written; the pipeline reads those files. Checked here: keys, types
and grammars. Not checked here: whether the image exists, and what its own configuration says.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar

from lxdocker_lxd import spec_values
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.reference import ImageSource, parse_source
from lxdocker_lxd.spec_yaml import SpecError, Value, compose

__all__ = ["FileChange", "HealthOverride", "ImageSpec", "SpecError", "parse_spec"]

_FILE_KINDS = ("content", "source", "symlink", "directory", "remove")
_IMAGE_HINT = "add a line such as: image: library/nginx:latest"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One change to the root filesystem, made before the guest files are added.

    ``value`` is the text for ``content``, a path beside the specification for ``source``, the
    target for ``symlink``, and empty for ``directory`` and ``remove``. ``mode`` is None where the
    kind's default holds (0644 for files, or the source's own bits; 0755 for directories).
    """

    path: str
    kind: Literal["content", "source", "symlink", "directory", "remove"]
    value: str
    mode: int | None
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOverride:
    """A health check; what is None or empty keeps the image's own value.

    ``test`` is in OCI form: ``("CMD", …)``, ``("CMD-SHELL", text)`` or ``("NONE",)``.
    """

    test: tuple[str, ...]
    interval_seconds: float | None
    timeout_seconds: float | None
    start_period_seconds: float | None
    retries: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """What one specification asks for; None always means "as the image says".

    ``image_text`` is the ``image`` as written. ``architectures`` is empty for the host's own. A
    None value in ``env`` removes the variable. ``tmpfs`` None = where the image ships nothing.
    """

    name: str
    image: ImageSource
    image_text: str
    disable_supervisor: bool | None = None
    architectures: tuple[Platform, ...] = ()
    env: tuple[tuple[str, str | None], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    stop_signal: str | None = None
    stop_timeout_seconds: int | None = None
    restart: str | None = None
    tmpfs: tuple[str, ...] | None = None
    files: tuple[FileChange, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    description: str | None = None
    compression: str | None = None
    healthcheck: HealthOverride | None = None
    volumes: tuple[str, ...] | None = None
    ports: tuple[str, ...] | None = None
    lxc: bool = False

    @property
    def digest(self) -> Digest:
        """The digest of the specification's meaning: layout and comments don't count.

        It covers canonical JSON (sorted keys), so two different specs can't share an encoding.
        Aliases don't count: they live in the catalogue, not in the image.
        """
        fields = asdict(self)
        fields.pop("aliases")
        # It came later: a specification without it means what it always meant.
        if self.stop_timeout_seconds is None:
            del fields["stop_timeout_seconds"]
        fields["image"] = str(self.image)
        fields["architectures"] = [str(platform) for platform in self.architectures]
        text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return Digest.of(text.encode())


def parse_spec(text: str, *, name: str, file: str) -> ImageSpec:
    """Return the specification in ``text``.

    ``name`` is the image's name (the file's stem), ``file`` the file's name in messages. Raises
    SpecError with file, line, column and key of the first thing wrong.
    """
    try:
        spec_values.image_name(name)
    except ValueError as error:
        raise SpecError(f"{file}: {error}", hint="rename the file: its stem is the name") from error
    document = compose(text, file=file, empty_hint=_IMAGE_HINT)
    values = document.mapping(_READERS.keys() | {"image"})
    image = values.get("image")
    if image is None:
        raise document.error("the key 'image' is missing", hint=_IMAGE_HINT)
    fields = {
        _FIELDS.get(key, key): read(values[key]) for key, read in _READERS.items() if key in values
    }
    return ImageSpec(
        name=name,
        image=_parsed(image, parse_source),
        image_text=image.text(),
        **fields,  # type: ignore[arg-type]  # each reader returns its own field's type
    )


def _parsed(value: Value, parse: Callable[[str], _T]) -> _T:
    """Apply a grammar to a value's text; its complaint gains file, line and key."""
    try:
        return parse(value.text())
    except SpecError:
        raise
    except ValueError as error:
        raise value.error(str(error)) from error
    except LxdockerError as error:
        raise value.error(error.message, hint=error.hint) from error


def _scalar(parse: Callable[[str], _T]) -> Callable[[Value], _T]:
    return lambda value: _parsed(value, parse)


def _list(parse: Callable[[str], _T]) -> Callable[[Value], tuple[_T, ...]]:
    def read(value: Value) -> tuple[_T, ...]:
        found: list[_T] = []
        for item in value.items():
            parsed = _parsed(item, parse)
            if parsed in found:
                raise item.error(f"{item.text()!r} is listed twice")
            found.append(parsed)
        return tuple(found)

    return read


def _env(value: Value) -> tuple[tuple[str, str | None], ...]:
    """Read ``NAME: text`` lines (nothing after the colon removes) or a list of ``NAME=text``."""
    pairs: dict[str, str | None] = {}
    if value.is_list:
        for item in value.items():
            name, equals, text = item.text().partition("=")
            if not equals:
                raise item.error(f"expected NAME=value, got {name!r}")
            if name in pairs:
                raise item.error(f"the variable {name!r} is set twice")
            pairs[_checked(item, spec_values.variable_name, name)] = text
    else:
        for name, item in value.mapping().items():
            pairs[_checked(item, spec_values.variable_name, name)] = (
                None if item.is_null else item.text()
            )
    return tuple(sorted(pairs.items()))


def _checked(value: Value, check: Callable[[str], _T], text: str) -> _T:
    try:
        return check(text)
    except ValueError as error:
        raise value.error(str(error)) from error


def _command(value: Value) -> tuple[str, ...]:
    """Read a list of arguments, or one text which ``/bin/sh -c`` runs (Docker's shell form)."""
    if value.is_scalar:
        return ("/bin/sh", "-c", value.text())
    return tuple(item.text() for item in value.items())


def _architectures(value: Value) -> tuple[Platform, ...]:
    platforms: dict[str, Platform] = {}
    for item in value.items():
        platform = _parsed(item, Platform.parse)
        name = _parsed(item, lambda _, known=platform: known.lxd_architecture)  # type: ignore[misc]  # bound default
        if name in platforms:
            raise item.error(f"the architecture {name} is listed twice")
        platforms[name] = platform
    return tuple(platforms.values())


def _properties(value: Value) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, item.text()) for name, item in value.mapping().items()))


def _compression(value: Value) -> str:
    _parsed(value, spec_values.compression)
    return value.text()


def _healthcheck(value: Value) -> HealthOverride:
    values = value.mapping(("test", "interval", "timeout", "start_period", "retries", "disable"))
    seconds = {
        key: _parsed(values[key], spec_values.duration_seconds) if key in values else None
        for key in ("interval", "timeout", "start_period")
    }
    test: tuple[str, ...] = ()
    if "disable" in values and values["disable"].boolean():
        test = ("NONE",)
    elif "test" in values:
        test = _health_test(values["test"])
    return HealthOverride(
        test=test,
        interval_seconds=seconds["interval"],
        timeout_seconds=seconds["timeout"],
        start_period_seconds=seconds["start_period"],
        retries=values["retries"].integer(least=1, most=1000) if "retries" in values else None,
    )


def _health_test(value: Value) -> tuple[str, ...]:
    if value.is_scalar:
        return ("CMD-SHELL", value.text())
    test = tuple(item.text() for item in value.items())
    shapes = {"NONE": len(test) == 1, "CMD-SHELL": len(test) == 2, "CMD": len(test) > 1}  # noqa: PLR2004
    if not test or not shapes.get(test[0], False):
        raise value.error("expected a text, [CMD, program, …], [CMD-SHELL, text] or [NONE]")
    return test


def _files(value: Value) -> tuple[FileChange, ...]:
    return tuple(_file(item) for item in value.items())


def _file(item: Value) -> FileChange:
    values = item.mapping(("path", *_FILE_KINDS, "mode", "owner"))
    if "path" not in values:
        raise item.error("the key 'path' is missing")
    path = _parsed(values["path"], spec_values.absolute_path)
    if spec_values.is_reserved(path):
        raise values["path"].error(f"{path} belongs to lxdocker-lxd and can't be changed")
    kinds = [kind for kind in _FILE_KINDS if kind in values]
    if len(kinds) != 1:
        raise item.error(
            f"expected exactly one of {', '.join(_FILE_KINDS)}, got {' and '.join(kinds) or 'none'}"
        )
    kind, value = kinds[0], values[kinds[0]]
    if kind in ("directory", "remove") and not value.boolean():
        raise value.error(f"expected true; leave {kind} out instead")
    refused = {"remove": ("mode", "owner"), "symlink": ("mode",)}.get(kind, ())
    for key in refused:
        if key in values:
            raise values[key].error(f"{kind} takes no {key}")
    uid, gid = _parsed(values["owner"], spec_values.owner) if "owner" in values else (0, 0)
    text = value.text() if kind in ("content", "source", "symlink") else ""
    if kind in ("source", "symlink") and not text:
        raise value.error("expected a path, got an empty text")
    return FileChange(
        path=path,
        kind=kind,  # type: ignore[arg-type]  # one of _FILE_KINDS, which the Literal repeats
        value=text,
        mode=_parsed(values["mode"], spec_values.mode) if "mode" in values else None,
        uid=uid,
        gid=gid,
    )


# Keys whose field has another name.
_FIELDS = {"stop_timeout": "stop_timeout_seconds"}
_READERS: dict[str, Callable[[Value], object]] = {
    "disable_supervisor": Value.boolean,
    "architectures": _architectures,
    "env": _env,
    "entrypoint": _command,
    "cmd": _command,
    "user": _scalar(spec_values.user),
    "working_dir": _scalar(spec_values.absolute_path),
    "stop_signal": _scalar(spec_values.stop_signal),
    "stop_timeout": _scalar(spec_values.stop_timeout),
    "restart": _scalar(spec_values.restart),
    "tmpfs": _list(spec_values.tmpfs),
    "files": _files,
    "properties": _properties,
    "aliases": _list(spec_values.alias),
    "description": Value.text,
    "compression": _compression,
    "healthcheck": _healthcheck,
    "volumes": _list(spec_values.volume),
    "ports": _list(spec_values.port),
    "lxc": Value.boolean,
}
