"""A tree in the style of simplestreams' own project, written by hand, to be changed and checked."""

import hashlib
import json
from pathlib import Path
from typing import Any

INDEX = "streams/v1/index.json"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Foreign:
    """A tree in the style of simplestreams' own project, written by hand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.contents = {
            "a/20260101/lxd.tar.xz": b"meta a old",
            "a/20260101/rootfs.squashfs": b"root a old" * 50,
            "a/20260102_0302/lxd.tar.xz": b"meta a",
            "a/20260102_0302/rootfs.squashfs": b"root a" * 50,
            "a/20260102_0302/delta.20260101.vcdiff": b"delta",
            "a/20260102_0302/disk.qcow2": b"disk" * 30,
            "b/20260101/lxd_combined.tar.gz": b"unified",
            "b/20260101/SHA256SUMS": b"sums",
        }
        self.index: dict[str, Any] = {
            "format": "index:1.0",
            "index": {
                "images:a": self._entry("streams/v1/a.json", "alpine:3.20:amd64:default"),
                "images:b": self._entry("streams/v1/more/b.json", "old:1:i386:default"),
                "clouds": {"datatype": "image-ids", "path": "streams/v1/clouds.json"},
            },
        }
        self.a: dict[str, Any] = self._products(
            "alpine:3.20:amd64:default",
            {"arch": "amd64", "aliases": "alpine/3.20,alpine", "os": "Alpine"},
            {
                "20260101": {
                    "lxd.tar.xz": self._meta("a/20260101", "rootfs.squashfs"),
                    "root.squashfs": self._item("a/20260101/rootfs.squashfs", "squashfs"),
                },
                "20260102_0302": {
                    "lxd.tar.xz": self._meta(
                        "a/20260102_0302", "rootfs.squashfs", disk="disk.qcow2"
                    ),
                    "root.squashfs": self._item("a/20260102_0302/rootfs.squashfs", "squashfs"),
                    "disk.qcow2": self._item("a/20260102_0302/disk.qcow2", "disk-kvm.img"),
                    "delta": self._item("a/20260102_0302/delta.20260101.vcdiff", "squashfs.vcdiff")
                    | {"delta_base": "20260101"},
                },
            },
        )
        self.b: dict[str, Any] = self._products(
            "old:1:i386:default",
            {"arch": "i386", "aliases": "old"},
            {
                "20260101": {
                    "combined": self._item("b/20260101/lxd_combined.tar.gz", "lxd_combined.tar.gz"),
                    "sums": self._item("b/20260101/SHA256SUMS", "sha256"),
                }
            },
        )
        self.write()

    def _entry(self, path: str, *products: str) -> dict[str, Any]:
        return {"datatype": "image-downloads", "path": path, "products": list(products),
                "format": "products:1.0", "updated": "Thu, 01 Jan 2026 00:00:00 +0000"}  # fmt: skip

    def _item(self, path: str, kind: str) -> dict[str, Any]:
        content = self.contents[path]
        return {"ftype": kind, "path": path, "sha256": sha256(content), "size": len(content)}

    def _meta(self, place: str, root: str, disk: str = "") -> dict[str, Any]:
        meta = self.contents[f"{place}/lxd.tar.xz"]
        item = self._item(f"{place}/lxd.tar.xz", "lxd.tar.xz")
        item["combined_squashfs_sha256"] = sha256(meta + self.contents[f"{place}/{root}"])
        if disk:
            item["combined_disk-kvm-img_sha256"] = sha256(meta + self.contents[f"{place}/{disk}"])
        return item

    def _products(
        self, key: str, product: dict[str, str], versions: dict[str, Any]
    ) -> dict[str, Any]:
        listed = {name: {"items": items, "label": "x"} for name, items in versions.items()}
        return {"content_id": "images", "datatype": "image-downloads", "format": "products:1.0",
                "products": {key: {**product, "versions": listed}}}  # fmt: skip

    def write(self) -> None:
        texts = {
            INDEX: self.index,
            "streams/v1/a.json": self.a,
            "streams/v1/more/b.json": self.b,
        }
        everything = self.contents | {
            path: json.dumps(text).encode() for path, text in texts.items()
        }
        for path, content in everything.items():
            (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / path).write_bytes(content)

    @property
    def product(self) -> dict[str, Any]:
        product: dict[str, Any] = self.a["products"]["alpine:3.20:amd64:default"]
        return product

    def items(self, version: str = "20260102_0302") -> dict[str, Any]:
        items: dict[str, Any] = self.product["versions"][version]["items"]
        return items
