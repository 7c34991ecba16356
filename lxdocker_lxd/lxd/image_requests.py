"""The requests that fetch and refresh images: what the adapter sends, and a rehearsal shows. Pure."""

from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import UpdateSource
from lxdocker_lxd.lxd.request import Request


def pulling(source: UpdateSource, project: str, *, auto_update: bool, public: bool) -> Request:
    """Return the request that lets the daemon fetch an image by alias."""
    given = {
        "type": "image",
        "mode": "pull",
        "server": source.server,
        "protocol": source.protocol,
        "alias": source.alias,
        "certificate": source.certificate,
        "image_type": source.image_type,
    }
    return Request(
        method="post",
        path="images",
        doing=f"fetch the image {source.alias} from {source.server}",
        params={"project": project},
        body={"source": given, "auto_update": auto_update, "public": public},
    )


def refreshing(fingerprint: str, project: str) -> Request:
    """Return the request that lets LXD look for a newer image now."""
    return Request(
        method="post",
        path=under("images", fingerprint, "refresh"),
        doing=f"refresh the image {fingerprint[:12]} of project {project}",
        params={"project": project},
    )


def deleting(fingerprint: str, project: str) -> Request:
    """Return the request that deletes an image."""
    return Request(
        method="delete",
        path=under("images", fingerprint),
        doing=f"delete the image {fingerprint[:12]} of project {project}",
        params={"project": project},
    )
