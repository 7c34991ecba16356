"""What can be asked of LXD: small protocols, implemented by the adapter and by the simulated LXD.

Everywhere:

* ``project`` is a project's name; where it may be None, None means every project.
* ``etag`` makes a write conditional: ChangedMeanwhileError when the object isn't as it was read.
  Empty writes in any case.
* A method returns when LXD has finished. An absent object is AbsentError, a taken name
  NameTakenError, a busy object BusyError (after a few tries), a lost answer UnknownOutcomeError:
  then only a fresh read tells what happened. The other failures are in ``failures``.
* ``timeout_seconds`` bounds our waiting, not LXD's work; None waits as long as LXD lives.
* Records of lists carry no ETag; read the single object before a conditional write.
"""

from typing import Protocol

from lxdocker_lxd.lxd.image_ports import Aliases, Images, OnTransfer
from lxdocker_lxd.lxd.instance_ports import Guests, Instances, Power
from lxdocker_lxd.lxd.resource_ports import Networks, Pools, Profiles, Projects, Volumes
from lxdocker_lxd.lxd.server_ports import Events, EventStream, Server

__all__ = [
    "Aliases",
    "EventStream",
    "Events",
    "Guests",
    "Images",
    "Instances",
    "Lxd",
    "Networks",
    "OnTransfer",
    "Pools",
    "Power",
    "Profiles",
    "Projects",
    "Server",
    "Volumes",
]


class Lxd(Protocol):
    """One LXD: all of its ports."""

    @property
    def server(self) -> Server:
        """The daemon itself."""
        ...

    @property
    def images(self) -> Images:
        """The image store."""
        ...

    @property
    def aliases(self) -> Aliases:
        """Names of images."""
        ...

    @property
    def instances(self) -> Instances:
        """Instances as objects."""
        ...

    @property
    def power(self) -> Power:
        """What instances do."""
        ...

    @property
    def guests(self) -> Guests:
        """What is inside instances."""
        ...

    @property
    def volumes(self) -> Volumes:
        """Custom storage volumes."""
        ...

    @property
    def pools(self) -> Pools:
        """Storage pools."""
        ...

    @property
    def networks(self) -> Networks:
        """Networks."""
        ...

    @property
    def profiles(self) -> Profiles:
        """Profiles."""
        ...

    @property
    def projects(self) -> Projects:
        """Projects."""
        ...

    @property
    def events(self) -> Events:
        """Lifecycle events."""
        ...
