"""The image server and real clients: LXD fetches, launches, copies and follows what is published."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.image_server import ImageServer, image_server
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.harness.registry import real_registry
from tests.harness.small_image import write_layout
from tests.lxd.test_real_images import page

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")
SERVE_PAGE = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]


def files(text: str) -> dict[str, bytes]:
    """A web server whose page says ``text``."""
    return {"bin/busybox": BUSYBOX.read_bytes(), "www/index.html": text.encode()}


@pytest.fixture(scope="module")
def lxd() -> Iterator[PrivateLxd]:
    """A LXD of this module's own: it is restarted here."""
    with PrivateLxd() as one:
        yield one


@pytest.fixture
def server(tmp_path: Path, lxd: PrivateLxd) -> Iterator[ImageServer]:
    """An image server known to the client as ``shop``; instances and images end with the test."""
    with image_server(tmp_path) as one:
        one.add_remote(lxd, "shop")
        yield one
    names = lxd.instances()
    if names:
        lxd.delete(*names)
    for image in json.loads(lxd.lxc("image", "list", "--format", "json").stdout):
        lxd.lxc("image", "delete", image["fingerprint"])
    for name, remote in json.loads(lxd.lxc("remote", "list", "--format", "json").stdout).items():
        if "127.0.0.1" in remote["Addr"]:
            lxd.lxc("remote", "remove", name)


def answer(lxd: PrivateLxd, name: str) -> str:
    """What the instance's web server says."""
    return page(f"http://{lxd.address(name)}/")


def launch(lxd: PrivateLxd, image: str, name: str) -> str:
    """Launch as a user does; return the fingerprint the instance was made of."""
    lxd.lxc("launch", image, name)
    config = lxd.query("GET", f"/1.0/instances/{name}")["config"]
    return str(config["volatile.base_image"])


def fingerprint_of(lxd: PrivateLxd, alias: str) -> str:
    """What a local alias stands for."""
    return str(lxd.query("GET", f"/1.0/images/aliases/{alias}")["target"])


def test_a_published_image_is_listed_launched_copied_and_followed(
    lxd: PrivateLxd, server: ImageServer
) -> None:
    first = server.publish("web", files=files("one"), entrypoint=SERVE_PAGE, spec="aliases: [site]")

    listed = json.loads(lxd.lxc("image", "list", "shop:", "--format", "json").stdout)
    assert [image["fingerprint"] for image in listed] == [first.newest.fingerprint]
    properties = listed[0]["properties"]
    assert properties["requirements.lxdocker.digest"] == first.newest.source.top_digest
    names = {alias["name"] for alias in listed[0]["aliases"]}
    assert {"web", "web/current", "web/current/default", "site", "web/amd64"} <= names

    for image, name in (("shop:web", "a"), ("shop:site/amd64", "b"), ("shop:web/current", "c")):
        assert launch(lxd, image, name) == first.newest.fingerprint
    assert answer(lxd, "a") == "one"
    lxd.delete("b", "c")

    lxd.lxc("image", "copy", "shop:web", "local:", "--alias", "web", "--auto-update")
    second = server.publish("web", files=files("two"), entrypoint=SERVE_PAGE)
    assert second.newest.fingerprint != first.newest.fingerprint
    # LXD trusts the listing it has for an hour.
    server.forget_listings(lxd)
    lxd.lxc("image", "refresh", "web")
    assert fingerprint_of(lxd, "web") == second.newest.fingerprint
    assert launch(lxd, "web", "d") == second.newest.fingerprint
    assert answer(lxd, "d") == "two"
    # What runs goes on with the version it came from.
    assert answer(lxd, "a") == "one"

    # LXD updates its images by itself when it starts.
    third = server.publish("web", files=files("three"), entrypoint=SERVE_PAGE)
    server.forget_listings(lxd)
    lxd.restart()
    eventually(
        lambda: fingerprint_of(lxd, "web") == third.newest.fingerprint,
        timeout_seconds=60,
        what="LXD's own update",
    )
    assert launch(lxd, "web", "e") == third.newest.fingerprint
    assert answer(lxd, "e") == "three"


