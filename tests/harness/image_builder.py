"""Recipes of images into one OCI layout, with Debian's tools and no image builder's code."""

import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.harness.images import RECIPES, Link, Program, Recipe
from tests.harness.processes import run

SUITE = "bookworm"
CREATED = "2026-01-02T03:04:05Z"
HERE = Path(__file__).parent
MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+"
# cap_net_bind_service, permitted and effective, as the kernel keeps it (revision 2).
BIND_SERVICE = bytes.fromhex("0100000200040000000000000000000000000000")


def build_images(directory: Path) -> Path:
    """Build all images; return the layout, in which each recipe's name is a tag.

    ``LXDOCKER_TEST_CACHE`` names a directory in which they are kept: whoever comes meanwhile waits.

    umoci reads no zstd: an image that has it gets a twin with the same layers in gzip, whose tag
    ends with ``-gzip``.
    """
    kept = os.environ.get("LXDOCKER_TEST_CACHE")
    sources = [HERE / name for name in ("images.py", "image_builder.py")]
    sources += sorted((HERE / "programs").iterdir())
    key = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    layout = directory / "layout"
    if not kept:
        _Builder(directory / "build", layout).build(RECIPES)
        return layout
    store = Path(kept) / f"images-{key}"
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not store.is_dir():
            _Builder(directory / "build", layout).build(RECIPES)
            unfinished = store.with_name(f"{store.name}.{os.getpid()}")
            shutil.move(layout, unfinished)
            unfinished.rename(store)
    return store


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """One layer: the descriptor of its blob by compression."""

    diff_id: str
    blobs: Mapping[str, Mapping[str, object]]


