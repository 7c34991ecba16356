"""The configuration inside an image: what to run, as whom, where, with which environment.

Sources: image-spec config.md; Docker's additions (``Healthcheck``, ``Shell``) as its image format
1.2 writes them, with durations in nanoseconds. Both write ``null`` for what isn't set. Fields with
no meaning for a Linux container (``OnBuild``, ``ArgsEscaped``, ``os.version``) are not read.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lxdocker_lxd.convert.json_document import JsonObject
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.platform import Platform

CONFIG_LIMIT_BYTES = 4 << 20

_NANOSECONDS_PER_SECOND = 1_000_000_000
_LONGEST_STOP_SECONDS = 3600
_DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """A health check as the image states it; None stands for Docker's default.

    ``test`` starts with ``CMD`` (an argument list follows) or ``CMD-SHELL`` (one line follows).
    """

    test: tuple[str, ...]
    interval_seconds: float | None
    timeout_seconds: float | None
    start_period_seconds: float | None
    retries: int | None
    start_interval_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One build step. Steps with ``empty_layer`` have no layer, so never pair the two lists."""

    created: str | None
    created_by: str
    comment: str
    empty_layer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """An image's configuration; no text in it holds a NUL character.

    ``env`` holds ``NAME=value`` once per name, the last one given. ``working_dir`` and ``volumes`` are
    absolute, the latter without empty, ``.`` and ``..`` parts.
    ``created`` is the RFC 3339 text as given. ``exposed_ports`` are ports in truth, as ``80/tcp`` or
    ``8000-8010/udp``; what the image calls one and is none stands in ``ignored_ports``, as it came.
    """

    os: str
    architecture: str
    variant: str
    created: str | None
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    user: str
    working_dir: str
    stop_signal: str | None
    stop_timeout_seconds: int | None = None
    volumes: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    labels: Mapping[str, str]
    healthcheck: Healthcheck | None
    shell: tuple[str, ...]
    diff_ids: tuple[Digest, ...]
    history: tuple[HistoryEntry, ...]
    ignored_ports: tuple[str, ...] = ()

    @property
    def platform(self) -> Platform | None:
        """What the image runs on, or None when it doesn't say."""
        if not self.architecture:
            return None
        return Platform.normalised(self.os or "linux", self.architecture, self.variant)

    @property
    def healthcheck_command(self) -> tuple[str, ...]:
        """The health check as an argument list; a shell line is given to the image's ``Shell``."""
        if self.healthcheck is None:
            return ()
        kind, *rest = self.healthcheck.test
        return (*(self.shell or _DEFAULT_SHELL), *rest) if kind == "CMD-SHELL" else tuple(rest)


def parse_image_config(raw: bytes, *, what: str) -> ImageConfig:
    """Read an image configuration; ``what`` names it in errors. Raises InvalidDocumentError."""
    document = JsonObject.parse(raw, what=what)
    rootfs = document.child("rootfs")
    if rootfs is None:
        raise document.fail(
            "rootfs is missing", hint="this is not the configuration of a container image"
        )
    if rootfs.text("type") != "layers":
        raise rootfs.fail(f"type must be 'layers', got {rootfs.text('type')!r}")
    run = document.child("config") or JsonObject(what=what, place="config", fields={})
    ports = {text: ExposedPort.parse(text) for text in run.keys_of("ExposedPorts")}
    working_dir = _clean(run, "WorkingDir", run.text("WorkingDir")) or "/"
    return ImageConfig(
        os=document.text("os"),
        architecture=document.text("architecture"),
        variant=document.text("variant"),
        created=document.text("created") or None,
        env=_environment(_clean_all(run, "Env", run.texts("Env"))),
        entrypoint=_arguments(run, "Entrypoint"),
        cmd=_arguments(run, "Cmd"),
        user=_clean(run, "User", run.text("User")),
        working_dir=working_dir if working_dir.startswith("/") else "/" + working_dir,
        stop_signal=_clean(run, "StopSignal", run.text("StopSignal")) or None,
        stop_timeout_seconds=_stop_timeout(run.fields.get("StopTimeout")),
        volumes=_volumes(_clean_all(run, "Volumes", run.keys_of("Volumes"))),
        exposed_ports=tuple(str(port) for port in dict.fromkeys(ports.values()) if port),
        ignored_ports=tuple(text for text, port in ports.items() if port is None),
        labels=_labels(run),
        healthcheck=_healthcheck(run.child("Healthcheck")),
        shell=_arguments(run, "Shell"),
        diff_ids=rootfs.digests("diff_ids"),
        history=tuple(_history_entry(entry) for entry in document.children("history")),
    )


