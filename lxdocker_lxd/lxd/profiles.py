"""Profiles, and the projects that hold them."""

from collections.abc import Mapping

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import Profile, Project, Usage


class LxdProfiles:
    """Implements the port :class:`Profiles`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Profile, ...]:
        """All profiles the project sees."""
        doing = f"list the profiles of project {project}"
        answer = self._api.read("profiles", doing, recursion="1", project=project)
        return tuple(decoding.profile(item, project=project) for item in answer.documents)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Profile:
        """One profile."""
        doing = f"read the profile {name} of project {project}"
        answer = self._api.read(under("profiles", name), doing, project=project)
        return decoding.profile(answer.document, project=project, etag=answer.etag)

    def create(self, profile: Profile) -> None:
        """Make a profile."""
        self._operations.run(
            Request(
                method="post",
                path="profiles",
                doing=f"make the profile {profile.name} in project {profile.project}",
                params={"project": profile.project},
                body={"name": profile.name, **_written(profile)},
            )
        )

    def edit(self, profile: Profile) -> None:
        """Write description, config and devices."""
        self._operations.run(
            Request(
                method="put",
                path=under("profiles", profile.name),
                doing=f"edit the profile {profile.name} of project {profile.project}",
                params={"project": profile.project},
                body=_written(profile),
                etag=profile.etag,
            )
        )

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete an unused profile."""
        self._operations.run(
            Request(
                method="delete",
                path=under("profiles", name),
                doing=f"delete the profile {name} of project {project}",
                params={"project": project},
            )
        )


def _written(profile: Profile) -> dict[str, object]:
    return {
        "description": profile.description,
        "config": dict(profile.config),
        "devices": {key: dict(device) for key, device in profile.devices.items()},
    }


class LxdProjects:
    """Implements the port :class:`Projects`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self) -> tuple[Project, ...]:
        """All projects."""
        answer = self._api.read("projects", "list the projects", recursion="1")
        return tuple(decoding.project(item) for item in answer.documents)

    def get(self, name: str) -> Project:
        """One project."""
        answer = self._api.read(under("projects", name), f"read the project {name}")
        return decoding.project(answer.document, etag=answer.etag)

    def usage(self, name: str) -> Mapping[str, Usage]:
        """What the project uses of each limited resource."""
        doing = f"read what the project {name} uses"
        answer = self._api.read(under("projects", name, "state"), doing)
        return decoding.project_usage(answer.document)

    def create(self, project: Project) -> None:
        """Make a project."""
        self._operations.run(
            Request(
                method="post",
                path="projects",
                doing=f"make the project {project.name}",
                body={
                    "name": project.name,
                    "description": project.description,
                    "config": dict(project.config),
                },
            )
        )

    def edit(self, project: Project) -> None:
        """Write description and config."""
        self._operations.run(
            Request(
                method="put",
                path=under("projects", project.name),
                doing=f"edit the project {project.name}",
                body={"description": project.description, "config": dict(project.config)},
                etag=project.etag,
            )
        )

    def delete(self, name: str) -> None:
        """Delete an empty project."""
        self._operations.run(
            Request(
                method="delete",
                path=under("projects", name),
                doing=f"delete the project {name}",
            )
        )
