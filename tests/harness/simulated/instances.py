"""Instances of the simulated LXD: the port ``Instances``."""

import hashlib
from dataclasses import replace

from lxdocker_lxd.lxd.calls import GuestFile, NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    ChangedMeanwhileError,
    LimitReachedError,
    NameTakenError,
    NoSpaceError,
    RefusedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Config,
    Devices,
    Instance,
    InstanceSettings,
    Snapshot,
)
from lxdocker_lxd.lxd.resources import Volume
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.guest import Guest
from tests.harness.simulated.instance_rules import check_config, check_name, check_restrictions
from tests.harness.simulated.nics import Nics
from tests.harness.simulated.port import compare, path_of, sorted_config
from tests.harness.simulated.port import etag_of as port_etag
from tests.harness.simulated.store import Box, Store, root_pool

# A PUT that leaves one out is refused.
STAYING = ("volatile.idmap.", "volatile.last_state.idmap")
IDMAP = '[{"Isuid":true,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":1000000000}]'


def etag_of(store: Store, project: str, settings: InstanceSettings) -> str:
    """What conditional writes compare: all but the description, with what profiles say."""
    owner = store.owner(project, "profiles")
    covered = (
        settings.architecture,
        sorted(settings.config.items()),
        sorted((name, sorted(one.items())) for name, one in settings.devices.items()),
        settings.ephemeral,
        [repr(store.profiles[owner, profile]) for profile in settings.profiles],
    )
    return hashlib.sha256(repr(covered).encode()).hexdigest()


