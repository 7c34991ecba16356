"""``images.json``: what the pages show, for programs. Pure; docs/pages.md describes it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from lxdocker_lxd.serve.pages.image_view import Build, ImageView, VersionView, history, images
from lxdocker_lxd.serve.site import SiteContext

FORMAT = 1


def images_document(context: SiteContext) -> bytes:
    """Return all images with their versions, the newest first; equal views give equal bytes."""
    content = {
        "format": FORMAT,
        "server": context.settings.base_url,
        "remote": context.settings.remote_name,
        "updated_at": _moment(context.catalogue.updated_at),
        "images": [_image(one, context) for one in images(context)],
    }
    return json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _image(image: ImageView, context: SiteContext) -> dict[str, object]:
    return {
        "name": image.name,
        "aliases": image.aliases,
        "description": image.description,
        "properties": dict(image.properties),
        "architectures": {
            build.architecture: list(_versions(build, context)) for build in image.builds
        },
    }


def _versions(build: Build, context: SiteContext) -> Iterator[dict[str, object]]:
    for view in history(build, context):
        yield _version(view)


def _version(view: VersionView) -> dict[str, object]:
    version = view.version
    return {
        "serial": version.serial,
        "state": view.state,
        "takes_over_at": _moment(view.takes_over_at),
        "published_at": _moment(version.published_at),
        "superseded_at": _moment(version.superseded_at),
        "fingerprint": version.fingerprint,
        "format": version.image_format,
        "compression": version.compression,
        "size_bytes": version.size_bytes,
        "rootfs_bytes": version.rootfs_bytes,
        "rootfs_entries": version.rootfs_entries,
        "supervisor": version.supervisor,
        "source": asdict(version.source),
        "layers": [asdict(layer) for layer in version.layers],
        "files": [asdict(file) for file in version.files],
        "runs": asdict(view.config),
        "changes": asdict(view.changes) if view.changes else None,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
