"""The daemon and what it tells of itself, as frozen records; the rules of ``records`` hold."""

from dataclasses import dataclass, field
from datetime import datetime

from lxdocker_lxd.lxd.records import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The daemon: what it is, what it can do, how it is set.

    ``product`` is ``lxd`` or ``incus``. ``certificate`` is the server's own, in PEM.
    ``config`` is empty when the connection isn't trusted.
    """

    product: str
    version: str
    api_version: str
    trusted: bool
    name: str
    clustered: bool
    extensions: frozenset[str]
    architectures: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    certificate: str = ""
    certificate_fingerprint: str = ""
    kernel_version: str = ""
    storage_drivers: tuple[str, ...] = ()
    config: Config = field(default_factory=dict)
    etag: str = ""

    def supports(self, extension: str) -> bool:
        """Whether the API has this extension."""
        return extension in self.extensions


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a cluster; ``status`` is ``Online``, ``Offline``, ``Evacuated``…"""

    name: str
    url: str
    status: str
    message: str = ""
    architecture: str = ""
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something LXD is doing in the background, or did up to five seconds ago.

    ``resources`` are API paths of what it works on.
    """

    id: str
    description: str
    status: str
    project: str
    location: str
    may_cancel: bool
    error: str = ""
    resources: tuple[str, ...] = ()
    created_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in {"Success", "Failure", "Cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What a group of identities may do with one thing; ``path`` is the API's, without its query.

    LXD keeps it with the thing, whatever that is renamed to, and drops it with it.
    """

    group: str
    entitlement: str
    kind: str
    path: str
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleEvent:
    """Something happened in LXD: a hint to look, never the truth itself.

    ``action`` is LXD's word (``image-created``), ``kind`` and ``name`` say to what: ``instance``,
    ``image``, ``image-alias``, ``profile``, ``network``, ``project``, ``storage-volume``… ``detail``
    names what is inside it, as a snapshot of an instance. ``old_name`` is set for renames,
    ``target`` for aliases. ``by`` is who asked, empty for LXD's own work.
    """

    action: str
    kind: str
    name: str
    project: str
    location: str
    detail: str = ""
    old_name: str = ""
    target: str = ""
    by: str = ""
    at: datetime | None = None
