"""Starting, stopping and freezing instances.

A stop without ``force`` asks the guest, and LXD's own default waits for ever; so each stop here says
how long. LXD's answer to a late guest and to a failed start is a sentence; what counts is that the
instance still runs, or doesn't.
"""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.failures import (
    InUseError,
    NameTakenError,
    RefusedError,
    StartFailedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.instance_requests import changing_power
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, InstanceState


class LxdPower:
    """Implements the port :class:`Power`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def state(self, name: str, *, project: str = DEFAULT_PROJECT) -> InstanceState:
        """What the instance is doing now."""
        doing = f"read the state of the instance {name} of project {project}"
        answer = self._api.read(under("instances", name, "state"), doing, project=project)
        return decoding.instance_state(answer.document)

    def start(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Start a stopped instance."""
        try:
            self._change("start", name, project)
        except (RefusedError, NameTakenError, InUseError, WrongStateError) as error:
            if "already running" in error.message:
                raise
            # Only a start is asked here, so whatever has no reason of its own is a failed one;
            # a sentence on something that "is not running" speaks of what the start needs.
            raise StartFailedError(
                error.message,
                hint=f"`lxc info {name} --show-log` and `lxc console {name} --show-log` tell more",
            ) from error

    def stop(self, name: str, *, timeout_seconds: int = 30, project: str = DEFAULT_PROJECT) -> None:
        """Ask the guest to shut down."""
        self._change("stop", name, project, timeout_seconds=timeout_seconds)

    def kill(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Stop at once."""
        self._change("stop", name, project, force=True)

    def freeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Freeze a running instance."""
        self._change("freeze", name, project)

    def unfreeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Let a frozen instance go on."""
        self._change("unfreeze", name, project)

    def _change(
        self,
        action: str,
        name: str,
        project: str,
        *,
        force: bool = False,
        timeout_seconds: int = 30,
    ) -> None:
        self._operations.run(
            changing_power(action, name, project, force=force, timeout_seconds=timeout_seconds)
        )
