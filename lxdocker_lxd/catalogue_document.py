"""The text of ``catalogue.json``: records to bytes and back, in format version 1.

Pure. The same catalogue always gives the same bytes: sorted keys, one product a line. A reader of
format 1 ignores keys it doesn't know and refuses any other format number. Everything that could
lead out of the catalogue's directory is refused here: a path is ``images/`` and one plain name.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar, cast

from lxdocker_lxd.catalogue import (
    FORMAT,
    SERIAL_FORMAT,
    Catalogue,
    FileRole,
    Json,
    LxcMount,
    LxcSettings,
    Product,
    PublishedFile,
    PublishedLayer,
    RebuildInputs,
    RetiredFile,
    SourceImage,
    Version,
)
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.secret_value import told

_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"images/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SERIAL = re.compile(r"\d{8}_\d{6}")
_ROLES = ("metadata", "rootfs", "lxc-rootfs")
_T = TypeVar("_T")


class CatalogueError(VerificationError):
    """A catalogue file that isn't one, or is of a format this program doesn't know."""


def render(catalogue: Catalogue) -> bytes:
    """Return the file's content for ``catalogue``; :func:`parse` is the exact inverse."""
    head = {"format": FORMAT, "updated_at": _time_text(catalogue.updated_at)}
    products = [_compact(_product_fields(product)) for product in catalogue.products]
    retired = [
        _compact({"file": asdict(old.file), "retired_at": _time_text(old.retired_at)})
        for old in catalogue.retired
    ]
    lines = (
        _compact(head)[:-1] + ',"products":[',
        ",\n".join(products),
        '],"retired":[',
        ",\n".join(retired),
        "]}",
    )
    return ("\n".join(line for line in lines if line) + "\n").encode()


