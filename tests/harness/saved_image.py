"""The tar files images are handed around in, made on the spot."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness.tiny_image import TinyImage, digest_of, layer_tar


def write_tar(
    path: Path,
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    hard_links: Mapping[str, str] | None = None,
    format: int = tarfile.PAX_FORMAT,  # noqa: A002 - tarfile's own word
) -> Path:
    """Write a tar with these members, links first."""
    with tarfile.open(path, "w", format=format) as archive:
        for kind, pairs in ((tarfile.SYMTYPE, links), (tarfile.LNKTYPE, hard_links)):
            for name, target in (pairs or {}).items():
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target
                archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def oci_archive(path: Path, image: TinyImage, scratch: Path, tag: str = "latest") -> Path:
    """Write the tar of an OCI layout holding ``image``."""
    layout = image.write_layout(scratch, tag)
    with tarfile.open(path, "w") as archive:
        archive.add(layout, ".")
    return path


def docker_config(layers: Sequence[bytes], command: str = "/app") -> bytes:
    """Return a configuration for these uncompressed layers."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": [command]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    ).encode()


def docker_archive(
    path: Path, *layers: Mapping[str, bytes], names: Sequence[str] = ("app:latest",)
) -> Path:
    """Write what ``docker save`` did before version 25."""
    tars = [layer_tar(files) for files in layers]
    config = docker_config(tars)
    members = {f"{n}/layer.tar": tar for n, tar in enumerate(tars)}
    manifest = [{"Config": "config.json", "RepoTags": list(names), "Layers": list(members)}]
    members |= {"config.json": config, "manifest.json": json.dumps(manifest).encode()}
    return write_tar(path, members)
