"""LXD's JSON documents as records, one function for each; nothing else knows LXD's field names.

The project is handed in where LXD leaves it out.
"""

from urllib.parse import parse_qs, urlsplit

from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Address,
    Alias,
    Image,
    Instance,
    InstanceState,
    Snapshot,
    UpdateSource,
)
from lxdocker_lxd.lxd.resources import (
    Lease,
    Network,
    PoolSpace,
    Profile,
    Project,
    StoragePool,
    Usage,
    Volume,
    VolumeSnapshot,
)
from lxdocker_lxd.lxd.server_records import Member, Operation, Permission, ServerInfo


def image(document: Document, *, project: str, etag: str = "") -> Image:
    """One image of the store."""
    return Image(
        fingerprint=document.needed("fingerprint", "an image"),
        project=document.text("project") or project,
        type=document.text("type") or "container",
        architecture=document.text("architecture"),
        size_bytes=document.number("size"),
        filename=document.text("filename"),
        public=document.flag("public"),
        cached=document.flag("cached"),
        auto_update=document.flag("auto_update"),
        aliases=tuple(alias.text("name") for alias in document.parts("aliases")),
        profiles=document.texts("profiles"),
        properties=document.config("properties"),
        update_source=_update_source(document),
        created_at=document.time("created_at"),
        uploaded_at=document.time("uploaded_at"),
        last_used_at=document.time("last_used_at"),
        expires_at=document.time("expires_at"),
        etag=etag,
    )


def _update_source(document: Document) -> UpdateSource | None:
    source = document.part("update_source")
    if not source.text("alias"):
        return None
    return UpdateSource(
        server=source.text("server"),
        alias=source.text("alias"),
        protocol=source.text("protocol"),
        certificate=source.text("certificate"),
        image_type=source.text("image_type") or document.text("type") or "container",
    )


def alias(document: Document, *, project: str, etag: str = "") -> Alias:
    """One name of an image."""
    return Alias(
        name=document.needed("name", "an image alias"),
        fingerprint=document.needed("target", "an image alias"),
        project=project,
        type=document.text("type") or "container",
        description=document.text("description"),
        etag=etag,
    )


def instance(document: Document, *, etag: str = "") -> Instance:
    """One container or virtual machine."""
    return Instance(
        name=document.needed("name", "an instance"),
        project=document.text("project") or DEFAULT_PROJECT,
        status=document.text("status"),
        location=document.text("location") or "none",
        type=document.text("type") or "container",
        architecture=document.text("architecture"),
        ephemeral=document.flag("ephemeral"),
        stateful=document.flag("stateful"),
        description=document.text("description"),
        profiles=document.texts("profiles"),
        config=document.config("config"),
        devices=document.devices("devices"),
        expanded_config=document.config("expanded_config"),
        expanded_devices=document.devices("expanded_devices"),
        created_at=document.time("created_at"),
        last_used_at=document.time("last_used_at"),
        etag=etag,
    )


def instance_state(document: Document) -> InstanceState:
    """What an instance is doing."""
    network = document.part("network")
    interfaces = {name: network.part(name) for name in network.names()}
    return InstanceState(
        status=document.text("status"),
        process_id=document.number("pid"),
        processes=document.number("processes"),
        memory_bytes=document.part("memory").number("usage"),
        addresses=tuple(
            Address(
                interface=name,
                family=address.text("family"),
                address=address.text("address"),
                netmask=address.text("netmask"),
                scope=address.text("scope"),
            )
            for name, interface in interfaces.items()
            for address in interface.parts("addresses")
        ),
        hardware_addresses={
            name: interface.text("hwaddr")
            for name, interface in interfaces.items()
            if interface.text("hwaddr")
        },
    )


def snapshot(document: Document, *, instance_name: str) -> Snapshot:
    """One snapshot of an instance."""
    return Snapshot(
        instance=instance_name,
        name=document.needed("name", "a snapshot").rpartition("/")[2],
        stateful=document.flag("stateful"),
        created_at=document.time("created_at"),
        expires_at=document.time("expires_at"),
    )


def volume(document: Document, *, pool: str, project: str, etag: str = "") -> Volume:
    """One custom volume."""
    return Volume(
        pool=pool,
        name=document.needed("name", "a storage volume"),
        project=document.text("project") or project,
        content_type=document.text("content_type") or "filesystem",
        location=document.text("location"),
        description=document.text("description"),
        config=document.config("config"),
        used_by=document.texts("used_by"),
        etag=etag,
    )


def volume_snapshot(
    document: Document, *, pool: str, volume_name: str, project: str
) -> VolumeSnapshot:
    """One snapshot of a custom volume."""
    return VolumeSnapshot(
        pool=pool,
        volume=volume_name,
        name=document.needed("name", "a snapshot of a volume").rpartition("/")[2],
        project=project,
        created_at=document.time("created_at"),
        expires_at=document.time("expires_at"),
        config=document.config("config"),
    )


