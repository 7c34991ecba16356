"""Who is let in, with which credentials, and to whom they are never shown."""

import base64
import functools
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.registry.origin import UnsafeAddressError
from lxdocker_lxd.convert.registry.refusal import DeniedError, UnexpectedAnswerError
from lxdocker_lxd.convert.registry.settings import RegistrySettings
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.errors import AuthenticationError
from tests.harness import faulty
from tests.harness.fake_registry import FakeRegistry, Reply, Seen, fake_registry
from tests.harness.registry import (
    PASSWORD,
    USER,
    content_network,
    real_registry,
)
from tests.harness.registry_client import (
    credential_file,
    describe,
    read_blob,
    registry_client,
)
from tests.harness.tiny_image import TinyImage, tiny_image
from tests.harness.token_server import token_server

SECRET = f"{USER}:{PASSWORD}"


@pytest.fixture
def image(registry: FakeRegistry) -> TinyImage:
    image = tiny_image({"a": os.urandom(200_000)})
    registry.push("team/web", "1", image)
    return image


def want_tokens(registry: FakeRegistry, *, lifetime_seconds: int = 300) -> list[Seen]:
    """Let the registry ask for tokens of its own token server; return what that one was asked."""
    asked: list[Seen] = []
    issued: list[str] = []

    def token(seen: Seen, _body: bytes) -> Reply:
        asked.append(seen)
        if seen.user and seen.user != SECRET:
            return Reply(status=401, body=b'{"details":"incorrect password"}')
        issued.append(f"t{len(issued)}")
        document = {"access_token": issued[-1], "expires_in": lifetime_seconds}
        return Reply(status=200, body=json.dumps(document).encode())

    registry.routes["/token"] = token
    realm = f"http://{registry.host}/token?a=b"
    scope = 'scope="repository:team/web:pull"'
    registry.challenge = f'Negotiate abc==, Bearer realm="{realm}",service="s p",{scope}'
    registry.admits = lambda seen: seen.authorization == (f"Bearer {issued[-1]}" if issued else "-")
    return asked


