"""``import --from https+registry://…`` on a real LXD: every step signed, converted anew, launched."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.clients.signed_servers import ROOTFS, signed_servers, tar_xz
from tests.harness.image_server import ImageServer, image_server
from tests.harness.lxd import PrivateLxd
from tests.lxd.user import User
from tests.serve.checked import change_byte
from tests.serve.openpgp import OpenPgpHome, openpgp_home

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

FILES = {
    "bin/busybox": Path("/bin/busybox").read_bytes(),
    "etc/passwd": b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv/web:/bin/false\n",
    "etc/group": b"root:x:0:\nweb:x:33:\n",
}
# What no line of LXC's config can hold.
SHOUT = 'echo "heard $WORDS as $(/bin/busybox id -u)"; exec /bin/busybox sleep 1000000'
ENTRYPOINT = ["/bin/busybox", "sh", "-c", SHOUT]
SPEC = 'lxc: true\nuser: web\nenv: {WORDS: "two  words\\nand a line"}\naliases: [www]\n'


@pytest.fixture(scope="module")
def home() -> Iterator[OpenPgpHome]:
    """Keys: the server's, and a stranger's."""
    with openpgp_home() as made:
        yield made


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A signing server with one image, and its key as a user has it."""

    server: ImageServer
    keys: Path
    home: OpenPgpHome

    @property
    def registry(self) -> str:
        """Its address as a registry."""
        return f"https+registry://127.0.0.1:{self.server.port}"

    def publish(self, version: str = "1") -> None:
        """Publish the image ``web``, for plain LXC too."""
        shutil.rmtree(self.server.specs / "web.layout", ignore_errors=True)
        files = {**FILES, "version": version.encode()}
        self.server.publish("web", files=files, entrypoint=ENTRYPOINT, spec=SPEC)


@pytest.fixture(scope="module")
def shop(home: OpenPgpHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("shop")
    key = home.make_key("shop@example.org")
    keys = home.export(key, directory / "trusted.asc")
    (directory / "server").mkdir()
    with image_server(directory / "server", "--gpg-key", key) as server:
        one = Shop(server=server, keys=keys, home=home)
        one.publish()
        yield one


@pytest.fixture
def user(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[User]:
    one = User(lxd=private_lxd, home=tmp_path / "home")
    one.environment["TMPDIR"] = str(tmp_path)
    one.clean()
    yield one
    one.clean()


def followed(shop: Shop, *words: str | Path) -> tuple[str | Path, ...]:
    """The words of an import that follows the chain from the registry."""
    trusted = ("--trusted-keys", shop.keys, "--ca", shop.server.authority)
    return (*words, "--from", shop.registry, *trusted)


def test_a_look_at_an_image_server_says_what_lxd_would_fetch(user: User, shop: Shop) -> None:
    """Without signatures too: ``--from`` a simplestreams server, beforehand and after."""
    words = ("--from", shop.server.url, "--ca", shop.server.authority)
    newest = shop.server.product("web").newest
    planned = user.image("www", *words, "--dry-run")
    assert (planned["outcome"], planned["fingerprint"]) == ("would-import", newest.fingerprint)
    assert (planned["serial"], planned["size_bytes"]) == (newest.serial, newest.size_bytes)
    assert user.images() == {}
    assert user.image("www", *words)["fingerprint"] == newest.fingerprint
    assert user.image("www", *words, "--dry-run")["outcome"] == "would-keep"
    said = user.run("import", "nosuch", *words, "--dry-run", code=3)
    assert "hint: it has web, web/current, web/current/default, www" in said.err


def test_a_stranger_s_image_runs_as_it_is(user: User, tmp_path: Path) -> None:
    """From a server that isn't ours, without a registry: a root filesystem with an init of its own."""
    (tmp_path / "servers").mkdir()
    with signed_servers(tmp_path / "servers") as servers:
        files = {
            "bin/busybox": FILES["bin/busybox"],
            "sbin/init": b"#!/bin/busybox sh\necho a stranger began\nexec /bin/busybox sleep 1000\n",
        }
        servers.put(servers.images / ROOTFS, tar_xz(files), servers.server_key)
        servers.server_authority.cert_pem.write_to_path(str(tmp_path / "ca"))
        keys = servers.home.export(servers.server_key, tmp_path / "keys")
        words = ("--from", servers.images_url, "--trusted-keys", keys, "--ca", tmp_path / "ca")
        made = user.image("alpine/3.19", *words, "--alias", "alpine")
        image = user.images()[made["fingerprint"]]
        assert (image["architecture"], image["type"]) == ("x86_64", "container")
        assert image["created_at"].startswith("2026-01-02T13:00:00")
        name = user.lxd.launch("alpine", "stranger")
        user.lxd.wait_console(name, "a stranger began")

        change_byte(servers.images / ROOTFS)
        user.lxd.delete("stranger")
        user.lxd.lxc("image", "delete", "alpine")
        said = user.run("import", "alpine/3.19", *words, code=6)
        assert "rootfs.tar.xz: the signature is wrong" in said.err
        assert (user.images(), user.aliases()) == ({}, {})


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("lxdocker/nosuch/current",), 3, "there is no image nosuch/current/amd64/default"),
        (("nobody/web/current",), 3, "neither a remote 'nobody' nor an alias"),
        (("web", "--trusted-keys", "stranger"), 6, "which isn't in the keyring"),
        (("web", "--trusted-keys", "none"), 3, "none does not exist"),
        (("web", "--ca", "stranger-ca"), 5, "certificate is not trusted"),
    ],
)
def test_what_breaks_leaves_lxd_alone(
    user: User, shop: Shop, home: OpenPgpHome, words: tuple[str, ...], code: int, text: str
) -> None:
    home.export(home.make_key(f"{text[:8].strip()}@example.org"), user.home / "stranger")
    trustme.CA().cert_pem.write_to_path(str(user.home / "stranger-ca"))
    name, *others = words
    said = user.run("import", *followed(shop, name), *others, code=code)
    error, hint = said.err.splitlines()
    assert error.startswith("error: ")
    assert text in error
    assert hint.startswith("hint: ")
    assert (user.images(), user.aliases()) == ({}, {})
    assert not list(user.home.parent.glob("lxdocker-*"))


def test_an_image_is_followed_from_the_registry_converted_and_launched(
    user: User, shop: Shop
) -> None:
    words = followed(shop, "lxdocker/web/current/amd64/default")
    planned = user.image(*words, "--dry-run")
    assert (planned["outcome"], user.images()) == ("would-import", {})

    first = user.image(*words)
    assert (first["outcome"], first["aliases"]) == ("imported", ["web/current"])
    image = user.images()[first["fingerprint"]]
    assert image["properties"]["serial"] == shop.server.product("web").newest.serial
    assert image["properties"]["requirements.lxdocker.image"] == "oci:web.layout:1"
    name = user.lxd.launch("web/current", "web")
    user.lxd.wait_console(name, "and a line as 33")
    # Nothing stays on this machine.
    assert not list(user.home.parent.glob("lxdocker-*"))
    assert not (user.home / "imports").exists()

    assert user.image(*words)["outcome"] == "unchanged"
    again = user.image(*words, "--alias", "mine")
    assert (again["outcome"], again["fingerprint"]) == ("renamed", first["fingerprint"])
