"""An image converted for plain LXC as an OCI layout again: one layer, and its own configuration.

Its root filesystem holds ``/lxd-image.json``, all that the image asks for. What was put there for LXC
the conversion for LXD takes out again.
"""

import hashlib
import json
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.clients.document import DocumentError, mapping, text
from lxdocker_lxd.digest import Digest

TAG = "1"
_KEPT = ("architecture", "os", "variant", "created")
_IMAGE_JSON = "lxd-image.json"
_VARIABLES = ".lxdocker/image/env"
_MOST_JSON_BYTES = 8 << 20
_BLOCK_BYTES = 1 << 18
_MOST_LAYER_BYTES = 256 << 30
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which image was converted for LXC once: its reference, and its manifest's digest."""

    reference: str
    manifest_digest: str


def write_layout(rootfs: Path, directory: Path) -> Origin:
    """Write the layout for a ``rootfs.tar.xz``, its image called TAG; return where it came from.

    Raises DocumentError for an archive without the image's configuration, and StorageError.
    """
    blobs = directory / "blobs" / "sha256"
    atomic.make_directory(blobs)
    layer = directory / "layer.tar"
    digest, size_bytes = _inflate(rootfs, layer)
    document, variables = _guest_files(layer, rootfs.name)
    _move(layer, blobs / digest.encoded)

    def put(content: bytes) -> dict[str, object]:
        found = Digest.of(content)
        atomic.write(blobs / found.encoded, content)
        return {"digest": str(found), "size": len(content)}

    what = f"{rootfs.name}: {_IMAGE_JSON}"
    oci = mapping(document.get("oci"), what=what)
    config: dict[str, object] = {key: oci[key] for key in _KEPT if key in oci}
    config["config"] = _whole(mapping(document.get("config"), what=what), variables)
    config["rootfs"] = {"type": "layers", "diff_ids": [str(digest)]}
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, **put(_json(config))},
        "layers": [{"mediaType": _LAYER, "digest": str(digest), "size": size_bytes}],
    }
    entry = {"mediaType": _MANIFEST, **put(_json(manifest)), "annotations": {_REF_NAME: TAG}}
    index = {"schemaVersion": 2, "manifests": [entry]}
    atomic.write(directory / "index.json", _json(index))
    atomic.write(directory / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    return Origin(
        reference=text(document.get("image"), what=what),
        manifest_digest=text(document.get("manifest_digest"), what=what),
    )


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _inflate(rootfs: Path, layer: Path) -> tuple[Digest, int]:
    """Write the plain archive; return its digest and size. A block at a time is in memory."""
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        with lzma.open(rootfs) as packed, layer.open("xb") as plain:
            while block := packed.read(_BLOCK_BYTES):
                size_bytes += len(block)
                if size_bytes > _MOST_LAYER_BYTES:
                    raise DocumentError(f"{rootfs.name}: larger than any root filesystem")
                digest.update(block)
                plain.write(block)
    except (lzma.LZMAError, EOFError) as error:
        raise DocumentError(f"{rootfs.name}: no xz archive, or cut short: {error}") from error
    except OSError as error:
        raise atomic.storage_error("write", layer, error) from error
    return Digest("sha256", digest.hexdigest()), size_bytes


def _guest_files(layer: Path, what: str) -> tuple[dict[str, object], bytes]:
    """Return /lxd-image.json and the file of all variables, empty where there is none."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(layer, mode="r:") as archive:
            for member in archive:
                # Otherwise it remembers every member of a large image.
                archive.members = []  # type: ignore[attr-defined]  # not in the stubs
                name = member.name.removeprefix("./")
                if name in (_IMAGE_JSON, _VARIABLES) and member.isfile():
                    file = archive.extractfile(member)
                    found[name] = file.read(_MOST_JSON_BYTES) if file else b""
                if len(found) == len((_IMAGE_JSON, _VARIABLES)):
                    break
        if _IMAGE_JSON not in found:
            raise DocumentError(f"{what}: there is no {_IMAGE_JSON} in it")
        document = mapping(json.loads(found[_IMAGE_JSON]), what=f"{what}: {_IMAGE_JSON}")
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise DocumentError(f"{what}: {_IMAGE_JSON} can't be read: {error}") from error
    except OSError as error:
        raise atomic.storage_error("read", layer, error) from error
    return document, found.get(_VARIABLES, b"")


def _whole(config: dict[str, object], variables: bytes) -> dict[str, object]:
    """Return a configuration with the values that its document doesn't tell."""
    env = config.get("Env")
    if not isinstance(env, list):
        return config
    texts = [item.decode("utf-8", "surrogateescape") for item in variables.split(b"\0") if item]
    values = {item.partition("=")[0]: item for item in texts}
    whole = [values.get(entry, entry) if isinstance(entry, str) else entry for entry in env]
    return {**config, "Env": whole}


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        raise atomic.storage_error("move", source, error) from error