def test_basic_credentials_go_to_the_registry_alone(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    registry.challenge = 'Basic realm="x"'
    registry.admits = lambda seen: seen.user == SECRET
    files = credential_file(tmp_path / "auth.json", {registry.host: SECRET})
    with fake_registry() as network, registry_client(credential_files=files) as client:
        network.push("team/web", "1", image)
        registry.fail("GET .*/blobs/", faulty.redirect(f"http://{network.host}{{path}}"), times=9)
        pulled = client.pull(f"{registry.host}/team/web:1", Store(tmp_path / "cache"))
        assert pulled.layers[0].path.read_bytes() == image.layers[0]
        assert network.requests
        assert [one.authorization for one in network.requests if one.authorization] == []


def test_an_anonymous_token_is_fetched_once_and_used_for_all(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    asked = want_tokens(registry)
    with registry_client() as client:
        client.pull(f"{registry.host}/team/web:1", Store(tmp_path / "cache"), jobs=3)
    assert [one.path for one in asked] == [
        "/token?a=b&service=s+p&scope=repository%3Ateam%2Fweb%3Apull"
    ]
    assert asked[0].authorization == ""


def test_a_password_is_exchanged_for_a_token(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    asked = want_tokens(registry)
    files = credential_file(tmp_path / "auth.json", {registry.host: SECRET})
    with registry_client(credential_files=files) as client:
        assert str(client.open(f"{registry.host}/team/web:1").head()) == image.digest
    assert asked[0].user == SECRET
    assert f"account={USER}" in asked[0].path
    assert all(SECRET not in one.user for one in registry.seen("/v2/"))


def test_a_second_repository_needs_no_second_challenge(
    registry: FakeRegistry, image: TinyImage
) -> None:
    asked = want_tokens(registry)
    registry.push("team/other", "1", image)
    with registry_client() as client:
        client.open(f"{registry.host}/team/web:1").head()
        client.open(f"{registry.host}/team/other:1").head()
    assert len(registry.seen("HEAD /v2/team/other")) == 1
    assert "scope=repository%3Ateam%2Fother%3Apull" in asked[1].path


def test_a_token_that_ran_out_is_renewed_before_it_is_sent(
    registry: FakeRegistry, image: TinyImage
) -> None:
    asked = want_tokens(registry, lifetime_seconds=90)
    with registry_client() as client:
        source = client.open(f"{registry.host}/team/web:1")
        source.head()
        client.now += timedelta(seconds=84)
        source.head()
        assert len(asked) == 1
        client.now += timedelta(seconds=2)
        source.head()
        assert len(asked) == 2
    assert [one.authorization for one in registry.seen("HEAD")] == [
        "",
        *["Bearer t0"] * 2,
        "Bearer t1",
    ]


def test_a_refused_token_is_renewed_once_in_mid_flight(
    registry: FakeRegistry, image: TinyImage
) -> None:
    asked = want_tokens(registry)
    with registry_client() as client:
        source = client.open(f"{registry.host}/team/web:1")
        source.head()
        expired = faulty.status(
            401, WWW_Authenticate=registry.challenge + ',error="insufficient_scope"'
        )
        registry.fail("GET .*/blobs/", expired)
        assert read_blob(source, describe(image.layers[0])) == image.layers[0]
        assert len(asked) == 2
        registry.fail("GET .*/blobs/", expired, times=2)
        with pytest.raises(DeniedError):
            read_blob(source, describe(image.layers[0]))
    assert len(asked) == 3


def test_the_scope_a_challenge_asks_for_comes_first(
    registry: FakeRegistry, image: TinyImage
) -> None:
    asked = want_tokens(registry)
    registry.challenge = registry.challenge.replace("team/web:pull", "parent:pull,push")
    with registry_client() as client:
        client.open(f"{registry.host}/team/web:1").head()
    scopes = [part for part in asked[0].path.split("&") if part.startswith("scope=")]
    assert scopes == [
        "scope=repository%3Aparent%3Apull%2Cpush",
        "scope=repository%3Ateam%2Fweb%3Apull",
    ]


def test_an_identity_token_is_exchanged_by_post_and_its_successor_kept(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    forms: list[bytes] = []

    def token(seen: Seen, body: bytes) -> Reply:
        assert seen.method == "POST"
        forms.append(body)
        return Reply(status=200, body=b'{"access_token":"t","refresh_token":"second"}')

    want_tokens(registry)
    registry.routes["/token"] = token
    registry.admits = lambda seen: seen.authorization == "Bearer t"
    registry.push("team/other", "1", image)
    for entry in ({"identitytoken": "first"}, "<token>:first"):
        forms.clear()
        files = credential_file(tmp_path / "auth.json", {registry.host: entry})
        with registry_client(credential_files=files) as client:
            client.open(f"{registry.host}/team/web:1").head()
            client.open(f"{registry.host}/team/other:1").head()
        assert b"grant_type=refresh_token&refresh_token=first&service=s+p" in forms[0]
        assert b"refresh_token=second" in forms[1]
        assert all("Authorization" not in one.headers for one in registry.seen("/token"))


def test_a_token_server_without_exchange_is_asked_anonymously(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    want_tokens(registry)
    registry.fail("POST /token", faulty.status(404))
    files = credential_file(tmp_path / "auth.json", {registry.host: {"identitytoken": "x"}})
    with registry_client(credential_files=files) as client:
        assert str(client.open(f"{registry.host}/team/web:1").head()) == image.digest


def test_a_registry_token_is_sent_without_any_exchange(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    asked = want_tokens(registry)
    registry.admits = lambda seen: seen.authorization == "Bearer ready"
    files = credential_file(tmp_path / "auth.json", {registry.host: {"registrytoken": "ready"}})
    with registry_client(credential_files=files) as client:
        assert str(client.open(f"{registry.host}/team/web:1").head()) == image.digest
    assert asked == []


def test_wrong_credentials_are_named_by_their_file_and_never_shown(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    want_tokens(registry)
    files = credential_file(tmp_path / "auth.json", {registry.host: f"{USER}:hidden-word"})
    with registry_client(credential_files=files) as client:
        with pytest.raises(AuthenticationError) as caught:
            client.open(f"{registry.host}/team/web:1").head()
        shown = f"{caught.value!r} {caught.value} {caught.value.hint} {client.notices}"
    assert str(tmp_path / "auth.json") in caught.value.message
    assert "401 incorrect password" in caught.value.message
    assert f"docker login {registry.host}" in caught.value.hint
    assert caught.value.exit_code == 4
    assert "hidden-word" not in shown
    assert base64.b64encode(f"{USER}:hidden-word".encode()).decode() not in shown


def test_no_credentials_where_some_are_wanted(registry: FakeRegistry, image: TinyImage) -> None:
    registry.challenge = 'Basic realm="x"'
    registry.admits = lambda _seen: False
    with registry_client() as client, pytest.raises(DeniedError) as caught:
        client.open(f"{registry.host}/team/web:1").manifest(None)
    assert "wants a login (401 UNAUTHORIZED: authentication required)" in caught.value.message
    assert f"podman login {registry.host}" in caught.value.hint


def test_forbidden_and_unknown_kinds_of_login(registry: FakeRegistry, image: TinyImage) -> None:
    with registry_client() as client:
        registry.fail("GET", faulty.status(403, b'{"errors":[{"code":"DENIED","message":"no"}]}'))
        with pytest.raises(DeniedError, match="403 DENIED: no"):
            client.open(f"{registry.host}/team/web:1").manifest(None)
        registry.fail("GET", faulty.status(401, WWW_Authenticate="Negotiate"))
        with pytest.raises(DeniedError, match="wants a login"):
            client.open(f"{registry.host}/team/web:1").manifest(None)


@pytest.mark.parametrize(
    "realm",
    [
        "http://10.1.2.3/token",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/token",
        "http://0xa000001/token",
        "http://user:pw@127.0.0.1/token",
        "ftp://127.0.0.1/token",
        "/token",
        "",
    ],
)
def test_a_realm_that_leads_astray_is_refused(
    registry: FakeRegistry, image: TinyImage, realm: str
) -> None:
    registry.challenge = f'Bearer realm="{realm}",service="s"'
    registry.admits = lambda _seen: False
    with registry_client() as client, pytest.raises(UnsafeAddressError):
        client.open(f"{registry.host}/team/web:1").head()


def test_a_token_server_that_redirects_astray_is_refused(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    want_tokens(registry)
    registry.fail("GET /token", faulty.redirect("http://10.0.0.1/token"))
    files = credential_file(tmp_path / "auth.json", {registry.host: SECRET})
    with registry_client(credential_files=files) as client, pytest.raises(UnsafeAddressError):
        client.open(f"{registry.host}/team/web:1").head()


def test_credentials_for_a_token_server_do_not_follow_its_redirects(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    want_tokens(registry)
    files = credential_file(tmp_path / "auth.json", {registry.host: SECRET})
    with fake_registry() as other, registry_client(credential_files=files) as client:
        other.routes["/token"] = lambda _seen, _body: Reply(status=200, body=b'{"token":"x"}')
        registry.fail("GET /token", faulty.redirect(f"http://{other.host}/token"))
        registry.admits = lambda seen: seen.authorization == "Bearer x"
        client.open(f"{registry.host}/team/web:1").head()
        assert [one.authorization for one in other.requests] == [""]


def test_identity_tokens_do_not_follow_redirects(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    want_tokens(registry)
    files = credential_file(tmp_path / "auth.json", {registry.host: {"identitytoken": "hidden"}})
    with fake_registry() as other, registry_client(credential_files=files) as client:
        registry.fail("POST /token", faulty.redirect(f"http://{other.host}/token"))
        with pytest.raises(UnexpectedAnswerError, match="answers 307"):
            client.open(f"{registry.host}/team/web:1").head()
        assert other.requests == []


def test_a_content_network_with_its_own_challenge_gets_an_anonymous_token_of_its_own(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    registry.challenge = 'Basic realm="x"'
    registry.admits = lambda seen: seen.user == SECRET
    files = credential_file(tmp_path / "auth.json", {registry.host: SECRET})
    with fake_registry() as network, registry_client(credential_files=files) as client:
        network.push("team/web", "1", image)
        asked = want_tokens(network)
        registry.fail("GET .*/blobs/", faulty.redirect(f"http://{network.host}{{path}}"))
        source = client.open(f"{registry.host}/team/web:1")
        assert read_blob(source, describe(image.layers[0])) == image.layers[0]
        assert [one.authorization for one in asked] == [""]
        # The registry's own login is as it was.
        assert source.manifest(None).raw == image.manifest
        # Passwords and unknown schemes are not met there.
        for challenge in ('Basic realm="x"', "Negotiate", ""):
            network.challenge = challenge
            network.admits = lambda _seen: False
            registry.fail("GET .*/blobs/", faulty.redirect(f"http://{network.host}{{path}}"))
            with pytest.raises(DeniedError):
                read_blob(source, describe(image.layers[0]))
        assert {one.authorization for one in network.requests} == {"", "Bearer t0"}


def test_redirects_that_lead_astray_or_never_end_are_refused(
    registry: FakeRegistry, image: TinyImage
) -> None:
    blob = describe(image.layers[0])
    with registry_client() as client:
        source = client.open(f"{registry.host}/team/web:1")
        registry.fail("GET .*/blobs/", faulty.redirect("http://192.168.0.1/x"))
        with pytest.raises(UnsafeAddressError, match=r"192\.168\.0\.1"):
            read_blob(source, blob)
        registry.fail("GET .*/blobs/", faulty.redirect("file:///etc/passwd"))
        with pytest.raises(UnsafeAddressError):
            read_blob(source, blob)
        registry.fail("GET .*/blobs/", faulty.redirect("{path}"), times=50)
        with pytest.raises(UnexpectedAnswerError, match="redirects more than 10 times"):
            read_blob(source, blob)


def test_a_netrc_file_is_not_read(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login spy password spy\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with registry_client() as client:
        client.open(f"{registry.host}/team/web:1").head()
    assert [one.authorization for one in registry.requests] == [""]


def test_an_answer_of_the_token_server_that_is_no_token(
    registry: FakeRegistry, image: TinyImage
) -> None:
    want_tokens(registry)
    for body in (b"{}", b"<html>", b'{"token":"two words"}', b'{"token":"line\\nbreak"}'):
        reply = Reply(status=200, body=body)
        registry.routes["/token"] = functools.partial(lambda told, _seen, _body: told, reply)
        with registry_client() as client, pytest.raises(InvalidDocumentError):
            client.open(f"{registry.host}/team/web:1").head()


def test_a_busy_token_server_is_waited_for(registry: FakeRegistry, image: TinyImage) -> None:
    want_tokens(registry)
    registry.fail("GET /token", faulty.status(429, retry_after="2"))
    registry.fail("GET /token", faulty.status(503))
    with registry_client() as client:
        assert str(client.open(f"{registry.host}/team/web:1").head()) == image.digest
        assert client.slept == [2, 2]


# ---- the same against the real thing


@pytest.mark.registry
def test_docker_registry_with_passwords(tmp_path: Path) -> None:
    image = tiny_image({"a": b"x" * 9000})
    layout = image.write_layout(tmp_path / "layout")
    with real_registry(tmp_path / "registry", htpasswd=True) as registry:
        registry.push_layout(layout, "latest", "team/web")
        name = f"{registry.host}/team/web"
        files = credential_file(tmp_path / "auth.json", {f"{registry.host}/team": SECRET})
        with registry_client(credential_files=files) as client:
            pulled = client.pull(name, Store(tmp_path / "cache"))
            assert str(pulled.top_digest) == image.digest
        with registry_client() as client, pytest.raises(DeniedError, match="wants a login"):
            client.open(name).manifest(None)


@pytest.mark.registry
def test_docker_registry_with_a_token_server(tmp_path: Path) -> None:
    image = tiny_image({"a": b"x" * 9000})
    layout = image.write_layout(tmp_path / "layout")
    with (
        token_server(passwords={USER: PASSWORD}, identity_tokens=("long-lived",)) as tokens,
        real_registry(tmp_path / "registry", tokens=tokens) as registry,
    ):
        registry.push_layout(layout, "latest", "team/web")
        registry.push_layout(layout, "latest", "public/web")
        name = f"{registry.host}/team/web"
        for entry in (SECRET, {"identitytoken": "long-lived"}):
            tokens.requests.clear()
            files = credential_file(tmp_path / "auth.json", {registry.host: entry})
            with registry_client(credential_files=files) as client:
                client.pull(name, Store(tmp_path / f"cache-{len(str(entry))}"))
            assert len(tokens.requests) == 1
            assert tokens.requests[0].scopes == ("repository:team/web:pull",)
        with registry_client() as client:
            assert str(client.open(f"{registry.host}/public/web").head()) == image.digest
            with pytest.raises(DeniedError, match="wants a login"):
                client.open(name).manifest(None)
        files = credential_file(tmp_path / "auth.json", {registry.host: f"{USER}:wrong"})
        with (
            registry_client(credential_files=files) as client,
            pytest.raises(DeniedError) as caught,
        ):
            client.open(name).head()
        assert "refused the credentials from" in caught.value.message


@pytest.mark.registry
def test_docker_registry_that_redirects_to_a_content_network(tmp_path: Path) -> None:
    image = tiny_image({"a": os.urandom(300_000)})
    layout = image.write_layout(tmp_path / "layout")
    with (
        content_network() as network,
        real_registry(tmp_path / "registry", htpasswd=True, redirect_to=network.url) as registry,
    ):
        network.root = registry.directory / "storage"
        registry.push_layout(layout, "latest", "team/web")
        network.paths.clear()
        files = credential_file(tmp_path / "auth.json", {registry.host: SECRET})
        with registry_client(credential_files=files) as client:
            source = client.open(f"{registry.host}/team/web")
            layer = describe(image.layers[0])
            assert read_blob(source, layer) == image.layers[0]
            assert read_blob(source, layer, 12_345) == image.layers[0][12_345:]
        assert len(network.paths) == 2
        assert network.authorizations == []


@pytest.mark.registry
def test_docker_registry_with_tls(tmp_path: Path) -> None:
    image = tiny_image({"a": b"x"})
    layout = image.write_layout(tmp_path / "layout")
    with real_registry(tmp_path / "registry", tls=True) as registry:
        registry.push_layout(layout, "latest", "team/web")
        trusting = RegistrySettings(host=registry.host, ca_file=str(registry.ca_file))
        with registry_client(trusting) as client:
            client.pull(f"{registry.host}/team/web", Store(tmp_path / "cache"))
