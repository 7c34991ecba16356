"""Catalogue records for tests, with everything that doesn't matter filled in."""

import hashlib
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.catalogue import (
    FileRole,
    Product,
    PublishedFile,
    PublishedLayer,
    RebuildInputs,
    SourceImage,
    Version,
)

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def hours(count: float) -> datetime:
    return START + timedelta(hours=count)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def published_file(role: FileRole, content: str) -> PublishedFile:
    digest = sha256(content)
    return PublishedFile(
        role=role, path=f"images/{digest}.{role}", sha256=digest, size_bytes=len(content)
    )


def version(content: str, *, serial: str = "20260301_120000", at: datetime = START) -> Version:
    """A version whose two files hold ``meta CONTENT`` and ``root CONTENT``."""
    return Version(
        serial=serial,
        fingerprint=sha256(f"meta {content}root {content}"),
        published_at=at,
        image_format="squashfs",
        compression="zstd:7",
        rebuild_key=f"key of {content}",
        inputs=RebuildInputs(
            manifest_digest=f"sha256:{sha256(content)}",
            spec_digest="sha256:" + "1" * 64,
            guest_digest="sha256:" + "2" * 64,
            packer="mksquashfs",
        ),
        source=SourceImage(
            reference="docker.io/library/web:latest",
            top_digest=f"sha256:{sha256(content)}",
            manifest_digest=f"sha256:{sha256(content)}",
            config_digest="sha256:" + "3" * 64,
            platform="linux/amd64",
            created=None,
        ),
        layers=(
            PublishedLayer(
                digest="sha256:" + "4" * 64,
                diff_id="sha256:" + "5" * 64,
                media_type="application/vnd.oci.image.layer.v1.tar",
                size_bytes=1,
            ),
        ),
        files=(
            published_file("metadata", f"meta {content}"),
            published_file("rootfs", f"root {content}"),
        ),
        rootfs_bytes=10,
        rootfs_entries=2,
        supervisor=True,
        config={"Cmd": ["/bin/web"], "Healthcheck": {"Test": ["CMD", "x"], "Retries": 3}},
    )


def product(*versions: Version, name: str = "web", architecture: str = "amd64") -> Product:
    return Product(
        name=name,
        architecture=architecture,
        aliases=("www",),
        description="A web server",
        properties={"team": "web"},
        versions=versions,
    )
