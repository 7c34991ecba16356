"""What a specification changes: the image's configuration, and files of the root filesystem.

Pure, apart from the tree it is given to change. Commands follow Docker: an ``entrypoint`` without a
``cmd`` drops the image's own Cmd, whose words were meant for another program.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from lxdocker_lxd.catalogue import Json
from lxdocker_lxd.convert.image_config import Healthcheck, ImageConfig
from lxdocker_lxd.convert.layer.errors import BlockedNameError
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.spec_directory import SourceFile
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.secret_value import told
from lxdocker_lxd.spec import FileChange, HealthOverride, ImageSpec

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_NANOSECONDS = 1_000_000_000
# Seconds are floats: the longest duration comes out one too long.
_LONGEST_NANOSECONDS = 2**63 - 1
_NO_HEALTHCHECK = Healthcheck(
    test=(),
    interval_seconds=None,
    timeout_seconds=None,
    start_period_seconds=None,
    retries=None,
)
T = TypeVar("T")


def overridden(config: ImageConfig, spec: ImageSpec) -> ImageConfig:
    """Return the configuration with the specification's word where it has one.

    Raises UsageError for a health check that neither says what to run.
    """
    cmd = spec.cmd if spec.cmd is not None or spec.entrypoint is None else ()
    return replace(
        config,
        env=_environment(config.env, spec),
        entrypoint=_either(spec.entrypoint, config.entrypoint),
        cmd=_either(cmd, config.cmd),
        user=_either(spec.user, config.user),
        working_dir=_either(spec.working_dir, config.working_dir),
        stop_signal=_either(spec.stop_signal, config.stop_signal),
        stop_timeout_seconds=_either(spec.stop_timeout_seconds, config.stop_timeout_seconds),
        volumes=_either(spec.volumes, config.volumes),
        exposed_ports=_either(spec.ports, config.exposed_ports),
        healthcheck=_health(config.healthcheck, spec.healthcheck, spec.name),
    )


def _either(wanted: T | None, otherwise: T) -> T:
    return otherwise if wanted is None else wanted


def _environment(image: tuple[str, ...], spec: ImageSpec) -> tuple[str, ...]:
    values = {entry.partition("=")[0]: entry for entry in image}
    for name, text in spec.env:
        if text is None:
            values.pop(name, None)
        else:
            values[name] = f"{name}={text}"
    return tuple(values.values())


def _health(
    image: Healthcheck | None, wanted: HealthOverride | None, name: str
) -> Healthcheck | None:
    if wanted is None:
        return image
    if wanted.test == ("NONE",):
        return None
    base = image or _NO_HEALTHCHECK
    if not (wanted.test or base.test):
        raise UsageError(
            f"{name}: healthcheck: there is no test, and the image has none either",
            hint="add a line such as: test: curl -f http://localhost/",
        )
    return replace(
        base,
        test=wanted.test or base.test,
        interval_seconds=_either(wanted.interval_seconds, base.interval_seconds),
        timeout_seconds=_either(wanted.timeout_seconds, base.timeout_seconds),
        start_period_seconds=_either(wanted.start_period_seconds, base.start_period_seconds),
        retries=_either(wanted.retries, base.retries),
    )


def change_files(
    tree: Tree, changes: tuple[FileChange, ...], files: Mapping[str, SourceFile], *, mtime_ns: int
) -> None:
    """Apply a specification's file changes in order; parents are resolved inside the root.

    Raises UsageError for a name below a file of the image; UnsafeNameError or UnsafeLinkError.
    """
    for change in changes:
        try:
            _change_file(tree, change, files, mtime_ns)
        except BlockedNameError as error:
            raise UsageError(
                f"files: {change.path} can't be made: {error.reason}",
                hint="remove that file first: an entry with its path and remove: true",
            ) from error


def _change_file(
    tree: Tree, change: FileChange, files: Mapping[str, SourceFile], mtime_ns: int
) -> None:
    path, uid, gid = change.path.encode(), change.uid, change.gid
    if change.kind == "remove":
        tree.remove(path)
    elif change.kind == "directory":
        mode = _either(change.mode, _DIRECTORY_MODE)
        tree.put_directory(path, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns)
    elif change.kind == "symlink":
        tree.put_symlink(path, change.value.encode(), uid=uid, gid=gid, mtime_ns=mtime_ns)
    else:
        content, mode = _content(change, files)
        tree.put_file(path, content, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns)


def _content(change: FileChange, files: Mapping[str, SourceFile]) -> tuple[bytes | HostFile, int]:
    if change.kind == "content":
        return change.value.encode(), _either(change.mode, _FILE_MODE)
    source = files[change.value]
    return source.host, _either(change.mode, source.mode)


def config_fields(config: ImageConfig) -> dict[str, Json]:
    """Return a configuration with the keys and forms of an OCI image's ``config``, to be shown.

    What is unset is left out. Of variables that look like secrets there is the name alone.
    """
    fields: dict[str, Json] = {
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "User": config.user,
        "WorkingDir": config.working_dir,
        "StopSignal": config.stop_signal,
        "Volumes": {path: {} for path in config.volumes},
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Labels": dict(config.labels),
        "Shell": list(config.shell),
        "Healthcheck": _health_fields(config.healthcheck),
    }
    found: dict[str, Json] = {key: value for key, value in fields.items() if value}
    # Zero says something: kill at once.
    if config.stop_timeout_seconds is not None:
        found["StopTimeout"] = config.stop_timeout_seconds
    return told(found)


def _health_fields(check: Healthcheck | None) -> dict[str, Json]:
    if check is None:
        return {}
    seconds = {
        "Interval": check.interval_seconds,
        "Timeout": check.timeout_seconds,
        "StartPeriod": check.start_period_seconds,
        "StartInterval": check.start_interval_seconds,
    }
    fields: dict[str, Json] = {
        key: min(round(value * _NANOSECONDS), _LONGEST_NANOSECONDS)
        for key, value in seconds.items()
        if value is not None
    }
    if check.retries is not None:
        fields["Retries"] = check.retries
    return {"Test": list(check.test), **fields}
