"""Networks and the addresses they have given out."""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import Lease, Network


class LxdNetworks:
    """Implements the port :class:`Networks`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Network, ...]:
        """All networks and host interfaces."""
        doing = f"list the networks of project {project}"
        answer = self._api.read("networks", doing, recursion="1", project=project)
        return tuple(decoding.network(item, project=project) for item in answer.documents)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Network:
        """One network."""
        doing = f"read the network {name} of project {project}"
        answer = self._api.read(under("networks", name), doing, project=project)
        return decoding.network(answer.document, project=project, etag=answer.etag)

    def leases(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Lease, ...]:
        """Addresses given out."""
        doing = f"list the leases of the network {name} of project {project}"
        answer = self._api.read(under("networks", name, "leases"), doing, project=project)
        return tuple(decoding.lease(item) for item in answer.documents)

    def create(self, network: Network) -> None:
        """Make a network."""
        self._operations.run(
            Request(
                method="post",
                path="networks",
                doing=f"make the network {network.name} in project {network.project}",
                params={"project": network.project},
                body={
                    "name": network.name,
                    "type": network.type,
                    "description": network.description,
                    "config": dict(network.config),
                },
            )
        )

    def edit(self, network: Network) -> None:
        """Write description and config."""
        self._operations.run(
            Request(
                method="put",
                path=under("networks", network.name),
                doing=f"edit the network {network.name} of project {network.project}",
                params={"project": network.project},
                body={"description": network.description, "config": dict(network.config)},
                etag=network.etag,
            )
        )

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete an unused network."""
        self._operations.run(
            Request(
                method="delete",
                path=under("networks", name),
                doing=f"delete the network {name} of project {project}",
                params={"project": project},
            )
        )