def parse(content: bytes, *, file: str) -> Catalogue:
    """Return the catalogue in ``content``; ``file`` is its name in messages.

    Raises CatalogueError naming the field that is wrong.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"{file}: not a catalogue: {error}", hint=_HINT) from error
    fields = _Fields(document, file)
    version = fields.take("format", int)
    if version != FORMAT:
        raise CatalogueError(
            f"{file}: catalogue format {version}, expected {FORMAT}",
            hint="it was written by another version of lxdocker-lxd: use that one, or convert anew",
        )
    products = sorted(
        (_product(item) for item in fields.each("products")), key=lambda product: product.key
    )
    for earlier, later in itertools.pairwise(products):
        if earlier.key == later.key:
            raise CatalogueError(f"{file}: {'/'.join(later.key)} is listed twice", hint=_HINT)
    return Catalogue(
        products=tuple(products),
        retired=tuple(
            RetiredFile(file=_file(item.sub("file")), retired_at=item.time("retired_at"))
            for item in fields.each("retired")
        ),
        updated_at=fields.time("updated_at"),
    )


_HINT = "restore the file, or remove it and run convert again: everything is then built anew"


class _Fields:
    """Typed access to one JSON object; ``place`` names it in messages."""

    __slots__ = ("_place", "_values")

    def __init__(self, values: object, place: str) -> None:
        if not isinstance(values, dict):
            raise CatalogueError(f"{place}: expected an object", hint=_HINT)
        self._values: dict[str, Any] = values
        self._place = place

    def error(self, key: str, text: str) -> CatalogueError:
        return CatalogueError(f"{self._place}: {key}: {text}", hint=_HINT)

    def take(self, key: str, kind: type[_T]) -> _T:
        value = self._values.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"expected {kind.__name__}, got {str(value)[:60]!r}")
        return value

    def optional(self, key: str) -> str | None:
        return None if self._values.get(key) is None else self.take(key, str)

    def given(self, key: str) -> bool:
        return self._values.get(key) is not None

    def size(self, key: str) -> int:
        value = self.take(key, int)
        if value < 0:
            raise self.error(key, f"expected a size, got {value}")
        return value

    def sizes(self, key: str) -> tuple[int, ...]:
        values = self.take(key, list)
        if not all(type(value) is int and value >= 0 for value in values):
            raise self.error(key, "expected a list of numbers")
        return tuple(values)

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self.take(key, str)
        if not pattern.fullmatch(value):
            raise self.error(key, f"expected {pattern.pattern}, got {value[:160]!r}")
        return value

    def serial(self, key: str) -> str:
        text = self.matching(key, _SERIAL)
        try:
            datetime.strptime(text, SERIAL_FORMAT).replace(tzinfo=UTC)
        except ValueError as error:
            raise self.error(key, f"{text} is no date and time") from error
        return text

    def time(self, key: str) -> datetime:
        text = self.take(key, str)
        try:
            return _time(text)
        except (ValueError, OverflowError) as error:
            raise self.error(key, f"expected a UTC time, got {text[:60]!r}") from error

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list)
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, "expected a list of texts")
        return tuple(values)

    def sub(self, key: str) -> "_Fields":
        return _Fields(self.take(key, dict), f"{self._place}: {key}")

    def each(self, key: str) -> "list[_Fields]":
        return [_Fields(item, f"{self._place}: {key}") for item in self.take(key, list)]

    def mapping(self, key: str) -> Mapping[str, Json]:
        return MappingProxyType(self.take(key, dict))


def _product(fields: _Fields) -> Product:
    versions = tuple(_version(item) for item in fields.each("versions"))
    serials = [version.serial for version in versions]
    if not versions or serials != sorted(set(serials)):
        raise fields.error("versions", "expected at least one, with rising serials")
    properties = fields.mapping("properties")
    if not all(isinstance(value, str) for value in properties.values()):
        raise fields.error("properties", "expected texts")
    return Product(
        name=fields.take("name", str),
        architecture=fields.take("architecture", str),
        aliases=fields.texts("aliases"),
        description=fields.take("description", str),
        properties=cast("Mapping[str, str]", properties),
        versions=versions,
    )


def _version(fields: _Fields) -> Version:
    superseded = None if fields.optional("superseded_at") is None else fields.time("superseded_at")
    return Version(
        serial=fields.serial("serial"),
        fingerprint=fields.matching("fingerprint", _HEXADECIMAL),
        published_at=fields.time("published_at"),
        superseded_at=superseded,
        image_format=fields.take("image_format", str),
        compression=fields.take("compression", str),
        rebuild_key=fields.take("rebuild_key", str),
        inputs=_texts_record(RebuildInputs, fields.sub("inputs")),
        source=_source(fields.sub("source")),
        layers=tuple(_layer(item) for item in fields.each("layers")),
        files=tuple(_file(item) for item in fields.each("files")),
        rootfs_bytes=fields.size("rootfs_bytes"),
        rootfs_entries=fields.size("rootfs_entries"),
        supervisor=fields.take("supervisor", bool),
        # Catalogues of earlier releases tell secrets.
        config=told(fields.mapping("config")),
        lxc=_lxc(fields.sub("lxc")) if fields.given("lxc") else None,
    )


def _lxc(fields: _Fields) -> LxcSettings:
    return LxcSettings(
        uid=fields.size("uid"),
        gid=fields.size("gid"),
        groups=fields.sizes("groups"),
        home=fields.take("home", str),
        stop_signal=fields.size("stop_signal"),
        tmpfs=tuple(
            LxcMount(
                path=mount.take("path", str),
                mode=mount.size("mode"),
                uid=mount.size("uid"),
                gid=mount.size("gid"),
            )
            for mount in fields.each("tmpfs")
        ),
    )


def _texts_record(record: Callable[..., _T], fields: _Fields) -> _T:
    names = cast("type[Any]", record).__slots__
    return record(**{name: fields.take(name, str) for name in names})


def _source(fields: _Fields) -> SourceImage:
    return SourceImage(
        reference=fields.take("reference", str),
        top_digest=fields.take("top_digest", str),
        manifest_digest=fields.take("manifest_digest", str),
        config_digest=fields.take("config_digest", str),
        platform=fields.take("platform", str),
        created=fields.optional("created"),
    )


def _layer(fields: _Fields) -> PublishedLayer:
    return PublishedLayer(
        digest=fields.take("digest", str),
        diff_id=fields.take("diff_id", str),
        media_type=fields.take("media_type", str),
        size_bytes=fields.size("size_bytes"),
    )


def _file(fields: _Fields) -> PublishedFile:
    role = fields.take("role", str)
    if role not in _ROLES:
        raise fields.error("role", f"expected one of {', '.join(_ROLES)}, got {role[:60]!r}")
    return PublishedFile(
        role=cast("FileRole", role),
        path=fields.matching("path", _PATH),
        sha256=fields.matching("sha256", _HEXADECIMAL),
        size_bytes=fields.size("size_bytes"),
    )


def _product_fields(product: Product) -> dict[str, object]:
    return {
        "name": product.name,
        "architecture": product.architecture,
        "aliases": product.aliases,
        "description": product.description,
        "properties": dict(product.properties),
        "versions": [_version_fields(version) for version in product.versions],
    }


def _version_fields(version: Version) -> dict[str, object]:
    superseded = version.superseded_at
    lxc = {} if version.lxc is None else {"lxc": asdict(version.lxc)}
    return {
        "serial": version.serial,
        "fingerprint": version.fingerprint,
        "published_at": _time_text(version.published_at),
        "superseded_at": None if superseded is None else _time_text(superseded),
        "image_format": version.image_format,
        "compression": version.compression,
        "rebuild_key": version.rebuild_key,
        "inputs": asdict(version.inputs),
        "source": asdict(version.source),
        "layers": [asdict(layer) for layer in version.layers],
        "files": [asdict(file) for file in version.files],
        "rootfs_bytes": version.rootfs_bytes,
        "rootfs_entries": version.rootfs_entries,
        "supervisor": version.supervisor,
        "config": dict(version.config),
        **lxc,
    }


def _compact(fields: dict[str, object]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _time_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time.astimezone(UTC)
