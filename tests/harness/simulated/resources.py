"""Pools and networks of the simulated LXD: their ports."""

from dataclasses import replace

from lxdocker_lxd.lxd.failures import AbsentError, InUseError, NameTakenError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.resources import Lease, Network, PoolSpace, StoragePool
from tests.harness.simulated.nics import Nics
from tests.harness.simulated.port import Port, compare, etag_of, path_of, sorted_config


class SimulatedPools(Port):
    """Implements the port ``Pools``."""

    def list(self) -> tuple[StoragePool, ...]:
        return self._log.made(
            "pools.list",
            "",
            lambda: tuple(replace(self._record(name), etag="") for name in self._store.pools),
        )

    def get(self, name: str) -> StoragePool:
        return self._log.made("pools.get", name, lambda: self._record(name))

    def _record(self, name: str) -> StoragePool:
        if name not in self._store.pools:
            raise AbsentError(f"storage pool {name}: not found", hint="list them")
        held = self._store.pools[name]
        users = [
            f"/1.0/profiles/{profile.name}"
            for profile in self._store.profiles.values()
            if any(device.get("pool") == name for device in profile.devices.values())
        ]
        users += [
            path_of(box)
            for box in self._store.boxes.values()
            if any(
                device.get("pool") == name
                for device in self._store.expanded_devices(box.project, box.settings).values()
            )
        ]
        etag = etag_of(name, held.driver, held.description, sorted_config(held.config))
        return replace(held, used_by=tuple(users), etag=etag)

    def space(self, name: str, *, target: str = "") -> PoolSpace:  # noqa: ARG002 - one pool for all
        def act() -> PoolSpace:
            self._record(name)
            return PoolSpace(
                used_bytes=self._store.used_bytes(name), total_bytes=self._store.pool_bytes[name]
            )

        return self._log.made("pools.space", name, act)

    def create(self, pool: StoragePool) -> None:
        def act() -> None:
            if pool.name in self._store.pools:
                raise NameTakenError("The storage pool already exists", hint="another name")
            self._store.pools[pool.name] = replace(pool, used_by=(), etag="")
            self._store.pool_bytes[pool.name] = 1 << 40

        self._log.made("pools.create", pool.name, act, writes=True)

    def delete(self, name: str) -> None:
        def act() -> None:
            if self._record(name).used_by:
                raise InUseError("The storage pool is currently in use", hint="empty it")
            del self._store.pools[name]

        self._log.made("pools.delete", name, act, writes=True)


class SimulatedNetworks(Port):
    """Implements the port ``Networks``."""

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Network, ...]:
        def act() -> tuple[Network, ...]:
            owner = self._store.owner(project, "networks")
            return tuple(
                replace(self._record(name, project), etag="")
                for where, name in self._store.networks
                if where == owner
            )

        return self._log.made("networks.list", project, act)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Network:
        return self._log.made("networks.get", name, lambda: self._record(name, project))

    def _record(self, name: str, project: str) -> Network:
        key = (self._store.owner(project, "networks"), name)
        if key not in self._store.networks:
            raise AbsentError(f"network {name}: not found", hint="list them")
        held = self._store.networks[key]
        users = tuple(
            path_of(box)
            for box in self._store.boxes.values()
            if any(
                name in {device.get("network"), device.get("parent")}
                for device in self._store.expanded_devices(box.project, box.settings).values()
            )
        )
        users += tuple(
            f"/1.0/profiles/{profile.name}"
            for profile in self._store.profiles.values()
            if any(device.get("network") == name for device in profile.devices.values())
        )
        etag = etag_of(name, held.description, sorted_config(held.config))
        return replace(held, used_by=users, etag=etag)

    def leases(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Lease, ...]:
        def act() -> tuple[Lease, ...]:
            self._record(name, project)
            return Nics(self._store).leases(project, name)

        return self._log.made("networks.leases", name, act)

    def create(self, network: Network) -> None:
        def act() -> None:
            key = (self._store.owner(network.project, "networks"), network.name)
            if key in self._store.networks:
                raise NameTakenError("The network already exists", hint="another name")
            held = replace(network, project=key[0], managed=True, status="Created", used_by=())
            self._store.networks[key] = replace(held, etag="")
            self._store.emit("network-created", "network", network.name, key[0])

        self._log.made("networks.create", network.name, act, writes=True)

    def edit(self, network: Network) -> None:
        def act() -> None:
            held = self._record(network.name, network.project)
            compare(network.etag, held.etag, network.name)
            self._store.networks[held.project, held.name] = replace(
                held, description=network.description, config=dict(network.config)
            )
            self._store.emit("network-updated", "network", network.name, held.project)

        self._log.made("networks.edit", network.name, act, writes=True)

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            held = self._record(name, project)
            if held.used_by:
                raise InUseError("The network is currently in use", hint="detach it")
            del self._store.networks[held.project, name]
            self._store.emit("network-deleted", "network", name, held.project)

        self._log.made("networks.delete", name, act, writes=True)