def _stop_timeout(value: object) -> int | None:
    """Docker's own field, which OCI doesn't know; what is no time is left out."""
    if type(value) is not int or value < 0:
        return None
    return min(value, _LONGEST_STOP_SECONDS)


def _clean(place: JsonObject, key: str, text: str) -> str:
    # No argument, variable or path of a process can hold one; the kernel would cut it short.
    if "\0" in text:
        raise place.fail(f"{key} holds a NUL character")
    return text


def _clean_all(place: JsonObject, key: str, texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(_clean(place, key, text) for text in texts)


def _arguments(run: JsonObject, key: str) -> tuple[str, ...]:
    # Docker's oldest images hold one string where a list is meant, and Docker still takes it.
    value = run.fields.get(key)
    texts = (run.text(key),) if isinstance(value, str) else run.texts(key)
    return _clean_all(run, key, texts)


def _volumes(texts: tuple[str, ...]) -> tuple[str, ...]:
    # Docker cleans them so; "data", "./data" and "/x/../data" are all /data.
    cleaned = ("/" + posixpath.normpath(f"/{text}").lstrip("/") for text in texts)
    return tuple(sorted(set(cleaned)))


def _environment(entries: tuple[str, ...]) -> tuple[str, ...]:
    # runc lets the last entry of a name win; an entry without a name or "=" sets nothing.
    values: dict[str, str] = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if separator and name:
            values[name] = value
    return tuple(f"{name}={value}" for name, value in values.items())


def _labels(run: JsonObject) -> Mapping[str, str]:
    labels = run.text_map("Labels")
    for name, value in labels.items():
        _clean(run, "Labels", name + value)
    return MappingProxyType(dict(labels))


def _healthcheck(check: JsonObject | None) -> Healthcheck | None:
    if check is None:
        return None
    test = _arguments(check, "Test")
    if not test or test[0] == "NONE":
        return None
    if test[0] not in {"CMD", "CMD-SHELL"}:
        raise check.fail(f"Test must start with NONE, CMD or CMD-SHELL, got {test[0]!r}")
    if len(test) == 1:
        return None
    retries = check.number("Retries", 0) or 0
    if retries < 0:
        raise check.fail(f"Retries is negative: {retries}")
    return Healthcheck(
        test=test,
        interval_seconds=_seconds(check, "Interval"),
        timeout_seconds=_seconds(check, "Timeout"),
        start_period_seconds=_seconds(check, "StartPeriod"),
        retries=retries or None,
        start_interval_seconds=_seconds(check, "StartInterval"),
    )


def _seconds(check: JsonObject, key: str) -> float | None:
    nanoseconds = check.number(key, 0) or 0
    if nanoseconds < 0:
        raise check.fail(f"{key} is negative: {nanoseconds}")
    return nanoseconds / _NANOSECONDS_PER_SECOND or None


def _history_entry(entry: JsonObject) -> HistoryEntry:
    return HistoryEntry(
        created=entry.text("created") or None,
        created_by=entry.text("created_by"),
        comment=entry.text("comment"),
        empty_layer=entry.boolean("empty_layer"),
    )
