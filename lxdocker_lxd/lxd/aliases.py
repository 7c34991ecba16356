"""Local names of images.

LXD 5.0.2 fails each PATCH of an alias after 20 s (a transaction inside a transaction), so moving is
a PUT of all there is.
"""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Alias
from lxdocker_lxd.lxd.request import Request


class LxdAliases:
    """Implements the port :class:`Aliases`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Alias, ...]:
        """All aliases the project sees."""
        doing = f"list the image aliases of project {project}"
        answer = self._api.read("images/aliases", doing, recursion="1", project=project)
        return tuple(decoding.alias(item, project=project) for item in answer.documents)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Alias:
        """One alias."""
        doing = f"read the image alias {name!r} of project {project}"
        answer = self._api.read(under("images", "aliases", name), doing, project=project)
        return decoding.alias(answer.document, project=project, etag=answer.etag)

    def create(
        self, name: str, fingerprint: str, *, project: str = DEFAULT_PROJECT, description: str = ""
    ) -> None:
        """Give an image a name."""
        self._api.send(
            Request(
                method="post",
                path="images/aliases",
                doing=f"name the image {fingerprint[:12]} {name!r} in project {project}",
                params={"project": project},
                body={"name": name, "target": fingerprint, "description": description},
            )
        )

    def move(self, alias: Alias, fingerprint: str) -> None:
        """Point an alias to another image."""
        self._api.send(
            Request(
                method="put",
                path=under("images", "aliases", alias.name),
                doing=f"move the image alias {alias.name!r} to {fingerprint[:12]}",
                params={"project": alias.project},
                body={"target": fingerprint, "description": alias.description},
                etag=alias.etag,
            )
        )

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Rename an alias."""
        self._api.send(
            Request(
                method="post",
                path=under("images", "aliases", name),
                doing=f"rename the image alias {name!r} to {new_name!r}",
                params={"project": project},
                body={"name": new_name},
            )
        )

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Remove a name."""
        self._api.send(
            Request(
                method="delete",
                path=under("images", "aliases", name),
                doing=f"remove the image alias {name!r} of project {project}",
                params={"project": project},
            )
        )
