"""Profiles and projects of the simulated LXD: their ports."""

from collections.abc import Mapping
from dataclasses import replace

from lxdocker_lxd.lxd.failures import AbsentError, InUseError, NameTakenError, WrongStateError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.resources import Profile, Project, Usage
from tests.harness.simulated.port import Port, compare, etag_of, path_of, sorted_config
from tests.harness.simulated.store import Box

_LIMITED = (
    "containers",
    "cpu",
    "disk",
    "instances",
    "memory",
    "networks",
    "processes",
    "virtual-machines",
)


class SimulatedProfiles(Port):
    """Implements the port ``Profiles``."""

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Profile, ...]:
        def act() -> tuple[Profile, ...]:
            owner = self._store.owner(project, "profiles")
            return tuple(
                replace(self._record(name, project), etag="")
                for where, name in sorted(self._store.profiles)
                if where == owner
            )

        return self._log.made("profiles.list", project, act)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Profile:
        return self._log.made("profiles.get", name, lambda: self._record(name, project))

    def _record(self, name: str, project: str) -> Profile:
        key = (self._store.owner(project, "profiles"), name)
        if key not in self._store.profiles:
            raise AbsentError(f"profile {name} of project {project}: not found", hint="list them")
        held = self._store.profiles[key]
        users = tuple(
            path_of(box)
            for box in self._store.boxes.values()
            if name in box.settings.profiles
            and self._store.owner(box.project, "profiles") == key[0]
        )
        devices = sorted((one, sorted_config(device)) for one, device in held.devices.items())
        etag = etag_of(held.description, sorted_config(held.config), devices)
        return replace(held, used_by=users, etag=etag)

    def create(self, profile: Profile) -> None:
        def act() -> None:
            key = (self._store.owner(profile.project, "profiles"), profile.name)
            if key in self._store.profiles:
                raise NameTakenError(
                    f"Profile {profile.name!r} already exists", hint="another name"
                )
            self._store.profiles[key] = replace(profile, project=key[0], used_by=(), etag="")
            self._store.emit("profile-created", "profile", profile.name, key[0])

        self._log.made("profiles.create", profile.name, act, writes=True)

    def edit(self, profile: Profile) -> None:
        def act() -> None:
            held = self._record(profile.name, profile.project)
            compare(profile.etag, held.etag, profile.name)
            self._store.profiles[held.project, held.name] = replace(
                held,
                description=profile.description,
                config=dict(profile.config),
                devices={key: dict(one) for key, one in profile.devices.items()},
            )
            self._store.emit("profile-updated", "profile", profile.name, held.project)

        self._log.made("profiles.edit", profile.name, act, writes=True)

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            held = self._record(name, project)
            if name == DEFAULT_PROJECT:
                raise WrongStateError('The "default" profile cannot be deleted')
            if held.used_by:
                raise InUseError("Profile is currently in use", hint="take it off")
            del self._store.profiles[held.project, name]
            self._store.emit("profile-deleted", "profile", name, held.project)

        self._log.made("profiles.delete", name, act, writes=True)


class SimulatedProjects(Port):
    """Implements the port ``Projects``."""

    def list(self) -> tuple[Project, ...]:
        return self._log.made(
            "projects.list",
            "",
            lambda: tuple(replace(self._record(name), etag="") for name in self._store.projects),
        )

    def get(self, name: str) -> Project:
        return self._log.made("projects.get", name, lambda: self._record(name))

    def _record(self, name: str) -> Project:
        if name not in self._store.projects:
            raise AbsentError(f"project {name}: not found", hint="list them")
        held = self._store.projects[name]
        users = [path_of(box) for box in self._store.boxes.values() if box.project == name]
        users += [
            f"/1.0/images/{image.fingerprint}?project={name}"
            for image in self._store.images.values()
            if image.project == name
        ]
        users += [
            f"/1.0/profiles/{profile}?project={name}"
            for where, profile in self._store.profiles
            if where == name
        ]
        etag = etag_of(held.description, sorted_config(held.config))
        return replace(held, used_by=tuple(users), etag=etag)

    def usage(self, name: str) -> Mapping[str, Usage]:
        def act() -> Mapping[str, Usage]:
            held = self._record(name)
            boxes = [box for box in self._store.boxes.values() if box.project == name]
            count = {"instances": len(boxes)}
            count["containers"] = sum(box.type == "container" for box in boxes)
            count["memory"] = sum(self._memory_bytes(box) for box in boxes)
            return {
                resource: Usage(
                    resource=resource,
                    used=count.get(resource, 0),
                    limit=int(held.config[f"limits.{resource}"])
                    if f"limits.{resource}" in held.config
                    else None,
                )
                for resource in _LIMITED
            }

        return self._log.made("projects.usage", name, act)

    def _memory_bytes(self, box: Box) -> int:
        """What the instance may use, as LXD counts it towards the project's limit, running or not."""
        text = self._store.expanded_config(box.project, box.settings).get("limits.memory", "")
        return int(text.removesuffix("GiB") or 0) << 30 if text.endswith("GiB") else int(text or 0)

    def create(self, project: Project) -> None:
        def act() -> None:
            if project.name in self._store.projects:
                raise NameTakenError(
                    f"Project {project.name!r} already exists", hint="another name"
                )
            features = {f"features.{one}": "true" for one in ("images", "profiles")}
            features["features.storage.volumes"] = "true"
            config = {**features, **project.config}
            self._store.projects[project.name] = replace(
                project, config=config, used_by=(), etag=""
            )
            if config["features.profiles"] == "true":
                key = (project.name, "default")
                self._store.profiles[key] = Profile(name="default", project=project.name)
            self._store.emit("project-created", "project", project.name)

        self._log.made("projects.create", project.name, act, writes=True)

    def edit(self, project: Project) -> None:
        def act() -> None:
            held = self._record(project.name)
            compare(project.etag, held.etag, project.name)
            self._store.projects[project.name] = replace(
                held, description=project.description, config=dict(project.config)
            )
            self._store.emit("project-updated", "project", project.name)

        self._log.made("projects.edit", project.name, act, writes=True)

    def delete(self, name: str) -> None:
        def act() -> None:
            users = [path for path in self._record(name).used_by if "/profiles/default" not in path]
            if users:
                raise InUseError("Only empty projects can be removed", hint="empty it")
            del self._store.projects[name]
            self._store.profiles.pop((name, "default"), None)
            self._store.emit("project-deleted", "project", name)

        self._log.made("projects.delete", name, act, writes=True)
