"""The image of the self-test: a web server with one page, made here or pulled. Pure.

Its programs come from this machine's busybox, through its specification; so the image below is an empty one,
which needs no registry.
"""

import hashlib
import io
import json
import tarfile

NAME = "lxdocker-lxd-self-test"
"""Of specification, image, alias and instance."""

PORT = 80
REGISTRY_IMAGE = "busybox:stable"
_TAG = "here"
_TYPE = "application/vnd.oci.image"


def specification(page: str, *, from_registry: bool) -> str:
    """Return the specification's text; ``page`` is what the web server says."""
    image = REGISTRY_IMAGE if from_registry else f"oci:layout:{_TAG}"
    words = ["/self-test/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/self-test"]
    return (
        f"image: {image}\n"
        f"entrypoint: {json.dumps(words)}\n"
        "files:\n"
        "  - {path: /self-test, directory: true}\n"
        "  - {path: /self-test/busybox, source: busybox, mode: '0755'}\n"
        f"  - {{path: /self-test/index.html, content: {json.dumps(page)}}}\n"
    )


def layout(architecture: str, variant: str = "") -> dict[str, bytes]:
    """Return the files of an OCI layout with an image of one empty layer, by their path.

    ``architecture`` and ``variant`` are OCI's names. (OCI image-spec 1.1: image-layout, manifest, config)
    """
    layer = _empty_tar()
    blobs: dict[str, bytes] = {}

    def described(kind: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {
            "mediaType": f"{_TYPE}.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    config = _json(
        {
            "architecture": architecture,
            **({"variant": variant} if variant else {}),
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_TYPE}.manifest.v1+json",
            "config": described("config.v1+json", config),
            "layers": [described("layer.v1.tar", layer)],
        }
    )
    named = described("manifest.v1+json", manifest) | {
        "annotations": {"org.opencontainers.image.ref.name": _TAG}
    }
    return {
        **blobs,
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [named]}),
    }


def _empty_tar() -> bytes:
    stream = io.BytesIO()
    tarfile.TarFile(fileobj=stream, mode="w").close()
    return stream.getvalue()


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