def pool(document: Document, *, etag: str = "") -> StoragePool:
    """One storage pool."""
    return StoragePool(
        name=document.needed("name", "a storage pool"),
        driver=document.text("driver"),
        status=document.text("status"),
        description=document.text("description"),
        config=document.config("config"),
        used_by=document.texts("used_by"),
        locations=document.texts("locations"),
        etag=etag,
    )


def pool_space(document: Document) -> PoolSpace:
    """How full a pool is."""
    space, inodes = document.part("space"), document.part("inodes")
    return PoolSpace(
        used_bytes=space.number("used"),
        total_bytes=space.number("total"),
        used_inodes=inodes.number("used"),
        total_inodes=inodes.number("total"),
    )


def network(document: Document, *, project: str, etag: str = "") -> Network:
    """One network."""
    return Network(
        name=document.needed("name", "a network"),
        project=document.text("project") or project,
        type=document.text("type"),
        managed=document.flag("managed"),
        status=document.text("status"),
        description=document.text("description"),
        config=document.config("config"),
        used_by=document.texts("used_by"),
        locations=document.texts("locations"),
        etag=etag,
    )


def lease(document: Document) -> Lease:
    """One address given out."""
    return Lease(
        hostname=document.text("hostname"),
        hardware_address=document.text("hwaddr"),
        address=document.text("address"),
        type=document.text("type"),
        location=document.text("location"),
    )


def profile(document: Document, *, project: str, etag: str = "") -> Profile:
    """One profile."""
    return Profile(
        name=document.needed("name", "a profile"),
        project=document.text("project") or project,
        description=document.text("description"),
        config=document.config("config"),
        devices=document.devices("devices"),
        used_by=document.texts("used_by"),
        etag=etag,
    )


def project(document: Document, *, etag: str = "") -> Project:
    """One project."""
    return Project(
        name=document.needed("name", "a project"),
        description=document.text("description"),
        config=document.config("config"),
        used_by=document.texts("used_by"),
        etag=etag,
    )


def project_usage(document: Document) -> dict[str, Usage]:
    """Use of a project's limited resources. LXD 5.0 writes the fields with capitals."""
    found = {}
    resources = document.part("resources")
    for resource in resources.names():
        numbers = resources.part(resource)
        used, limit = (
            numbers.number(name) if name in numbers else numbers.number(name.lower())
            for name in ("Usage", "Limit")
        )
        found[resource] = Usage(resource=resource, used=used, limit=None if limit < 0 else limit)
    return found


def server_info(document: Document, *, etag: str = "") -> ServerInfo:
    """The daemon; ``config`` holds only what an administrator has set."""
    environment = document.part("environment")
    product = environment.text("server")
    drivers = [driver.text("Name") for driver in environment.parts("storage_supported_drivers")]
    return ServerInfo(
        product=product if product in {"lxd", "incus"} else "lxd",
        version=environment.text("server_version"),
        api_version=document.text("api_version"),
        trusted=document.text("auth") == "trusted",
        name=environment.text("server_name"),
        clustered=environment.flag("server_clustered"),
        extensions=frozenset(document.texts("api_extensions")),
        architectures=environment.texts("architectures"),
        addresses=environment.texts("addresses"),
        certificate=environment.text("certificate"),
        certificate_fingerprint=environment.text("certificate_fingerprint"),
        kernel_version=environment.text("kernel_version"),
        storage_drivers=tuple(sorted(driver for driver in drivers if driver)),
        config=document.config("config"),
        etag=etag,
    )


def member(document: Document) -> Member:
    """One member of a cluster."""
    return Member(
        name=document.needed("server_name", "a cluster member"),
        url=document.text("url"),
        status=document.text("status"),
        message=document.text("message"),
        architecture=document.text("architecture"),
        roles=document.texts("roles"),
        groups=document.texts("groups"),
    )


def operation(document: Document, *, project_name: str) -> Operation:
    """One operation."""
    resources = document.part("resources")
    return Operation(
        id=document.needed("id", "an operation"),
        description=document.text("description"),
        status=document.text("status"),
        project=project_name,
        location=document.text("location"),
        may_cancel=document.flag("may_cancel"),
        error=document.text("err"),
        resources=tuple(path for kind in resources.names() for path in resources.texts(kind)),
        created_at=document.time("created_at"),
    )


def permissions(document: Document) -> tuple[Permission, ...]:
    """What one group of identities may do."""
    name = document.needed("name", "a group of identities")
    found = []
    for item in document.parts("permissions"):
        parts = urlsplit(item.text("url"))
        found.append(
            Permission(
                group=name,
                entitlement=item.text("entitlement"),
                kind=item.text("entity_type"),
                path=parts.path,
                project=parse_qs(parts.query).get("project", [DEFAULT_PROJECT])[0],
            )
        )
    return tuple(found)
