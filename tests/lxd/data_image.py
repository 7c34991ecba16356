"""An image like a database's: a user of its own, a volume with first content, a port, a check."""

import gzip
import io
import json
import tarfile
from pathlib import Path

from lxdocker_lxd.annotations import URL, VERSION
from lxdocker_lxd.digest import Digest

USER_ID = 70
VOLUME = "/var/lib/data"
# Leads to VOLUME; images declare such paths, as /var/run.
LINKED_VOLUME = "/srv/link/data"
NOTES = "https://data.example/changes?of=1&and=2"
PORT = 8080
_APPLETS = ("sh", "cat", "echo", "httpd", "id", "ls", "sleep", "stat", "wget", "env")
_ENTRYPOINT = """#!/bin/sh
echo "{version}: started as $(id -u) with: $*"
echo boot >>/var/lib/data/boots
exec httpd -f -p 8080 -h /var/lib/data
"""


def write_data_layout(directory: Path, *, version: str = "1", extra: bytes = b"") -> None:
    """Write an OCI layout with this image under the tag ``1.0``; ``extra`` makes it larger."""
    tar = _layer(version, extra)
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(content: bytes) -> dict[str, object]:
        digest = Digest.of(content)
        (blobs / digest.encoded).write_bytes(content)
        return {"digest": str(digest), "size": len(content)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {
            "Entrypoint": ["/entrypoint"],
            "Cmd": ["from", "image"],
            "Env": ["PATH=/bin"],
            "Labels": {VERSION: version, URL: NOTES},
            "User": f"{USER_ID}:{USER_ID}",
            "Volumes": {LINKED_VOLUME: {}},
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "/bin/wget", "-qO-", f"http://127.0.0.1:{PORT}/first"]},
        },
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar))]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **put(json.dumps(config).encode()),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                **put(gzip.compress(tar, compresslevel=1, mtime=0)),
            }
        ],
    }
    entry = {
        "mediaType": manifest["mediaType"],
        **put(json.dumps(manifest).encode()),
        "annotations": {"org.opencontainers.image.ref.name": "1.0"},
    }
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _layer(version: str, extra: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:

        def add(
            name: str, content: bytes | str | None, *, owner: int = 0, mode: int = 0o755
        ) -> None:
            member = tarfile.TarInfo(name)
            member.uid = member.gid = owner
            member.mode = mode
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

        for name in ("bin", "srv", "var", "var/lib"):
            add(name, None)
        add("srv/link", "../var/./lib")
        add("bin/busybox", Path("/bin/busybox").read_bytes())
        for applet in _APPLETS:
            add(f"bin/{applet}", "busybox")
        add("entrypoint", _ENTRYPOINT.replace("{version}", version).encode())
        add("var/lib/data", None, owner=USER_ID, mode=0o700)
        add("var/lib/data/first", b"the first content\n", owner=USER_ID, mode=0o640)
        add("processes", "/proc")
        pipe = tarfile.TarInfo("pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
        if extra:
            add("extra", extra)
    return stream.getvalue()
