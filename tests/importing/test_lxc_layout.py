"""An image that was converted for plain LXC, as an OCI layout: with all of its variables again."""

import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.importing.lxc_layout import write_layout

STORY = {
    "image": "oci:web",
    "manifest_digest": "sha256:" + "0" * 64,
    "config": {"Env": ["PATH=/bin", "DB_PASSWORD", "GONE_TOKEN"], "Cmd": ["x"]},
    "oci": {"architecture": "amd64", "os": "linux"},
}
VARIABLES = b"PATH=/weaker\0PATH=/bin\0DB_PASSWORD=hunter2\n=3\0"


def rootfs(tmp_path: Path, files: Mapping[str, bytes]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path = tmp_path / "rootfs.tar.xz"
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=0))
    return path


def config_in(directory: Path) -> dict[str, object]:
    blobs = directory / "blobs" / "sha256"
    for blob in blobs.iterdir():
        content = blob.read_bytes()
        if content.startswith(b"{") and "rootfs" in (document := json.loads(content)):
            config: dict[str, object] = document["config"]
            return config
    raise AssertionError("there is no configuration")


def test_values_that_the_document_keeps_to_itself_come_from_the_guest_s_file(
    tmp_path: Path,
) -> None:
    files = {"./.lxdocker/image/env": VARIABLES, "./lxd-image.json": json.dumps(STORY).encode()}
    origin = write_layout(rootfs(tmp_path, files), tmp_path / "layout")
    assert origin.reference == "oci:web"
    config = config_in(tmp_path / "layout")
    assert config["Env"] == ["PATH=/bin", "DB_PASSWORD=hunter2\n=3", "GONE_TOKEN"]
    assert config["Cmd"] == ["x"]


@pytest.mark.parametrize("env", [None, {"A": 1}, [7, "A=1"]])
def test_odd_variables_stay_as_they_are(tmp_path: Path, env: object) -> None:
    story = {**STORY, "config": {"Env": env}}
    files = {"lxd-image.json": json.dumps(story).encode()}
    write_layout(rootfs(tmp_path, files), tmp_path / "layout")
    assert config_in(tmp_path / "layout")["Env"] == env


def test_without_the_document_it_is_no_image_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"there is no lxd-image\.json in it"):
        write_layout(rootfs(tmp_path, {"etc/x": b""}), tmp_path / "layout")
