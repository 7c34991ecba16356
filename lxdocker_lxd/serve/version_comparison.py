"""What changed between two versions of a product: where they come from, what they run, their layers.

Pure: two catalogue records in, one record out. Texts are as in the images, thus hostile.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lxdocker_lxd.catalogue import PublishedLayer, Version
from lxdocker_lxd.serve.run_config import HealthCheck, RunConfig

Reason = Literal["image", "specification", "guest", "packing"]
"""Which input of a build was another one: the source image, the specification, the guest's files
that the converter adds, or the program that packs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value before and after. None where there was, or is, none."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChanges:
    """Layers, told apart by their content. ``kept`` counts those that both versions have."""

    added: tuple[PublishedLayer, ...]
    removed: tuple[PublishedLayer, ...]
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChanges:
    """The changes from one version to a later one.

    ``origin`` is about references and digests, ``settings`` about single values (entrypoint, user,
    …). Of ports and volumes there is a name in ``before`` or in ``after``. Sizes are differences:
    of what a client downloads, and of the unpacked root filesystem.
    """

    reasons: tuple[Reason, ...]
    origin: tuple[Change, ...]
    settings: tuple[Change, ...]
    environment: tuple[Change, ...]
    labels: tuple[Change, ...]
    ports: tuple[Change, ...]
    volumes: tuple[Change, ...]
    layers: LayerChanges
    size_bytes: int
    rootfs_bytes: int
    rootfs_entries: int

    @property
    def runs_the_same(self) -> bool:
        """Whether nothing changed of what the image runs and offers."""
        return not (self.settings or self.environment or self.ports or self.volumes)


def compare(before: Version, after: Version) -> VersionChanges:
    """Return what changed from ``before`` to ``after``."""
    old, new = RunConfig.read(before.config), RunConfig.read(after.config)
    return VersionChanges(
        reasons=tuple(_reasons(before, after)),
        origin=_changes(_origin(before), _origin(after)),
        settings=_changes(_settings(old, before), _settings(new, after)),
        environment=_changes(old.environment, new.environment),
        labels=_changes(old.labels, new.labels),
        ports=_memberships(old.ports, new.ports),
        volumes=_memberships(old.volumes, new.volumes),
        layers=_layers(before.layers, after.layers),
        size_bytes=after.size_bytes - before.size_bytes,
        rootfs_bytes=after.rootfs_bytes - before.rootfs_bytes,
        rootfs_entries=after.rootfs_entries - before.rootfs_entries,
    )


def health_text(check: HealthCheck) -> str:
    """Return a health check in one line: the command, then its timing."""
    kind, *words = check.test
    command = words[0] if kind == "CMD-SHELL" and len(words) == 1 else shlex.join(words)
    details = [f"{name} {value:g} s" for name, value in check.seconds.items()]
    if check.retries is not None:
        details.append(f"retries {check.retries}")
    return f"{command} ({', '.join(details)})" if details else command


def _reasons(before: Version, after: Version) -> Iterator[Reason]:
    old, new = before.inputs, after.inputs
    if old.manifest_digest != new.manifest_digest:
        yield "image"
    if old.spec_digest != new.spec_digest:
        yield "specification"
    if old.guest_digest != new.guest_digest:
        yield "guest"
    if old.packer != new.packer:
        yield "packing"


def _origin(version: Version) -> Mapping[str, str]:
    source = version.source
    return {
        "source": source.reference,
        "source digest": source.top_digest,
        "manifest": source.manifest_digest,
        "platform": source.platform,
    }


def _settings(config: RunConfig, version: Version) -> Mapping[str, str]:
    """Return the single values that are set, by name; lists as a shell would take them."""
    check = config.health_check
    values = {
        "entrypoint": shlex.join(config.entrypoint),
        "command": shlex.join(config.command),
        "user": config.user,
        "working directory": config.working_dir,
        "stop signal": config.stop_signal,
        "shell": shlex.join(config.shell),
        "health check": health_text(check) if check else "",
        "PID 1": "the supervisor" if version.supervisor else "the command itself",
        "format": f"{version.image_format}, {version.compression}",
    }
    return {name: value for name, value in values.items() if value}


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(
        Change(name=name, before=before.get(name), after=after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _memberships(before: Iterable[str], after: Iterable[str]) -> tuple[Change, ...]:
    return _changes({name: name for name in before}, {name: name for name in after})


def _layers(before: tuple[PublishedLayer, ...], after: tuple[PublishedLayer, ...]) -> LayerChanges:
    """Compare by ``diff_id``: the same content may be compressed anew."""
    old = {layer.diff_id for layer in before}
    new = {layer.diff_id for layer in after}
    return LayerChanges(
        added=tuple(layer for layer in after if layer.diff_id not in old),
        removed=tuple(layer for layer in before if layer.diff_id not in new),
        kept=sum(layer.diff_id in old for layer in after),
    )