class _Builder:
    def __init__(self, work: Path, layout: Path) -> None:
        self._work = work
        self._layout = layout
        self._base: _Layer | None = None

    def build(self, recipes: Sequence[Recipe]) -> None:
        (self._layout / "blobs" / "sha256").mkdir(parents=True)
        self._work.mkdir()
        named = []
        for recipe in recipes:
            layers = self._on_debian(recipe) if recipe.packages else [self._from_files(recipe)]
            named.append(self._image(recipe, layers, recipe.name, recipe.compression))
            if recipe.compression != "gzip":
                named.append(self._image(recipe, layers, f"{recipe.name}-gzip", "gzip"))
        (self._layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        index = {"schemaVersion": 2, "manifests": named}
        (self._layout / "index.json").write_text(json.dumps(index))
        shutil.rmtree(self._work)

    # ---- layers

    def _on_debian(self, recipe: Recipe) -> list[_Layer]:
        if self._base is None:
            self._base = self._debian()
        work = self._work / recipe.name
        run(
            *("unshare", "--mount", "--propagation", "private"),
            *("bash", HERE / "programs" / "install.sh", self._work / "debian", work),
            *(recipe.script, *recipe.packages),
            timeout_seconds=600,
        )
        archive = self._work / f"{recipe.name}.tar"
        with archive.open("wb") as file:
            write_upper(work / "upper", file)
        shutil.rmtree(work)
        return [self._base, self._layer(archive, recipe.compression)]

    def _debian(self) -> _Layer:
        archive, root = self._work / "debian.tar", self._work / "debian"
        run(
            *("mmdebstrap", "--quiet", "--variant=minbase", "--skip=cleanup/apt/lists"),
            *(SUITE, str(archive)),
            timeout_seconds=600,
        )
        root.mkdir()
        run("tar", "-C", root, "--xattrs", "--xattrs-include=*", "-xpf", archive)
        return self._layer(archive, "gzip")

    def _from_files(self, recipe: Recipe) -> _Layer:
        archive = self._work / f"{recipe.name}.tar"
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in recipe.files.items():
                member = tarfile.TarInfo(name)
                member.mode = 0o755
                data = b""
                if isinstance(content, Link):
                    member.type, member.linkname = tarfile.SYMTYPE, content.target
                elif isinstance(content, Program):
                    data = self._program(content.name)
                    if content.may_bind:
                        value = BIND_SERVICE.decode("utf-8", "surrogateescape")
                        member.pax_headers = {"SCHILY.xattr.security.capability": value}
                else:
                    data = content.read_bytes() if isinstance(content, Path) else content
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return self._layer(archive, recipe.compression)

    def _program(self, name: str) -> bytes:
        target = self._work / f"program-{name}"
        if not target.exists() and name == "probe":
            source = HERE / "programs" / "probe.c"
            run("gcc", "-O1", "-static", "-s", "-Wall", "-o", target, source)
        elif not target.exists():
            # The one program of a package, without installing it here.
            run("sh", "-c", 'cd "$1" && apt-get download -q tini', "sh", self._work)
            (package,) = self._work.glob("tini_*.deb")
            run("dpkg-deb", "--extract", package, self._work / "tini")
            shutil.copy(self._work / "tini/usr/bin/tini-static", target)
        return target.read_bytes()

    def _layer(self, archive: Path, compression: str) -> _Layer:
        blobs = {kind: self._packed(archive, kind) for kind in {"gzip", compression}}
        layer = _Layer(diff_id=f"sha256:{_sha256(archive)}", blobs=blobs)
        archive.unlink()
        return layer

    def _packed(self, archive: Path, compression: str) -> Mapping[str, object]:
        packed = archive.with_suffix(f".{compression}")
        if compression == "zstd":
            run("zstd", "-q", "-3", archive, "-o", packed)
        else:
            with archive.open("rb") as file, gzip.GzipFile(packed, "wb", 1, mtime=0) as target:
                shutil.copyfileobj(file, target, 1 << 20)
        digest, size = _sha256(packed), packed.stat().st_size
        packed.replace(self._layout / "blobs" / "sha256" / digest)
        return {"mediaType": MEDIA_TYPE + compression, "digest": f"sha256:{digest}", "size": size}

    # ---- documents

    def _put(self, document: object) -> dict[str, object]:
        content = json.dumps(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        (self._layout / "blobs" / "sha256" / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def _image(
        self, recipe: Recipe, layers: Sequence[_Layer], tag: str, compression: str
    ) -> dict[str, object]:
        configuration = {
            "architecture": run("dpkg", "--print-architecture").stdout.strip(),
            "os": "linux",
            "created": CREATED,
            "config": dict(recipe.config),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                **self._put(configuration),
            },
            # The minimal system is gzip in all of them, as images of mixed origin have it.
            "layers": [layer.blobs.get(compression, layer.blobs["gzip"]) for layer in layers],
        }
        return {
            "mediaType": manifest["mediaType"],
            **self._put(manifest),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_upper(upper: Path, target: BinaryIO) -> None:
    """Write an overlay's upper directory as an OCI layer: whiteouts and opaque markers by name."""
    links: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(upper.rglob("*")):
            name = path.relative_to(upper)
            status = path.lstat()
            if stat.S_ISSOCK(status.st_mode):
                continue
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                tar.addfile(tarfile.TarInfo(str(name.with_name(f".wh.{name.name}"))))
                continue
            member = tar.gettarinfo(path, str(name))
            member.uname = member.gname = ""
            inode = (status.st_dev, status.st_ino)
            if member.isreg() and inode in links:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, links[inode], 0
            elif status.st_nlink > 1:
                links.setdefault(inode, str(name))
            xattrs = _xattrs(path)
            opaque = xattrs.get("trusted.overlay.opaque") == b"y"
            member.pax_headers = {
                f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
                for key, value in xattrs.items()
                if not key.startswith("trusted.overlay.")
            }
            if member.isreg():
                with path.open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
            if opaque:
                tar.addfile(tarfile.TarInfo(f"{name}/.wh..wh..opq"))


def _xattrs(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