class SimulatedInstances:
    """Implements the port ``Instances``."""

    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log
        self._nics = Nics(store)

    def list(self, *, project: str | None = DEFAULT_PROJECT) -> tuple[Instance, ...]:
        def act() -> tuple[Instance, ...]:
            return tuple(
                replace(self.record(box), etag="")
                for box in sorted(self._store.boxes.values(), key=lambda box: box.name)
                if project in {None, box.project}
            )

        return self._log.made("instances.list", project or "", act)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Instance:
        return self._log.made(
            "instances.get", name, lambda: self.record(self._store.box(name, project))
        )

    def record(self, box: Box) -> Instance:
        """An instance as the API tells it."""
        settings = box.settings
        return Instance(
            name=box.name,
            project=box.project,
            status=box.status,
            location=box.location,
            type=box.type,
            architecture=settings.architecture,
            ephemeral=settings.ephemeral,
            stateful=settings.stateful,
            description=settings.description,
            profiles=settings.profiles,
            config=dict(settings.config),
            devices={key: dict(one) for key, one in settings.devices.items()},
            expanded_config=self._store.expanded_config(box.project, settings),
            expanded_devices=self._store.expanded_devices(box.project, settings),
            created_at=box.created_at,
            last_used_at=box.last_used_at,
            etag=etag_of(self._store, box.project, settings),
        )

    # ---- making

    def create(self, new: NewInstance, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            self._create(new, project)

        def half() -> None:
            ruin = self._create(new, project)
            ruin.whole = False
            config = {**ruin.settings.config}
            del config["volatile.apply_template"]
            ruin.settings = replace(ruin.settings, config=config)

        self._log.made("instances.create", new.name, act, writes=True, half=half)

    def _create(self, new: NewInstance, project: str) -> Box:
        store = self._store
        check_name(new.name)
        owner = store.owner(project, "images")
        fingerprint = new.image
        if new.by_alias:
            fingerprint = store.aliases.get((owner, new.image), ("", ""))[0]
        image = store.images.get((owner, fingerprint))
        if image is None:
            raise AbsentError(f"could not create {new.name}: the image {new.image} isn't there")
        if image.type != new.type:
            raise RefusedError(
                f"could not create {new.name}: Requested image's type \"{image.type}\" doesn't match"
                f' instance type "{new.type}"'
            )
        self._check_new_name(new.name, project)
        try:
            self._check_profiles(new.settings.profiles, project)
        except AbsentError as error:
            # LXD answers 400 here and 404 to a PUT.
            raise RefusedError(error.message) from error
        behaviour = store.behaviour(fingerprint)
        config = {key: value for key, value in new.settings.config.items() if value}
        check_config(config)
        check_restrictions(store.projects[project].config, new.name, new.settings)
        config.pop("volatile.last_state.power", None)
        config |= {f"image.{key}": value for key, value in image.properties.items()}
        config |= {
            "volatile.base_image": fingerprint,
            "volatile.apply_template": "create",
            "volatile.cloud-init.instance-id": store.draw_id(),
            "volatile.idmap.base": "0",
            "volatile.idmap.next": self._idmap(new, project),
            "volatile.last_state.idmap": "[]",
        }
        config.setdefault("volatile.uuid", store.draw_id())
        settings = replace(
            new.settings,
            config=config,
            devices={key: dict(one) for key, one in new.settings.devices.items()},
            architecture=new.settings.architecture or image.architecture,
        )
        expanded = store.expanded_devices(project, settings)
        pool = root_pool(expanded)
        if missing := store.missing_volume(project, settings):
            raise RefusedError(f"could not create {new.name}: Storage volume {missing} not found")
        if not pool:
            raise RefusedError(f"could not create {new.name}: No root device could be found")
        self._check_room(new, project, pool, behaviour.size_bytes)
        files = {
            path: GuestFile(content=content)
            for path, content in store.image_files.get(fingerprint, {}).items()
        }
        box = Box(
            name=new.name,
            project=project,
            type=new.type,
            settings=settings,
            guest=Guest(behaviour, files),
            created_at=store.clock(),
            location=self._location(new.target),
            image=fingerprint,
        )
        self._nics.completed(box)
        store.boxes[project, new.name] = box
        store.images[owner, fingerprint] = replace(image, last_used_at=store.clock())
        store.emit_of("instance-created", box, by="")
        return box

    def _idmap(self, new: NewInstance, project: str) -> str:
        expanded = self._store.expanded_config(project, new.settings)
        mapped = new.type == "container" and expanded.get("security.privileged") != "true"
        return IDMAP if mapped else "[]"

    def _location(self, target: str) -> str:
        members = self._store.members
        if not members:
            return "none"
        name = target or next(iter(members))
        if name not in members:
            raise AbsentError(f"no cluster member {name}")
        if members[name].status != "Online":
            raise RefusedError(f"the cluster member {name} is {members[name].status}")
        return name

    def _check_new_name(self, name: str, project: str) -> None:
        if (project, name) in self._store.boxes:
            raise NameTakenError(f'Instance "{name}" already exists', hint="choose another name")

    def _check_profiles(self, profiles: tuple[str, ...], project: str) -> None:
        owner = self._store.owner(project, "profiles")
        for profile in profiles:
            if (owner, profile) not in self._store.profiles:
                raise AbsentError(f"the profile {profile} isn't there")

    def _check_room(self, new: NewInstance, project: str, pool: str, size_bytes: int) -> None:
        store = self._store
        if pool not in store.pools:
            raise RefusedError(f"could not create {new.name}: Storage pool not found")
        limit = store.projects[project].config.get("limits.instances", "")
        count = sum(box.project == project for box in store.boxes.values())
        if limit and count >= int(limit):
            raise LimitReachedError(
                f"could not create {new.name}: reached maximum number of instances in project"
            )
        if store.used_bytes(pool) + size_bytes > store.pool_bytes[pool]:
            raise NoSpaceError(f"could not create {new.name}: no space left on device")

    # ---- writing

    def replace(
        self,
        name: str,
        settings: InstanceSettings,
        *,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        def act() -> None:
            box = self._unchanged(name, project, etag)
            self._write(box, settings)

        self._log.made("instances.replace", name, act, writes=True)

    def patch(
        self,
        name: str,
        *,
        config: Config | None = None,
        devices: Devices | None = None,
        ephemeral: bool | None = None,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        def act() -> None:
            box = self._unchanged(name, project, etag)
            was = box.settings
            now = replace(
                was,
                config={**was.config, **(config or {})},
                devices={**was.devices, **(devices or {})},
                ephemeral=was.ephemeral if ephemeral is None else ephemeral,
            )
            self._write(box, now)

        self._log.made("instances.patch", name, act, writes=True)

    def _unchanged(self, name: str, project: str, etag: str) -> Box:
        box = self._store.box(name, project)
        if etag and etag != etag_of(self._store, project, box.settings):
            raise ChangedMeanwhileError(f"could not write {name}: ETag doesn't match", hint="again")
        return box

    def _write(self, box: Box, settings: InstanceSettings) -> None:
        self._check_profiles(settings.profiles, box.project)
        config = {key: value for key, value in settings.config.items() if value}
        check_config(config)
        before = box.settings.config
        if any(key.startswith(STAYING) and key not in config for key in before):
            raise RefusedError(
                f"could not write {box.name}: Volatile idmap keys can't be deleted by the user"
            )
        cleaned = replace(
            settings,
            config=config,
            devices={key: dict(one) for key, one in settings.devices.items()},
            architecture=settings.architecture or box.settings.architecture,
        )
        # Without any device at all, LXD doesn't miss the root.
        expanded = self._store.expanded_devices(box.project, cleaned)
        if expanded and not root_pool(expanded):
            raise RefusedError(f"could not write {box.name}: No root device could be found")
        check_restrictions(self._store.projects[box.project].config, box.name, cleaned)
        added = {
            key for key in cleaned.devices if cleaned.devices[key] != box.settings.devices.get(key)
        }
        if missing := self._store.missing_volume(box.project, cleaned, added):
            raise RefusedError(f"could not write {box.name}: Storage volume {missing} not found")
        box.settings = self._nics.written(box, cleaned)
        self._store.emit_of("instance-updated", box)

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            check_name(new_name)
            box = self._store.box(name, project)
            self._check_new_name(new_name, project)
            if box.runs:
                raise WrongStateError(f"could not rename {name}: Renaming of running instance")
            del self._store.boxes[project, name]
            box.name = new_name
            box.files_lost = box.files_until is not None
            box.snapshots = [replace(one, instance=new_name) for one in box.snapshots]
            config = {**box.settings.config}
            config["volatile.cloud-init.instance-id"] = self._store.draw_id()
            config.setdefault("volatile.apply_template", "rename")
            box.settings = replace(box.settings, config=config)
            self._store.boxes[project, new_name] = box
            self._store.permissions = tuple(
                replace(one, path=f"/1.0/instances/{new_name}")
                if (one.path, one.project) == (f"/1.0/instances/{name}", project)
                else one
                for one in self._store.permissions
            )
            self._nics.renamed(box)
            self._store.emit_of("instance-renamed", box, old_name=name)

        self._log.made("instances.rename", name, act, writes=True)

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            box = self._store.box(name, project)
            if box.runs:
                raise WrongStateError(f"could not delete {name}: Instance is running")
            expanded = self._store.expanded_config(project, box.settings)
            if expanded.get("security.protection.delete") == "true":
                raise WrongStateError(f"could not delete {name}: Instance is protected")
            del self._store.boxes[project, name]
            self._store.emit_of("instance-deleted", box)

        self._log.made("instances.delete", name, act, writes=True)

    def snapshots(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Snapshot, ...]:
        return self._log.made(
            "instances.snapshots", name, lambda: tuple(self._store.box(name, project).snapshots)
        )

    def backups(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[str, ...]:
        return self._log.made(
            "instances.backups", name, lambda: tuple(self._store.box(name, project).backups)
        )

    def root_volume(self, instance: Instance) -> Volume:
        return self._log.made(
            "instances.root_volume", instance.name, lambda: self._root_volume(instance)
        )

    def _root_volume(self, instance: Instance) -> Volume:
        box = self._store.box(instance.name, instance.project)
        pool = root_pool(self._store.expanded_devices(box.project, box.settings))
        if not pool:
            raise AbsentError(f"{box.name} has no root disk", hint="look at its devices")
        return Volume(
            pool=pool,
            name=box.name,
            project=box.project,
            location=box.location,
            description=box.root_description,
            config=dict(box.root_config),
            used_by=(path_of(box),),
            etag=port_etag(box.name, box.root_description, sorted_config(box.root_config)),
        )

    def edit_root_volume(self, instance: Instance, volume: Volume) -> None:
        def act() -> None:
            compare(volume.etag, self._root_volume(instance).etag, f"the root of {instance.name}")
            for key in volume.config:
                if not key.startswith(("user.", "snapshots.")):
                    raise RefusedError(
                        f'Invalid option for volume "{instance.name}" option "{key}"'
                    )
            box = self._store.box(instance.name, instance.project)
            box.root_config, box.root_description = dict(volume.config), volume.description

        self._log.made("instances.edit_root_volume", instance.name, act, writes=True)