def test_an_earlier_version_is_launched_by_its_fingerprint(
    lxd: PrivateLxd, server: ImageServer
) -> None:
    first = server.publish("web", files=files("one"), entrypoint=SERVE_PAGE)
    second = server.publish("web", files=files("two"), entrypoint=SERVE_PAGE)
    assert launch(lxd, f"shop:{first.newest.fingerprint}", "old") == first.newest.fingerprint
    assert answer(lxd, "old") == "one"
    assert launch(lxd, "shop:web", "new") == second.newest.fingerprint


def test_the_same_tree_under_another_serial_is_fresh_at_once(
    lxd: PrivateLxd, server: ImageServer
) -> None:
    first = server.publish("web", files=files("one"), entrypoint=SERVE_PAGE)
    assert launch(lxd, "shop:web", "a") == first.newest.fingerprint
    second = server.publish("web", files=files("two"), entrypoint=SERVE_PAGE)

    def pull(url: str) -> str:
        source = {
            "type": "image",
            "mode": "pull",
            "protocol": "simplestreams",
            "server": url,
            "alias": "web",
            "certificate": server.authority.read_text(),
        }
        operation = lxd.query("POST", "/1.0/images", {"source": source})
        return str(operation["metadata"]["fingerprint"])

    assert pull(f"{server.url}/at/{second.newest.serial}") == second.newest.fingerprint


@pytest.mark.parametrize("form", ["gzip", "tar"])
def test_other_forms_of_a_root_filesystem_are_launched_too(
    form: str, lxd: PrivateLxd, server: ImageServer
) -> None:
    published = server.publish("web", files=files(form), entrypoint=SERVE_PAGE, image_format=form)
    assert launch(lxd, "shop:web", "a") == published.newest.fingerprint
    assert answer(lxd, "a") == form


@pytest.mark.registry
def test_a_remote_for_each_registry_takes_the_names_that_docker_takes(
    lxd: PrivateLxd, server: ImageServer, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    wanted = {
        "ghcr": ("ghcr.io/home-assistant/home-assistant:stable", "home-assistant/home-assistant"),
        "hub": ("grafana/grafana:10.4", "grafana/grafana"),
        "official": ("nginx:1.25", "library/nginx"),
    }
    with real_registry(tmp_path / "registry") as registry:
        for name, (image, path) in wanted.items():
            write_layout(layout, tag=name, files=files(name), entrypoint=SERVE_PAGE)
            registry.push_layout(layout, name, f"{path}:{image.rpartition(':')[2]}")
            (server.specs / f"{name}.yaml").write_text(f"image: {image}\n")
        hosts = "".join(
            f"  {host}: {{mirrors: ['{registry.host}']}}\n" for host in ("docker.io", "ghcr.io")
        )
        server.settings.write_text(f"registries:\n{hosts}  '{registry.host}': {{insecure: true}}\n")
        server.convert()
    server.add_remote(lxd, "ghcr.io", "/lxe/ghcr.io")
    server.add_remote(lxd, "docker.io", "/lxe/docker.io")
    server.add_remote(lxd, "grafana", "/lxe/hub/grafana")
    launches = {
        "a": ("ghcr.io:home-assistant/home-assistant", "ghcr"),
        "b": ("ghcr.io:home-assistant/home-assistant%stable", "ghcr"),
        "c": ("docker.io:grafana/grafana%10.4", "hub"),
        "d": ("docker.io:nginx%1.25", "official"),
        "e": ("grafana:grafana%10.4", "hub"),
    }
    for name, (image, product) in launches.items():
        assert launch(lxd, image, name) == server.product(product).newest.fingerprint, image
    assert answer(lxd, "a") == "ghcr"
    assert answer(lxd, "d") == "official"
    assert answer(lxd, "e") == "hub"


def test_an_image_of_the_server_needs_no_plain_http(lxd: PrivateLxd, server: ImageServer) -> None:
    """LXD asks for files over plain HTTP on the same port first; it is refused at once."""
    server.publish("web", files=files("one"), entrypoint=SERVE_PAGE)
    done = run("lxc", "image", "copy", "shop:web", "local:", env=lxd.environment)
    assert done.returncode == 0
