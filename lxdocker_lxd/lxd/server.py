"""The daemon itself: what it is, its settings, its members and operations."""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.document import Document, documents
from lxdocker_lxd.lxd.failures import AbsentError, WrongStateError
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.server_records import Member, Operation, Permission, ServerInfo
from lxdocker_lxd.lxd.server_requests import configuring


class LxdServer:
    """Implements the port :class:`Server`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def info(self) -> ServerInfo:
        """Ask what the daemon is."""
        answer = self._api.read("", "read what LXD is")
        return decoding.server_info(answer.document, etag=answer.etag)

    def configure(self, changes: Config, *, etag: str = "") -> None:
        """Set server keys."""
        self._operations.run(configuring(changes, etag=etag))

    def members(self) -> tuple[Member, ...]:
        """The cluster's members."""
        if not self.info().clustered:
            return ()
        answer = self._api.read("cluster/members", "list the cluster's members", recursion="1")
        return tuple(decoding.member(item) for item in answer.documents)

    def operations(self, *, project: str | None = None) -> tuple[Operation, ...]:
        """What runs in the background."""
        # LXD 5.0 can't list the operations of all projects in one answer.
        names = [project] if project else self._projects()
        # Work of the whole server is listed in every project.
        found = [operation for name in names for operation in self._operations_of(name)]
        return tuple({operation.id: operation for operation in reversed(found)}.values())

    def _projects(self) -> list[str]:
        answer = self._api.read("projects", "list the projects", recursion="1")
        return [item.needed("name", "a project") for item in answer.documents]

    def _operations_of(self, project: str) -> list[Operation]:
        answer = self._api.read(
            "operations",
            f"list the operations of project {project}",
            recursion="1",
            project=project,
        )
        by_status = Document(answer.value)
        return [
            decoding.operation(item, project_name=project)
            for _, listed in by_status.items()
            for item in documents(listed)
        ]

    def permissions(self) -> tuple[Permission, ...]:
        """What groups of identities may do."""
        try:
            answer = self._api.read(
                "auth/groups", "list the groups of identities and what they may do", recursion="1"
            )
        except AbsentError:
            return ()
        return tuple(one for item in answer.documents for one in decoding.permissions(item))

    def cancel(self, operation_id: str) -> None:
        """Ask an operation to stop."""
        try:
            self._api.send(
                Request(
                    method="delete",
                    path=under("operations", operation_id),
                    doing=f"cancel the operation {operation_id}",
                )
            )
        except (AbsentError, WrongStateError):
            return
