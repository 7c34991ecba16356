"""Small images made on the spot: one layer, an OCI layout, no program needed."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lxdocker_lxd.digest import Digest


def layer_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar with these regular files, mode 0755."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write_layout(
    directory: Path,
    *,
    tag: str,
    files: Mapping[str, bytes],
    entrypoint: Sequence[str],
    architecture: str = "amd64",
    config: Mapping[str, object] | None = None,
) -> Digest:
    """Add an image with one layer to the OCI layout in ``directory``; return its manifest digest."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(content: bytes) -> dict[str, object]:
        digest = Digest.of(content)
        (blobs / digest.encoded).write_bytes(content)
        return {"digest": str(digest), "size": len(content)}

    tar = layer_of(files)
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {"Entrypoint": list(entrypoint), **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar))]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **put(json.dumps(document).encode()),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                **put(gzip.compress(tar, mtime=0)),
            }
        ],
    }
    placed = put(json.dumps(manifest).encode())
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index_file = directory / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {"manifests": []}
    others = [
        entry
        for entry in index["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] != tag
    ]
    entry = {
        "mediaType": manifest["mediaType"],
        **placed,
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    index_file.write_text(json.dumps({"schemaVersion": 2, "manifests": [*others, entry]}))
    return Digest.parse(str(placed["digest"]))
