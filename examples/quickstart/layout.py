"""Make a small web server's image on the spot: busybox httpd with one page, as an OCI layout.

python3 layout.py DIRECTORY BUSYBOX

Standard library only and no network, so that the quick start works anywhere. The image is what a
registry would hand out: a gzip layer, a configuration, a manifest and an index. It has no shell,
no /etc/passwd, a user of its own and port 80.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

TAG = "latest"
USER = 1000
PAGE = b"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>It runs</title>
<h1>It runs</h1>
<p>This page comes from an OCI image, converted by lxdocker-lxd, in a plain LXD container.</p>
</html>
"""


def write_layout(directory: Path, busybox: Path) -> None:
    """Write the image's layout into ``directory``, with this static ``busybox`` as its server."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(content: bytes) -> dict[str, object]:
        encoded = hashlib.sha256(content).hexdigest()
        (blobs / encoded).write_bytes(content)
        return {"digest": f"sha256:{encoded}", "size": len(content)}

    layer = _layer(busybox.read_bytes())
    configuration = {
        "architecture": _architecture(busybox),
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {
            "Entrypoint": ["/bin/busybox", "httpd", "-f", "-v"],
            "Cmd": ["-p", "80", "-h", "/www"],
            "User": str(USER),
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **put(json.dumps(configuration).encode()),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                **put(gzip.compress(layer, compresslevel=1, mtime=0)),
            },
        ],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": manifest["mediaType"],
                **put(json.dumps(manifest).encode()),
                "annotations": {"org.opencontainers.image.ref.name": TAG},
            },
        ],
    }
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text(json.dumps(index))


def _layer(busybox: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode, content in (
            ("bin", 0o755, None),
            ("bin/busybox", 0o755, busybox),
            ("www", 0o755, None),
            ("www/index.html", 0o644, PAGE),
        ):
            member = tarfile.TarInfo(name)
            member.mode = mode
            member.mtime = 1767225600
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _architecture(program: Path) -> str:
    """The OCI name of the machine an ELF program is for."""
    with program.open("rb") as file:
        head = file.read(20)
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    names = {3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64"}
    return names.get(machine, "riscv64")


if __name__ == "__main__":
    write_layout(Path(sys.argv[1]), Path(sys.argv[2]))
