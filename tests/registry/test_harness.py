"""The registries the tests rely on are what they claim to be."""

import base64
import json
import urllib.request
from pathlib import Path

import pytest

from tests.harness.registry import PASSWORD, USER, content_network, real_registry
from tests.harness.tiny_image import OCI_INDEX, OCI_MANIFEST, tiny_image, tiny_index
from tests.harness.token_server import token_server

pytestmark = pytest.mark.registry


def _get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        content: bytes = answer.read()
        return content


def test_a_pushed_layout_keeps_its_bytes(tmp_path: Path) -> None:
    image = tiny_index(
        {
            "linux/amd64": tiny_image({"a": b"x" * 10_000}),
            "linux/arm64/v8": tiny_image({"a": b"y"}, architecture="arm64"),
        }
    )
    image.write_layout(tmp_path / "layout")
    with real_registry(tmp_path / "registry") as registry:
        digest = registry.push_layout(tmp_path / "layout", "latest", "library/web:1.0")
        assert digest == image.digest
        url = f"http://{registry.host}/v2/library/web/manifests/1.0"
        assert _get(url, Accept=f"{OCI_INDEX}, {OCI_MANIFEST}") == image.manifest
        assert registry.storage_of(image.digest).read_bytes() == image.manifest


def test_nothing_listens_after_the_block(tmp_path: Path) -> None:
    with real_registry(tmp_path / "registry") as registry:
        assert json.loads(_get(f"http://{registry.host}/v2/")) == {}
    with pytest.raises(OSError, match="refused"):
        _get(f"http://{registry.host}/v2/")


def test_htpasswd_tokens_tls_and_redirects(tmp_path: Path) -> None:
    image = tiny_image({"a": b"x" * 5000})
    layout = image.write_layout(tmp_path / "layout")
    with real_registry(tmp_path / "htpasswd", htpasswd=True) as registry:
        registry.push_layout(layout, "latest", "private/web")
        with pytest.raises(OSError, match="401"):
            _get(f"http://{registry.host}/v2/")
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        assert _get(f"http://{registry.host}/v2/", Authorization=f"Basic {basic}") == b"{}"
    with (
        token_server(passwords={USER: PASSWORD}) as tokens,
        real_registry(tmp_path / "tokens", tokens=tokens) as registry,
    ):
        registry.push_layout(layout, "latest", "private/web")
        assert any(request.user == USER for request in tokens.requests)
    with (
        content_network() as network,
        real_registry(tmp_path / "cdn", redirect_to=network.url, tls=True) as registry,
    ):
        network.root = registry.directory / "storage"
        registry.push_layout(layout, "latest", "library/web")
        assert registry.ca_file is not None
        assert registry.storage_of(image.layer_digests[0]).is_file()
