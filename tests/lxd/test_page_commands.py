"""Somebody reads an image's page and copies what it says, line by line: the image runs and answers."""

import os
import shutil
import ssl
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.harness.image_server import ImageServer, free_port, image_server
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.lxd.test_real_images import page as answer_of
from tests.serve.page_reader import ReadPage

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")


def fetched(server: ImageServer, url: str) -> bytes:
    """What the server answers to somebody who trusts it already."""
    trusting = urllib.request.HTTPSHandler(
        context=ssl.create_default_context(cafile=str(server.authority))
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting)
    with opener.open(url) as got:
        content: bytes = got.read()
    return content


def test_the_lines_of_a_page_lead_to_a_page_of_the_image(
    private_lxd: PrivateLxd, tmp_path: Path
) -> None:
    port = free_port()
    with image_server(tmp_path) as server:
        product = server.publish(
            "web",
            files={"bin/busybox": BUSYBOX.read_bytes(), "www/index.html": b"it answers"},
            entrypoint=["/bin/busybox", "httpd", "-f", "-p", str(port), "-h", "/www"],
            spec=f'ports: ["{port}/tcp"]\n',
        )
        url = f"{server.url}/image/web/"
        page = ReadPage(fetched(server, url))
        home = tmp_path / "home"
        home.mkdir()
        (link,) = (one for one in page.named("a") if one.text == "ca.crt")
        authority = fetched(server, urljoin(url, link.attributes["href"]))
        (home / "ca.crt").write_bytes(authority)
        own = {name: value for name, value in os.environ.items() if name != "LXD_CONF"}
        own |= {"HOME": str(home), "LXD_DIR": str(private_lxd.directory)}

        def copied(beginning: str) -> None:
            (line,) = (one for one in page.copied if one.startswith(beginning))
            run("sh", "-c", f'cd "$HOME" && {line}', env=own, timeout_seconds=120)

        try:
            copied("lxc remote add ")
            copied("install -Dm644 ca.crt ~/.config/lxc/")
            copied("lxc launch ")
            copied("lxc config device add ")
            assert answer_of(f"http://127.0.0.1:{port}/") == "it answers"
        finally:
            private_lxd.delete("web")
            private_lxd.lxc("image", "delete", product.newest.fingerprint)
