"""LXD's own background update of an image, which sends no event of its own, moves an instance on.

It waits for a daemon that begins with its images when it likes, so this belongs to the full run
(LXDOCKER_TEST_FULL=1).
"""

import hashlib
import json
import os
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.lxd.records import UpdateSource
from lxdocker_lxd.update.source import SOURCE_KEY
from tests.harness.http_server import serving
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.test_update_served import listening
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd


class Stream:
    """A simplestreams server with one alias, ``app``, whose versions are images of the store."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self._stage = stage
        self._directory = directory
        self._files: dict[str, bytes] = {}
        self._versions: dict[str, object] = {}
        self.url = ""

    def publish(self, word: str, serial: str) -> str:
        """Let the alias name the image of ``word``; return its fingerprint in the stream."""
        out = self._directory / serial
        out.mkdir()
        self._stage.lxc_export(word, out)
        (metadata_file,) = out.glob("meta-*")
        (rootfs_file,) = (path for path in out.iterdir() if path != metadata_file)
        # The same image with another fingerprint, so that both can be in the store.
        metadata, rootfs = metadata_file.read_bytes(), rootfs_file.read_bytes()
        metadata += b"\0" * 512
        fingerprint = hashlib.sha256(metadata + rootfs).hexdigest()
        items = {}
        for ftype, content in (("lxd.tar.xz", metadata), ("root.tar.xz", rootfs)):
            path = f"images/{serial}/{ftype}"
            self._files[f"/{path}"] = content
            items[ftype] = {
                "ftype": ftype,
                "path": path,
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "combined_rootxz_sha256": fingerprint,
            }
        self._versions[serial] = {"items": items}
        product = {"aliases": "app", "arch": "amd64", "os": "app", "release": "1"}
        index = {
            "datatype": "image-downloads",
            "path": "streams/v1/images.json",
            "format": "products:1.0",
            "products": ["app"],
        }
        self._put("index", {"format": "index:1.0", "index": {"images": index}})
        versions = {**product, "versions": self._versions}
        self._put("images", {"format": "products:1.0", "products": {"app": versions}})
        return fingerprint

    def _put(self, name: str, document: object) -> None:
        self._files[f"/streams/v1/{name}.json"] = json.dumps(document).encode()

    def answer(self, path: str) -> bytes | None:
        return self._files.get(path)


@pytest.fixture(scope="module")
def private_lxd() -> Iterator[PrivateLxd]:
    """One of its own: a daemon updates all its images in turn, those of absent servers too."""
    with PrivateLxd() as lxd:
        yield lxd


@pytest.fixture(scope="module")
def stage(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=("one", "two"))
    yield stage
    stage.clean()
    stage.remove_images()


@pytest.mark.full
def test_an_instance_follows_a_background_update(stage: Stage, tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    stream = Stream(stage, tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = stream.answer(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        do_HEAD = do_GET  # noqa: N815 - the handler's naming

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, tls=tls) as http:
        url = f"https://{http.host}"
        certificate = authority.cert_pem.bytes().decode()
        first = stream.publish("one", "20260101_0000")
        lxd = stage.lxd
        daemon = open_lxd(SocketPlace(socket=lxd.socket))
        source = UpdateSource(server=url, alias="app", certificate=certificate)
        assert daemon.images.pull(source) == first
        lxd.lxc("image", "alias", "create", "streamed", first)
        name = stage.launch("streamed")
        stage.update(tmp_path / "state", "enable", name)
        config = daemon.instances.get(name).config
        assert config[SOURCE_KEY] == f"{url}|simplestreams|app"
        before = stage.story(name)
        second = stream.publish("two", "20260102_0000")
        with stage.begin(tmp_path / "state", "run", "--interval=600") as service:
            try:
                # LXD looks at its start, if it has forgotten the index that it keeps for an hour.
                for kept in (lxd.directory / "cache").glob("*/*.json"):
                    os.utime(kept, (0, 0))
                lxd.restart()
                with listening(lxd) as events:
                    eventually(
                        lambda: stage.base_image(name) == second,
                        timeout_seconds=60,
                        what="the new version",
                    )
                    eventually(
                        lambda: "committed" in stage.update(tmp_path / "state", "history").stdout,
                        timeout_seconds=30,
                        what="its end",
                    )
            finally:
                service.terminate()
                _, told = service.communicate(timeout=30)
        # LXD tells of its own update at most as of any download that nobody asked for.
        of_images = [one for one in events if one.kind in {"image", "image-alias"}]
        assert {(one.action, one.by) for one in of_images} <= {("image-created", "")}
        held = {image.fingerprint for image in daemon.images.list()}
        assert (second in held, first in held) == (True, False)
        assert stage.story(name) == before, told
        assert stage.version(name) == "two"
        stage.clean()
        for fingerprint in (first, second):
            lxd.lxc("image", "delete", fingerprint, check=False)
