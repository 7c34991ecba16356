"""Mirrors before the registry, foreign layers after it, and each host by its own settings."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.convert.registry.origin import UnsafeAddressError
from lxdocker_lxd.convert.registry.settings import RegistrySettings
from lxdocker_lxd.convert.registry.transport import (
    NotTlsError,
    Transport,
    UnreachableError,
    UntrustedCertificateError,
)
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.errors import NotFoundError, UsageError
from tests.harness import faulty
from tests.harness.fake_registry import FakeRegistry, Reply, Seen, fake_registry
from tests.harness.registry_client import (
    credential_file,
    describe,
    read_blob,
    registry_client,
)
from tests.harness.tiny_image import TinyImage, tiny_image

CONTENT = os.urandom(300_000)


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with fake_registry() as mirror:
        yield mirror


@pytest.fixture
def image(registry: FakeRegistry, mirror: FakeRegistry) -> TinyImage:
    image = tiny_image({"a": CONTENT})
    registry.push("team/web", "1", image)
    mirror.push("team/web", "1", image)
    return image


def mirrored(registry: FakeRegistry, *mirrors: str) -> RegistrySettings:
    """The registry's settings with these mirrors."""
    return RegistrySettings(host=registry.host, mirrors=mirrors)


def test_a_mirror_is_asked_instead_of_the_registry(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    with registry_client(mirrored(registry, mirror.host)) as client:
        client.pull(f"{registry.host}/team/web:1", Store(tmp_path / "cache"))
    assert len(mirror.requests) == 3
    assert registry.requests == []


def test_docker_hub_is_reached_through_a_mirror_with_a_prefix(
    mirror: FakeRegistry, tmp_path: Path
) -> None:
    image = tiny_image({"a": b"x"})
    mirror.push("hub/library/web", "1", image)
    hub = RegistrySettings(host="docker.io", mirrors=(f"{mirror.host}/hub",))
    with registry_client(hub) as client:
        assert str(client.open("web:1").head()) == image.digest
    assert mirror.requests[0].path == "/v2/hub/library/web/manifests/1"


def test_what_a_mirror_lacks_comes_from_the_registry_without_a_word(
    registry: FakeRegistry, mirror: FakeRegistry, tmp_path: Path
) -> None:
    image = tiny_image({"a": b"x"})
    registry.push("team/web", "1", image)
    with registry_client(mirrored(registry, mirror.host)) as client:
        pulled = client.pull(f"{registry.host}/team/web:1", Store(tmp_path / "cache"))
        assert str(pulled.top_digest) == image.digest
        assert client.notices == []
        assert client.slept == []


@pytest.mark.parametrize("code", [401, 403, 418, 429, 500])
def test_a_mirror_that_fails_is_passed_over_at_once(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage, code: int
) -> None:
    mirror.fail(".*", faulty.status(code), times=9)
    with registry_client(mirrored(registry, mirror.host)) as client:
        source = client.open(f"{registry.host}/team/web:1")
        assert source.manifest(None).raw == image.manifest
        assert client.slept == []
        assert client.notices[0].startswith(f"mirror {mirror.host} is passed over: ")


def test_a_mirror_that_is_down_is_passed_over(registry: FakeRegistry, image: TinyImage) -> None:
    with fake_registry() as gone:
        down = gone.host
    with registry_client(mirrored(registry, down)) as client:
        assert str(client.open(f"{registry.host}/team/web:1").head()) == image.digest
        assert client.slept == []


def test_a_mirror_that_breaks_off_is_followed_by_the_registry_at_the_same_byte(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage
) -> None:
    mirror.fail("GET .*/blobs/", faulty.cut(123_456))
    with registry_client(mirrored(registry, mirror.host)) as client:
        source = client.open(f"{registry.host}/team/web:1")
        assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    assert [one.range for one in registry.requests] == ["bytes=123456-"]


def test_a_mirror_with_wrong_bytes_is_not_asked_for_them_again(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    mirror.fail(f"GET .*/blobs/{image.layer_digests[0]}", faulty.spoil(), times=9)
    with registry_client(mirrored(registry, mirror.host)) as client:
        pulled = client.pull(f"{registry.host}/team/web:1", Store(tmp_path / "cache"))
    assert pulled.layers[0].path.read_bytes() == image.layers[0]
    assert len(mirror.seen(image.layer_digests[0])) == 1
    assert len(registry.requests) == 1


def test_when_all_fail_the_error_is_the_registrys(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    with (
        registry_client(mirrored(registry, mirror.host)) as client,
        pytest.raises(NotFoundError, match=f"not found at {registry.host}"),
    ):
        client.open(f"{registry.host}/team/web:1").manifest(None)


def test_a_mirror_gets_its_own_credentials_and_no_others(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    for one, user in ((registry, "main:secret"), (mirror, "mirror:other")):
        one.challenge = "Basic"
        one.admits = lambda seen, user=user: seen.user == user  # type: ignore[misc]  # a default binds it
    only_main = credential_file(tmp_path / "a.json", {registry.host: "main:secret"})
    with registry_client(mirrored(registry, mirror.host), credential_files=only_main) as client:
        client.open(f"{registry.host}/team/web:1").head()
    assert {one.user for one in mirror.requests} == {""}
    both = credential_file(
        tmp_path / "b.json", {registry.host: "main:secret", mirror.host: "mirror:other"}
    )
    with registry_client(mirrored(registry, mirror.host), credential_files=both) as client:
        client.open(f"{registry.host}/team/web:1").head()
    assert {one.user for one in mirror.requests} == {"", "mirror:other"}


# ---- layers that live elsewhere


def test_a_foreign_layer_comes_from_the_registry_if_it_has_it(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage
) -> None:
    layer = describe(image.layers[0], urls=(f"http://{mirror.host}/layer",))
    with registry_client() as client:
        assert read_blob(client.open(f"{registry.host}/team/web:1"), layer) == image.layers[0]
    assert mirror.requests == []


def test_a_foreign_layer_comes_from_its_url_without_credentials(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    (content,) = image.layers
    registry.forget_blob(image.layer_digests[0])
    registry.challenge = "Basic"
    registry.admits = lambda seen: seen.user == "main:secret"

    def serve(seen: Seen, _body: bytes) -> Reply:
        start = int(seen.range[6:-1] or 0)
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return Reply(status=206 if start else 200, headers=headers, body=content[start:])

    mirror.routes["/layer"] = serve
    mirror.fail("GET /layer", faulty.cut(1000))
    files = credential_file(
        tmp_path / "auth.json", {registry.host: "main:secret", mirror.host: "mirror:other"}
    )
    urls = (
        "http://nowhere.invalid:1/",
        f"http://{mirror.host}/none",
        f"http://{mirror.host}/layer",
    )
    # A loopback address is private: only a host the settings name may be one.
    unreachable = RegistrySettings(
        host="nowhere.invalid:1", proxy=f"http://{mirror.host}", insecure=True
    )
    trusted = RegistrySettings(host=mirror.host)
    with registry_client(trusted, unreachable, credential_files=files) as client:
        source = client.open(f"{registry.host}/team/web:1")
        assert read_blob(source, describe(content, urls=urls)) == content
    assert {one.authorization for one in mirror.requests} == {""}
    assert [one.range for one in mirror.seen("GET /layer")] == ["", "bytes=1000-"]


def test_a_foreign_layer_at_a_private_address_is_refused(
    registry: FakeRegistry, mirror: FakeRegistry, image: TinyImage
) -> None:
    registry.forget_blob(image.layer_digests[0])
    layer = describe(image.layers[0], urls=(f"http://{mirror.host}/layer",))
    with registry_client() as client, pytest.raises(UnsafeAddressError, match="private network"):
        read_blob(client.open(f"{registry.host}/team/web:1"), layer)
    assert mirror.requests == []


# ---- TLS, plain http, proxies


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return authority, str(file)


def server_side(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's TLS settings with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_private_authority_is_trusted_by_name_only(authority: tuple[trustme.CA, str]) -> None:
    image = tiny_image({"a": CONTENT})
    with fake_registry(tls=server_side(authority[0], "127.0.0.1")) as registry:
        registry.push("web", "1", image)
        with registry_client(RegistrySettings(host=registry.host, ca_file=authority[1])) as client:
            source = client.open(f"{registry.host}/web:1")
            assert read_blob(source, describe(image.layers[0])) == image.layers[0]
        # Neither being on this machine nor insecure makes a certificate good.
        for settings in ((), (RegistrySettings(host=registry.host, insecure=True),)):
            with registry_client(*settings) as client:
                with pytest.raises(UntrustedCertificateError) as caught:
                    client.open(f"{registry.host}/web:1").head()
                assert client.slept == []
            assert "local issuer certificate" in caught.value.message
            assert f"set ca_file of {registry.host} under registries:" in caught.value.hint
            assert caught.value.exit_code == 5


def test_a_certificate_for_another_name_is_refused(authority: tuple[trustme.CA, str]) -> None:
    with fake_registry(tls=server_side(authority[0], "registry.example")) as registry:
        settings = RegistrySettings(host=registry.host, ca_file=authority[1])
        with (
            registry_client(settings) as client,
            pytest.raises(UntrustedCertificateError) as caught,
        ):
            client.open(f"{registry.host}/web:1").head()
    assert "127.0.0.1" in caught.value.message
    assert authority[1] in caught.value.hint


def test_a_ca_file_that_is_none(tmp_path: Path, registry: FakeRegistry) -> None:
    (tmp_path / "empty.pem").write_text("not a certificate")
    for name in ("missing.pem", "empty.pem"):
        settings = RegistrySettings(host=registry.host, ca_file=str(tmp_path / name))
        with registry_client(settings) as client, pytest.raises(UsageError, match=name) as caught:
            client.open(f"{registry.host}/web:1").head()
        assert f"check ca_file of {registry.host}" in caught.value.hint


def test_a_redirect_from_https_to_http_is_refused(
    authority: tuple[trustme.CA, str], registry: FakeRegistry, image: TinyImage
) -> None:
    with fake_registry(tls=server_side(authority[0], "127.0.0.1")) as safe:
        safe.push("team/web", "1", image)
        safe.fail("GET .*/blobs/", faulty.redirect(f"http://{registry.host}{{path}}"))
        with registry_client(RegistrySettings(host=safe.host, ca_file=authority[1])) as client:
            source = client.open(f"{safe.host}/team/web:1")
            with pytest.raises(UnsafeAddressError, match="not encrypted"):
                read_blob(source, describe(image.layers[0]))
    assert registry.requests == []


def test_plain_http_needs_loopback_or_a_word_in_the_settings(
    registry: FakeRegistry, image: TinyImage
) -> None:
    port = registry.host.partition(":")[2]
    other = f"registry.example:{port}"
    here = {"registry.example": "127.0.0.1"}
    with registry_client(RegistrySettings(host=other, proxy=""), addresses=here) as client:
        with pytest.raises(NotTlsError) as caught:
            client.open(f"{other}/team/web:1").head()
        assert f"set insecure: true for {other}" in caught.value.hint
    insecure = RegistrySettings(host=other, proxy="", insecure=True)
    with registry_client(insecure, addresses=here) as client:
        assert str(client.open(f"{other}/team/web:1").head()) == image.digest


def test_a_proxy_is_used_for_the_hosts_it_is_set_for(
    image: TinyImage, mirror: FakeRegistry
) -> None:
    host = "registry.example:5000"
    through = RegistrySettings(host=host, proxy=f"http://{mirror.host}", insecure=True)
    with registry_client(through) as client:
        # Asked as a proxy, the fake plays the registry too; only TLS it can't pass on.
        assert client.open(f"{host}/team/web:1").manifest(None).raw == image.manifest
    assert mirror.requests[-1].path == f"http://{host}/v2/team/web/manifests/1"


def test_a_proxy_that_is_down_is_named(registry: FakeRegistry) -> None:
    with fake_registry() as gone:
        down = gone.host
    through = RegistrySettings(host="registry.example:5000", proxy=f"http://{down}")
    with registry_client(through) as client, pytest.raises(UnreachableError) as caught:
        client.open("registry.example:5000/web:1").head()
    assert "proxy" in caught.value.hint


def test_the_environments_proxy_is_used_except_for_loopback() -> None:
    asked: list[str] = []

    def proxies(url: str) -> dict[str, str]:
        asked.append(url)
        return {"http": "http://127.0.0.1:9", "https": "http://127.0.0.1:9"}

    transport = Transport(proxy_of=proxies)
    for host, settings in (
        ("registry.example", RegistrySettings(host="registry.example")),
        ("127.0.0.1:9", RegistrySettings(host="127.0.0.1:9")),
        ("registry.example", RegistrySettings(host="registry.example", proxy="http://127.0.0.1:9")),
    ):
        with pytest.raises(UnreachableError):
            transport.send("GET", f"http://{host}/", settings=settings, what="it")
    transport.close()
    assert asked == ["http://registry.example/"]
