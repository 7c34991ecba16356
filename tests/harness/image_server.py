"""The image server as a process of its own, beside a directory that the converter fills.

    with image_server(tmp_path) as server:
        server.publish("web", files={...}, entrypoint=[...])
        server.add_remote(lxd, "shop")

The command is the one a user runs; its certificate comes from the local authority it makes.
"""

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lxdocker_lxd.catalogue import Product
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from tests.harness import workers
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.harness.small_image import write_layout

COMMAND = (sys.executable, "-m", "lxdocker_lxd")
# Below those that the kernel gives to who asks for any.
FIRST_PORT, PORTS = 20_000, 500


def free_port() -> int:
    """A loopback port nobody listens on now.

    None that the kernel gives to who asks for any: another test could get it before it is used.
    Each worker has a range of its own.
    """
    first = FIRST_PORT + PORTS * workers.number()
    while True:
        port = first + random.randrange(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            break
    return port


class ImageServer:
    """A directory of specifications and images, and the server over it."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.specs = directory / "specs"
        self.cache = directory / "cache"
        self.lxdimages = directory / "lxdimages"
        self.tls = directory / "tls"
        self.settings = directory / "settings.yaml"
        self.log = directory / "serve.log"
        self.flags = flags
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None
        for made in (self.specs, self.lxdimages):
            made.mkdir()
        self.settings.touch()

    @property
    def url(self) -> str:
        """Where clients reach the main tree."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate of the local authority."""
        return self.tls / "ca.crt"

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The running server."""
        assert self._process is not None
        return self._process

    # ---- what is published

    def convert(self, *flags: str) -> None:
        """Publish what the specifications say."""
        run(
            *COMMAND,
            *("convert", "--progress", "none"),
            *("--config", self.settings),
            *("--specs", self.specs, "--cache", self.cache, "--lxdimages", self.lxdimages),
            *flags,
        )

    def publish(
        self,
        name: str,
        *,
        files: Mapping[str, bytes],
        entrypoint: Sequence[str],
        spec: str = "",
        image_format: str = "squashfs",
    ) -> Product:
        """Publish a small image of these files under ``name``; return its product."""
        layout = self.specs / f"{name}.layout"
        write_layout(layout, tag="1", files=files, entrypoint=entrypoint)
        (self.specs / f"{name}.yaml").write_text(f"image: oci:{layout.name}:1\n{spec}")
        self.convert("--imageformat", image_format)
        return self.product(name)

    def product(self, name: str, architecture: str = "amd64") -> Product:
        """What the catalogue holds under ``name``."""
        found = CatalogueDirectory(self.lxdimages).read().product(name, architecture)
        assert found is not None
        return found

    # ---- the server

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(*COMMAND, "serve", "--config", str(self.settings)),
                    *("--lxdimages", str(self.lxdimages), "--tls-dir", str(self.tls)),
                    *("--address", f"127.0.0.1:{self.port}", *self.flags),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.communicate(timeout=60)

    # ---- clients

    def add_remote(self, lxd: PrivateLxd, name: str, path: str = "") -> None:
        """Add the server as a remote of the LXD's client, its authority pinned."""
        pinned = lxd.home / "client" / "servercerts"
        pinned.mkdir(exist_ok=True)
        (pinned / f"{name}.crt").write_bytes(self.authority.read_bytes())
        lxd.lxc("remote", "add", name, f"{self.url}{path}", "--protocol=simplestreams")

    def forget_listings(self, lxd: PrivateLxd) -> None:
        """Make LXD's copies of stream files older than the hour for which it trusts them."""
        for listing in (lxd.directory / "cache").glob(f"{'?' * hashlib.sha256().digest_size}*/*"):
            os.utime(listing, (0, 0))


@contextlib.contextmanager
def image_server(directory: Path, *flags: str) -> Iterator[ImageServer]:
    """Yield a server that runs; it ends with the block."""
    server = ImageServer(directory, *flags)
    try:
        server.start()
        yield server
    finally:
        server.stop()
