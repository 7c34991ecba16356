"""The simulated daemon itself: the port ``Server``."""

from lxdocker_lxd.lxd.failures import ChangedMeanwhileError, RefusedError
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.lxd.server_records import Member, Operation, Permission, ServerInfo
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.port import etag_of
from tests.harness.simulated.store import Store

_KEYS = (
    "backups.",
    "candid.",
    "cluster.",
    "core.",
    "images.",
    "maas.",
    "rbac.",
    "storage.",
    "user.",
)


class SimulatedServer:
    """Implements the port ``Server``."""

    def __init__(self, store: Store, log: CallLog, *, extensions: frozenset[str]) -> None:
        self._store = store
        self._log = log
        self.extensions = extensions
        self.architectures: tuple[str, ...] = ("x86_64", "i686")

    def info(self) -> ServerInfo:
        return self._log.made("server.info", "", self._info)

    def _info(self) -> ServerInfo:
        members = self._store.members
        config = dict(self._store.server_config)
        return ServerInfo(
            product="lxd",
            version="5.0.2",
            api_version="1.0",
            trusted=True,
            name=next(iter(members), "simulated"),
            clustered=bool(members),
            extensions=self.extensions,
            architectures=self.architectures,
            storage_drivers=("dir",),
            config=config,
            etag=etag_of(sorted(config.items())),
        )

    def configure(self, changes: Config, *, etag: str = "") -> None:
        def act() -> None:
            if etag and etag != self._info().etag:
                raise ChangedMeanwhileError("could not set LXD's keys: ETag doesn't match")
            for key in changes:
                if not key.startswith(_KEYS):
                    raise RefusedError(f"could not set LXD's {key}: unknown key")
            merged = {**self._store.server_config, **changes}
            self._store.server_config = {key: value for key, value in merged.items() if value}
            self._store.emit("config-updated", "server", "")

        self._log.made("server.configure", ",".join(changes), act, writes=True)

    def members(self) -> tuple[Member, ...]:
        return self._log.made("server.members", "", lambda: tuple(self._store.members.values()))

    def operations(self, *, project: str | None = None) -> tuple[Operation, ...]:
        def act() -> tuple[Operation, ...]:
            held = self._store.operations.values()
            return tuple(one for one in held if project in {None, one.project})

        return self._log.made("server.operations", project or "", act)

    def permissions(self) -> tuple[Permission, ...]:
        return self._log.made("server.permissions", "", lambda: self._store.permissions)

    def cancel(self, operation_id: str) -> None:
        self._log.made(
            *("server.cancel", operation_id),
            lambda: self._store.operations.pop(operation_id, None),
            writes=True,
        )
