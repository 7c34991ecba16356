"""The stream documents before a real LXD: it lists and finds exactly what our own reader says."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lxdocker_lxd.catalogue import Product, Version
from lxdocker_lxd.serve.contents import site
from lxdocker_lxd.serve.remotes import Remote, config_text, remotes
from lxdocker_lxd.serve.site import SiteContext, SiteSettings
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.harness.site_server import SiteServer, client_directory, site_server
from tests.harness.stream_reader import Stream, read
from tests.serve.trees import context_of, digest, file_contents, made, minutes, named

pytestmark = [pytest.mark.lxd]

TOP = digest("top").removeprefix("sha256:")


def catalogue() -> list[Product]:
    """Images of several kinds, sources and ages."""
    nginx = "docker.io/library/nginx:1.27"
    return [
        named(
            "nginx",
            made("nginx 1", nginx, top="top"),
            made("nginx 2", nginx, at=minutes(30)),
            made("nginx 3", nginx, at=minutes(700)),
            aliases=("www", "further/name"),
        ),
        named("nginx", made("nginx for arms", nginx), architecture="arm64"),
        named("hass", made("hass", "ghcr.io/a/b:stable", image_format="gzip")),
        named("hass", made("hass v7", "ghcr.io/a/b:stable"), architecture="armhf"),
        named("hass", made("hass v6", "ghcr.io/a/b:stable"), architecture="armel"),
        named("hass", made("hass 386", "ghcr.io/a/b:stable"), architecture="i386"),
        named("hass", made("hass ppc", "ghcr.io/a/b:stable"), architecture="ppc64el"),
        named("hass", made("hass s390", "ghcr.io/a/b:stable"), architecture="s390x"),
        named("hass", made("hass risc", "ghcr.io/a/b:stable"), architecture="riscv64"),
        named("app", made("app", "localhost:5000/team/app:1", image_format="tar")),
        named("grafana", made("grafana", "docker.io/grafana/grafana:latest")),
        named("layout", made("layout", "oci:/srv/layout:1")),
    ]


class Client:
    """The ``lxc`` client with the printed remotes, before the private LXD."""

    def __init__(self, lxd: PrivateLxd, server: SiteServer, directory: Path) -> None:
        plain = context_of(*catalogue(), at=minutes(720), lxe_publish_delay_seconds=3900)
        settings = replace(plain.settings, base_url=server.url, remote_name="ours")
        self.context: SiteContext = replace(plain, settings=settings)
        self.server = server
        server.site = site(self.context)
        server.contents = file_contents(
            version for product in catalogue() for version in product.versions
        )
        self.remotes: Sequence[Remote] = [
            remote for remote in remotes(plain.catalogue, settings) if not remote.remark
        ]
        text = "default-remote: local\n" + config_text(self.remotes)
        home = client_directory(directory, text, server.authority)
        self.environment = lxd.environment | {"LXD_CONF": str(home)}

    def lxc(self, *arguments: str) -> str:
        return run("lxc", *arguments, env=self.environment).stdout

    def listed(self, remote: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            self.lxc("image", "list", f"{remote}:", "--format=json")
        )
        return found

    def foretold(self, remote: Remote) -> Stream:
        """What our own reader finds in the tree of a remote."""
        root = unquote(remote.addr.removeprefix(self.server.url))

        def fetch(path: str) -> bytes:
            content = self.server.answer(f"{root}/{path}")
            assert content is not None, path
            return content

        return read(fetch)

    def fingerprint(self, image: str) -> str:
        """What a name means to this client."""
        shown = self.lxc("image", "info", image)
        return next(line for line in shown.splitlines() if line.startswith("Finger")).split()[1]


@pytest.fixture(scope="module")
def client(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with site_server() as server:
        yield Client(private_lxd, server, tmp_path_factory.mktemp("client") / "conf")


def test_every_tree_lists_the_same_images_to_lxc_and_to_our_reader(client: Client) -> None:
    assert len(client.remotes) == 7
    for remote in client.remotes:
        foretold = {image.fingerprint: image for image in client.foretold(remote).images}
        listed = client.listed(remote.name)
        assert sorted(image["fingerprint"] for image in listed) == sorted(foretold), remote.name
        for image in listed:
            wanted = foretold[image["fingerprint"]]
            assert [alias["name"] for alias in image["aliases"] or []] == list(wanted.aliases)
            assert image["architecture"] == wanted.architecture
            assert image["properties"] == wanted.properties
            assert image["size"] == wanted.size_bytes
            assert image["type"] == wanted.type
            assert image["filename"] == wanted.filename
            assert image["created_at"] == wanted.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_every_alias_leads_where_our_reader_says(client: Client) -> None:
    for remote in client.remotes:
        foretold = client.foretold(remote)
        shown = client.lxc("image", "alias", "list", f"{remote.name}:", "--format=json")
        aliases = {alias["name"]: alias["target"] for alias in json.loads(shown)}
        assert aliases == {name: foretold.resolve(name) for name, _ in foretold.aliases}


@pytest.mark.parametrize(
    ("image", "content"),
    [
        ("ours:nginx", "nginx 3"),
        ("ours:further/name", "nginx 3"),
        ("ours:nginx/arm64", "nginx for arms"),
        ("ours:hass/i386", "hass 386"),
        # In the views the newest nginx still waits, and digests never move.
        ("docker.io:nginx:1.27", "nginx 2"),
        ("docker.io:nginx%1.27", "nginx 2"),
        ("library:nginx", "nginx 2"),
        (f"docker.io:nginx@sha256%{TOP}", "nginx 1"),
        (f"docker.io:nginx%1.27@sha256:{TOP}", "nginx 1"),
        ("index.docker.io:library/nginx%1.27", "nginx 2"),
        ("ghcr.io:a/b%stable", "hass"),
        ("ghcr.io:a/b:stable", "hass"),
        ("grafana:grafana", "grafana"),
        ("localhost%5000:team/app:1", "app"),
    ],
)
def test_names_people_and_lxe_use(client: Client, image: str, content: str) -> None:
    assert client.fingerprint(image) == made(content).fingerprint


@pytest.mark.parametrize("content", ["nginx 1", "nginx 2", "nginx 3", "hass", "app"])
def test_an_image_without_an_alias_is_found_and_fetched_by_its_fingerprint(
    client: Client, content: str
) -> None:
    """LXD itself checks size, hash and combined hash of what it fetches."""
    wanted = made(content).fingerprint
    assert client.fingerprint(f"ours:{wanted[:12]}") == wanted
    client.lxc("image", "copy", f"ours:{wanted}", "local:")
    try:
        (stored,) = [image for image in client.listed("local") if image["fingerprint"] == wanted]
        assert stored["properties"]["requirements.lxdocker.digest"].startswith("sha256:")
        assert "update_source" not in stored
    finally:
        client.lxc("image", "delete", f"local:{wanted}")


def test_an_image_fetched_by_its_alias_will_be_updated(client: Client) -> None:
    client.lxc("image", "copy", "ghcr.io:a/b%stable", "local:", "--auto-update", "--alias=home")
    try:
        (stored,) = [
            image
            for image in client.listed("local")
            if image["fingerprint"] == made("hass").fingerprint
        ]
        assert stored["auto_update"]
        assert stored["update_source"]["alias"] == "a/b%stable"
        assert stored["update_source"]["server"] == f"{client.server.url}/lxe/ghcr.io"
    finally:
        client.lxc("image", "delete", "local:home")


class TestTheHourThatLxdRemembers:
    """A fresh listing names an image that LXD, which read an older one, doesn't know yet."""

    OLD = made("hour old", "ghcr.io/c/d:1")
    NEW = made("hour new", "ghcr.io/c/d:1", at=minutes(600))

    @pytest.fixture
    def client(self, private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Client]:
        with site_server() as server:
            client = Client(private_lxd, server, tmp_path / "conf")
            server.contents = file_contents((self.OLD, self.NEW))
            yield client

    def publish(self, client: Client, *versions: Version, at: datetime, delay: int) -> None:
        settings: SiteSettings = replace(
            client.context.settings, lxe_publish_delay_seconds=delay * 60
        )
        products = context_of(named("d", *versions)).catalogue
        client.server.site = site(
            replace(client.context, catalogue=products, settings=settings, at=at)
        )

    def copy_as_lxe_does(self, client: Client) -> str:
        """Ask the server what the alias means; give LXD the fingerprint. Return what was copied."""
        fingerprint = client.fingerprint("ghcr.io:c/d%1")
        client.lxc("image", "copy", f"ghcr.io:{fingerprint}", "local:")
        client.lxc("image", "delete", f"local:{fingerprint}")
        return fingerprint

    def test_without_staging_the_newest_cannot_be_fetched(self, client: Client) -> None:
        self.publish(client, self.OLD, at=minutes(590), delay=0)
        assert self.copy_as_lxe_does(client) == self.OLD.fingerprint
        self.publish(client, self.OLD, self.NEW, at=minutes(600), delay=0)
        with pytest.raises(AssertionError, match="couldn't be found"):
            self.copy_as_lxe_does(client)

    def test_with_staging_lxd_knows_it_by_then(
        self, client: Client, private_lxd: PrivateLxd
    ) -> None:
        self.publish(client, self.OLD, at=minutes(590), delay=65)
        assert self.copy_as_lxe_does(client) == self.OLD.fingerprint
        # It is listed, and the alias stays: the image LXD knows.
        self.publish(client, self.OLD, self.NEW, at=minutes(600), delay=65)
        assert self.copy_as_lxe_does(client) == self.OLD.fingerprint
        # Within the hour that follows LXD reads the listing anew, whatever it is asked for.
        for name in ("index.json", "images.json"):
            for kept in (private_lxd.directory / "cache").glob(f"*/{name}"):
                os.utime(kept, (0, 0))
        assert self.copy_as_lxe_does(client) == self.OLD.fingerprint
        # Then the alias moves; LXD needs no new listing to fetch what it leads to.
        self.publish(client, self.OLD, self.NEW, at=minutes(665), delay=65)
        asked = len(client.server.asked)
        assert self.copy_as_lxe_does(client) == self.NEW.fingerprint
        listings = [path for path in client.server.asked[asked:] if path.endswith(".json")]
        # The two with which the client looked the alias up; none of LXD's.
        assert len(listings) == 2
