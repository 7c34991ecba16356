"""A registry and a server of images as a stranger would run them: other keys, other authorities.

    with signed_servers(tmp_path) as servers:
        servers.change_byte(servers.images / servers.rootfs)
        servers.sign(servers.images / "meta/1.0/index-user", servers.stranger)

``reset`` puts everything back. The registry trusts ``registry_key``, and names ``server_key`` and the
certificate of ``server_authority`` for the server ``images``.
"""

import contextlib
import hashlib
import io
import json
import lzma
import shutil
import ssl
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import trustme

from lxdocker_lxd.clients.chain import Trust
from lxdocker_lxd.clients.remote_address import RemoteAddress, parse_address
from tests.serve.openpgp import OpenPgpHome, openpgp_home
from tests.serve.tree_web import Web, web

BUILD = "20260102_13:00"
PLACE = f"images/alpine/3.19/amd64/default/{BUILD}"
LINES = (
    f"alpine;3.19;amd64;default;{BUILD};/{PLACE}/\n"
    f"alpine;3.19;arm64;default;{BUILD};/images/alpine/3.19/arm64/default/{BUILD}/\n"
    f"debian;bookworm;amd64;cloud;{BUILD};/images/debian/{BUILD}/\n"
)
CONFIG = "lxc.include = LXC_TEMPLATE_CONFIG/common.conf\nlxc.arch = x86_64\n"
REGISTRY, INDEX = "1.0/index.json", "meta/1.0/index-user"
META, ROOTFS = f"{PLACE}/meta.tar.xz", f"{PLACE}/rootfs.tar.xz"


def tar_xz(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(stream.getvalue(), preset=0)


class SignedServers:
    """Both servers' directories, and the keys that sign there."""

    def __init__(self, directory: Path, home: OpenPgpHome) -> None:
        self.directory = directory
        self.home = home
        self.registry = directory / "registry"
        self.images = directory / "images"
        self.registry_key, self.server_key, self.stranger = (
            old_key(home, f"{name}@example.org") for name in ("registry", "server", "stranger")
        )
        self.keys = home.export(self.registry_key, directory / "trusted.asc")
        self.registry_authority, self.server_authority = trustme.CA(), trustme.CA()
        self.authorities = directory / "registry-ca.pem"
        self.registry_authority.cert_pem.write_to_path(str(self.authorities))
        self.registry_web: Web
        self.images_web: Web
        self.entry: dict[str, object] = {}

    @property
    def trust(self) -> Trust:
        """What a user was given for the registry."""
        return Trust(keys=self.keys, authorities=self.authorities)

    @property
    def address(self) -> RemoteAddress:
        """The registry's."""
        return parse_address(self.registry_url, what="the registry")

    @property
    def registry_url(self) -> str:
        """What a user writes for the registry."""
        return self.registry_web.url.replace("https", "https+registry")

    @property
    def images_url(self) -> str:
        """What the registry writes for the server."""
        return self.images_web.url.replace("https", "https+lxc-images")

    # ---- documents

    def put(self, file: Path, content: bytes, key: str) -> None:
        """Write a file and its signature."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.sign(file, key)

    def sign(self, file: Path, key: str, *options: str) -> None:
        """Sign a file with another key, or in another way."""
        place = Path(f"{file}.asc")
        place.unlink(missing_ok=True)
        signing = ("--local-user", key, "--armor", *options, "--output", str(place))
        self.home.gpg(*signing, "--detach-sign", file)

    def say(self, *, key: str = "", **entry: object) -> None:
        """Write the registry's index, with other words in the server's entry."""
        document = {
            "version": 1,
            "generated_at": 1767358800,
            "servers": [self.entry | entry],
            "aliases": {
                "alpine": {
                    "server": "images",
                    "arguments": {"distribution": "alpine", "release": "3.19"},
                }
            },
        }
        content = json.dumps(document).encode()
        self.put(self.registry / REGISTRY, content, key or self.registry_key)

    def build(self) -> None:
        """Write everything, signed right."""
        public = self.home.export(self.server_key, self.directory / "server.asc").read_bytes()
        key = f"keys/{self.server_key[-16:]}"
        pem = self.server_authority.cert_pem.bytes()
        certificate = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
        self.entry = {
            "name": "images",
            "url": self.images_url,
            "trusted_keys": [f"/{key}"],
            "trusted_certs": [f"/certs/{certificate}"],
        }
        self.put(self.registry / key, public, self.registry_key)
        self.put(self.registry / "certs" / certificate, pem, self.registry_key)
        self.say()
        self.put(self.images / INDEX, LINES.encode(), self.server_key)
        self.put(self.images / META, tar_xz({"config": CONFIG.encode()}), self.server_key)
        self.put(self.images / ROOTFS, tar_xz({"sbin/init": b"#!/bin/sh\n"}), self.server_key)
        shutil.copytree(self.registry, self.directory / "whole" / "registry")
        shutil.copytree(self.images, self.directory / "whole" / "images")

    def reset(self) -> None:
        """Put back what ``build`` made."""
        for tree in (self.registry, self.images):
            shutil.rmtree(tree)
            shutil.copytree(self.directory / "whole" / tree.name, tree)
        for one in (self.registry_web, self.images_web):
            one.faults.clear()
            one.asked.clear()

    @property
    def key_file(self) -> Path:
        """The server's key, as the registry gives it."""
        return self.registry / "keys" / self.server_key[-16:]

    @property
    def certificate_file(self) -> Path:
        """The certificate that the registry names for the server."""
        (found,) = (one for one in (self.registry / "certs").iterdir() if one.suffix != ".asc")
        return found


def old_key(home: OpenPgpHome, name: str) -> str:
    """Make a key that is there since the first of January 2026, so that signatures may be old."""
    then = ("--faked-system-time", "20260101T000000")
    home.gpg(*then, "--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", "never")
    listed = home.gpg("--with-colons", "--list-secret-keys", f"={name}")
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))


def context(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of a server on the loopback interface."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made


@contextlib.contextmanager
def signed_servers(directory: Path) -> Iterator[SignedServers]:
    """Yield both servers; they end with the block."""
    with openpgp_home() as home:
        servers = SignedServers(directory, home)
        servers.registry.mkdir()
        servers.images.mkdir()
        with (
            web(servers.registry, context(servers.registry_authority)) as servers.registry_web,
            web(servers.images, context(servers.server_authority)) as servers.images_web,
        ):
            servers.build()
            yield servers
