"""Custom volumes of the simulated LXD, with what they hold, and their snapshots."""

from dataclasses import replace

from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    InUseError,
    NameTakenError,
    NoSpaceError,
    RefusedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.resources import Volume, VolumeSnapshot
from tests.harness.simulated.port import Port, compare, etag_of, path_of, sorted_config
from tests.harness.simulated.store import Box, Content, VolumeKey, bytes_of


class SimulatedVolumes(Port):
    """Implements the port ``Volumes``."""

    def list(self, pool: str, *, project: str = DEFAULT_PROJECT) -> tuple[Volume, ...]:
        def act() -> tuple[Volume, ...]:
            owner = self._store.owner(project, "storage.volumes")
            self._pool(pool)
            return tuple(
                replace(self._record(pool, name, project), etag="")
                for where, held_pool, name in sorted(self._store.volumes)
                if (where, held_pool) == (owner, pool)
            )

        return self._log.made("volumes.list", pool, act)

    def _pool(self, pool: str) -> None:
        if pool not in self._store.pools:
            raise AbsentError(f"storage pool {pool}: not found", hint="list them")

    def get(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> Volume:
        def act() -> Volume:
            self._at(pool, name, project, target)
            return self._record(pool, name, project)

        return self._log.made("volumes.get", name, act)

    def _key(self, pool: str, name: str, project: str) -> tuple[str, str, str]:
        key = (self._store.owner(project, "storage.volumes"), pool, name)
        if key not in self._store.volumes:
            raise AbsentError(f"volume {name} of pool {pool}: not found", hint="list them")
        return key

    def _record(self, pool: str, name: str, project: str) -> Volume:
        held = self._store.volumes[self._key(pool, name, project)]
        users = tuple(map(path_of, self._users(self._key(pool, name, project))))
        etag = etag_of(name, held.description, sorted_config(held.config))
        return replace(held, used_by=users, etag=etag)

    def _users(self, key: VolumeKey) -> tuple[Box, ...]:
        owner, pool, name = key
        return tuple(
            box
            for box in self._store.boxes.values()
            for device in self._store.expanded_devices(box.project, box.settings).values()
            if (device.get("pool"), device.get("source")) == (pool, name)
            and self._store.owner(box.project, "storage.volumes") == owner
        )

    def create(self, volume: Volume, *, target: str = "") -> None:
        def act() -> None:
            self._pool(volume.pool)
            owner = self._store.owner(volume.project, "storage.volumes")
            key = (owner, volume.pool, volume.name)
            if key in self._store.volumes:
                raise NameTakenError(f"Volume {volume.name!r} already exists", hint="another name")
            location = target or (
                next(iter(self._store.members)) if self._store.members else "none"
            )
            self._store.volumes[key] = replace(
                volume, project=owner, used_by=(), etag="", location=location
            )
            self._store.contents[key] = Content()
            self._event("created", volume)

        self._log.made("volumes.create", volume.name, act, writes=True)

    def _event(self, what: str, volume: Volume) -> None:
        self._store.emit(
            *(f"storage-volume-{what}", "storage-volume", volume.name, volume.project),
            detail=volume.pool,
        )

    def edit(self, volume: Volume) -> None:
        def act() -> None:
            held = self._record(volume.pool, volume.name, volume.project)
            compare(volume.etag, held.etag, volume.name)
            key = self._key(volume.pool, volume.name, volume.project)
            self._store.volumes[key] = replace(
                self._store.volumes[key], description=volume.description, config=dict(volume.config)
            )
            self._event("updated", volume)

        self._log.made("volumes.edit", volume.name, act, writes=True)

    def delete(self, pool: str, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            held = self._record(pool, name, project)
            if held.used_by:
                raise InUseError(f"The volume {name} is still in use", hint="detach it")
            key = self._key(pool, name, project)
            del self._store.volumes[key], self._store.contents[key]
            self._event("deleted", held)

        self._log.made("volumes.delete", name, act, writes=True)

    # ---- snapshots

    def snapshots(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> tuple[VolumeSnapshot, ...]:
        def act() -> tuple[VolumeSnapshot, ...]:
            self._pool(pool)
            content = self._store.contents[self._at(pool, name, project, target)]
            return tuple(snapshot for snapshot, _ in content.snapshots)

        return self._log.made("volumes.snapshots", name, act)

    def _at(self, pool: str, name: str, project: str, target: str) -> VolumeKey:
        key = self._key(pool, name, project)
        # LXD that is no cluster doesn't look at the target.
        if target and self._store.members and self._store.volumes[key].location != target:
            raise AbsentError(f"volume {name} of pool {pool}: not found on {target}")
        return key

    def create_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        def make(files: dict[str, GuestFile]) -> None:
            key = self._at(pool, name, project, target)
            made = VolumeSnapshot(
                pool=pool,
                volume=name,
                name=snapshot,
                project=project,
                created_at=self._store.clock(),
                config=dict(self._store.volumes[key].config),
            )
            self._store.contents[key].snapshots.append((made, files))
            self._event("snapshot-created", self._store.volumes[key])

        def act() -> None:
            self._check_new(pool, name, snapshot, self._at(pool, name, project, target))
            make(dict(self._store.contents[self._at(pool, name, project, target)].files))

        def half() -> None:
            key = self._at(pool, name, project, target)
            self._check_new(pool, name, snapshot, key)
            # The record comes first, the files after it.
            make(_first_half(self._store.contents[key].files))

        self._log.made("volumes.create_snapshot", name, act, writes=True, half=half)

    def _check_new(self, pool: str, name: str, snapshot: str, key: VolumeKey) -> None:
        if "/" in snapshot or " " in snapshot:
            raise RefusedError(f"could not make {name}/{snapshot}: Storage name cannot contain it")
        content = self._store.contents[key]
        if snapshot in {one.name for one, _ in content.snapshots}:
            raise NameTakenError(f'Snapshot "{snapshot}" already in use', hint="another name")
        needs = bytes_of(content.files) if self._store.pools[pool].driver == "dir" else 0
        if self._store.used_bytes(pool) + needs > self._store.pool_bytes[pool]:
            raise NoSpaceError(f"could not make {name}/{snapshot}: No space left on device")

    def restore_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        def restored() -> tuple[Content, dict[str, GuestFile]]:
            key = self._at(pool, name, project, target)
            for box in self._users(key):
                if box.runs:
                    raise InUseError(
                        f"could not restore {name}/{snapshot}: Cannot restore custom volume used by"
                        " running instances"
                    )
            content = self._store.contents[key]
            found = next((held for held in content.snapshots if held[0].name == snapshot), None)
            if found is None:
                raise AbsentError(f"could not restore {name}/{snapshot}: Snapshot not found")
            if self._store.pools[pool].driver == "zfs":
                self._drop_newer(key, found)
            return content, found[1]

        def act() -> None:
            content, files = restored()
            content.files.clear()
            content.files.update(files)
            self._event("restored", self._store.volumes[self._key(pool, name, project)])

        def half() -> None:
            content, files = restored()
            # Others exchange the whole at once.
            if self._store.pools[pool].driver == "dir":
                content.files.update(_first_half(files))

        self._log.made("volumes.restore_snapshot", name, act, writes=True, half=half)

    def _drop_newer(self, key: VolumeKey, found: tuple[VolumeSnapshot, object]) -> None:
        held = self._store.contents[key].snapshots
        newer = held[[one for one, _ in held].index(found[0]) + 1 :]
        pools = self._store.pools[key[1]].config.get("volume.zfs.remove_snapshots", "")
        if newer and self._store.volumes[key].config.get("zfs.remove_snapshots", pools) != "true":
            raise WrongStateError(
                f'Snapshot "{found[0].name}" cannot be restored due to subsequent snapshot(s). Set'
                " zfs.remove_snapshots to override"
            )
        del held[len(held) - len(newer) :]

    def delete_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        def act() -> None:
            key = self._at(pool, name, project, target)
            held = self._store.contents[key].snapshots
            left = [one for one in held if one[0].name != snapshot]
            if len(left) == len(held):
                raise AbsentError(f"snapshot {snapshot} of volume {name}: not found")
            held[:] = left
            self._event("snapshot-deleted", self._store.volumes[key])

        self._log.made("volumes.delete_snapshot", name, act, writes=True)


def _first_half(files: dict[str, GuestFile]) -> dict[str, GuestFile]:
    names = sorted(files)
    return {name: files[name] for name in names[: len(names) // 2]}
