"""The pages in a browser for terminals, with neither style nor script."""

import subprocess
from pathlib import Path

import pytest

from tests.serve.page_images import catalogue
from tests.serve.trees import content_of, site_of


def dumped(path: str, directory: Path) -> str:
    """What w3m shows of a page, with single spaces."""
    page = directory / "page.html"
    page.write_bytes(content_of(site_of(*catalogue()), path))
    command = ("w3m", "-dump", "-cols", "80", "-T", "text/html", str(page))
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return " ".join(shown.stdout.split())


@pytest.mark.tools
def test_pages_are_read_in_a_terminal(tmp_path: Path) -> None:
    text = dumped("index.html", tmp_path)
    for expected in ("Application images", "home-assistant", "Web server, reverse proxy"):
        assert expected in text
    text = dumped("image/nginx/index.html", tmp_path)
    for expected in (
        "lxc launch lxdocker:nginx nginx",
        "docker.io/library/nginx:stable",
        "Ports 80/tcp 443/tcp",
        "NGINX_VERSION 1.27.4 1.28.0",
        "1 new, 1 gone, 2 kept",
    ):
        assert expected in text, expected
