"""The requests that change snapshots of volumes: what is sent, and what a rehearsal shows. Pure."""

from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.request import Request

# LXD's word for a snapshot that stays until it is deleted, whatever ``snapshots.expiry`` says.
_NEVER = "0001-01-01T00:00:00Z"
# LXD answers when the content is back, and some drivers copy every file.
_RESTORE_SECONDS = 6 * 3600.0


def volume_path(pool: str, *name: str) -> str:
    """Return the API path of a pool's custom volumes, of one of them, or below it."""
    return under("storage-pools", pool, "volumes", "custom", *name)


def creating_snapshot(
    pool: str, volume: str, snapshot: str, project: str, *, target: str = ""
) -> Request:
    """Return the request that makes a snapshot of a volume."""
    return Request(
        method="post",
        path=volume_path(pool, volume, "snapshots"),
        doing=f"make the snapshot {snapshot} of the volume {volume} of pool {pool}"
        f" in project {project}",
        params={"project": project, "target": target},
        body={"name": snapshot, "expires_at": _NEVER},
    )


def restoring_snapshot(
    pool: str, volume: str, snapshot: str, project: str, *, target: str = ""
) -> Request:
    """Return the request that gives a volume the content of its snapshot."""
    return Request(
        method="put",
        path=volume_path(pool, volume),
        doing=f"restore the snapshot {snapshot} of the volume {volume} of pool {pool}"
        f" in project {project}",
        params={"project": project, "target": target},
        body={"restore": snapshot},
        answer_seconds=_RESTORE_SECONDS,
    )


def deleting_snapshot(
    pool: str, volume: str, snapshot: str, project: str, *, target: str = ""
) -> Request:
    """Return the request that deletes a snapshot of a volume."""
    return Request(
        method="delete",
        path=volume_path(pool, volume, "snapshots", snapshot),
        doing=f"delete the snapshot {snapshot} of the volume {volume} of pool {pool}"
        f" in project {project}",
        params={"project": project, "target": target},
    )
