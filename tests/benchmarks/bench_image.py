"""The large image of the benchmarks: a Debian root with compilers, as layers and as one archive."""

import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.harness.tiny_image import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST

PACKAGES = (
    "ca-certificates,build-essential,python3,python3-numpy,nodejs,npm,nginx-light,golang-go,clang"
)
LAYERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchImage:
    """``layout`` holds the image as ``latest``; ``flat`` is the same tree as one ``.tar.gz``."""

    layout: Path
    flat: Path
    entries: int
    rootfs_bytes: int
    layer_bytes: int


def make_image(work: Path, root_tar: Path | None) -> BenchImage:
    """Return the image in ``work``, made there unless an earlier call did."""
    facts = work / "image.json"
    layout, flat = work / "layout", work / "flat.tar.gz"
    if not facts.exists():
        root_tar = root_tar or _debian(work / "root.tar")
        tars = _split(root_tar, work)
        for tar in (*tars, work / "flat.tar"):
            subprocess.run(["pigz", "-6", "-n", "-f", "-k", tar], check=True)
        _write_layout(layout, tars)
        facts.write_text(json.dumps(_facts(tars)))
        for tar in (*tars, work / "flat.tar"):
            tar.unlink()
    return BenchImage(layout=layout, flat=flat, **json.loads(facts.read_text()))


def _debian(target: Path) -> Path:
    if not target.exists():
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", target],
            check=True,
        )
    return target


def _split(root_tar: Path, work: Path) -> list[Path]:
    """Write the root's entries to LAYERS layers in turn of a third each, and all to one archive.

    A fourth, small layer changes, hides and adds some files, as an application's own layer does.
    """
    tars = [work / f"layer{number}.tar" for number in range(LAYERS + 1)]
    total_bytes = root_tar.stat().st_size
    with (
        tarfile.open(root_tar) as source,
        tarfile.open(work / "flat.tar", "w", format=tarfile.PAX_FORMAT) as flat,
    ):
        layers = [tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) for tar in tars]  # noqa: SIM115 - closed below
        for member in source:
            name = member.name.removeprefix("./")
            if name in ("", "."):
                continue
            member.name = name
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            content = source.extractfile(member) if member.isreg() else None
            data = content.read() if content else b""
            # Hard links stay with their target: both are in the order of the source.
            number = min(source.offset * LAYERS // total_bytes, LAYERS - 1)
            for archive in (layers[number], flat):
                archive.addfile(member, io.BytesIO(data))
        _top_layer(layers[LAYERS])
        for layer in layers:
            layer.close()
    return tars


def _top_layer(archive: tarfile.TarFile) -> None:
    contents = {
        "srv/app/config.yaml": b"level: 3\n",
        "usr/share/doc/bash/.wh..wh..opq": b"",
        "etc/.wh.motd": b"",
        "etc/hostname": b"app\n",
    }
    for name, content in contents.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def _write_layout(layout: Path, tars: list[Path]) -> None:
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    layers = []
    for tar in tars:
        packed = tar.with_name(tar.name + ".gz")
        digest = _sum(packed)
        packed.rename(blobs / digest)
        size_bytes = (blobs / digest).stat().st_size
        layers.append(
            {"mediaType": OCI_LAYER_GZIP, "digest": f"sha256:{digest}", "size": size_bytes}
        )
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["/usr/sbin/nginx", "-g", "daemon off;"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sum(tar)}" for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(json.dumps(config).encode(), OCI_CONFIG),
        "layers": layers,
    }
    entry = put(json.dumps(manifest).encode(), OCI_MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _facts(tars: list[Path]) -> dict[str, int]:
    entries = 0
    for tar in tars:
        with tarfile.open(tar) as archive:
            entries += sum(1 for _ in archive)
    layout = tars[0].parent / "layout" / "blobs" / "sha256"
    return {
        "entries": entries,
        "rootfs_bytes": sum(tar.stat().st_size for tar in tars),
        "layer_bytes": sum(blob.stat().st_size for blob in layout.iterdir()),
    }


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
