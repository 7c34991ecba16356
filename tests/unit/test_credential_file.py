"""Docker's and podman's credential files, key by key."""

import base64
import json
import traceback

import pytest

from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.registry.credential_file import (
    CredentialEntries,
    IdentityToken,
    Password,
    RegistryToken,
    parse_credentials,
    server_address,
)
from lxdocker_lxd.convert.registry.settings import CredentialForm


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def parsed(document: object, form: CredentialForm = "containers") -> CredentialEntries:
    return parse_credentials(json.dumps(document).encode(), form=form, what="auth.json")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("user:pass"), Password(username="user", password="pass")),
        (auth("user:pa:ss:"), Password(username="user", password="pa:ss:")),
        (auth("user:pass\0\0"), Password(username="user", password="pass")),
        (auth("user:"), Password(username="user", password="")),
        (auth("<token>:abc"), IdentityToken(token="abc")),
        (auth("<token>:"), None),
        (auth("no colon"), None),
        (auth(":nobody"), None),
        ({"username": "user", "password": "pass"}, Password(username="user", password="pass")),
        ({"identitytoken": "abc"}, IdentityToken(token="abc")),
        (auth("user:pass") | {"identitytoken": "abc"}, IdentityToken(token="abc")),
        ({"registrytoken": "abc"}, RegistryToken(token="abc")),
        ({}, None),
        (None, None),
    ],
)
def test_entries(entry: object, expected: object) -> None:
    assert parsed({"auths": {"r.example": entry}}).secret("r.example", "a/b") == expected


def test_the_longest_key_wins_in_podmans_files() -> None:
    entries = parsed(
        {
            "auths": {
                "r.example": auth("host:1"),
                "r.example/ns": auth("ns:1"),
                "r.example/ns/repo": auth("repo:1"),
                "r.example:5000": auth("port:1"),
            }
        }
    )

    def user(registry: str, repository: str) -> str | None:
        secret = entries.secret(registry, repository)
        return secret.username if isinstance(secret, Password) else None

    assert user("r.example", "ns/repo") == "repo"
    assert user("r.example", "ns/repo/deeper") == "repo"
    assert user("r.example", "ns/repository") == "ns"
    assert user("r.example", "ns") == "ns"
    assert user("r.example", "other/repo") == "host"
    assert user("r.example:5000", "ns/repo") == "port"
    assert user("sub.r.example", "ns/repo") is None
    assert user("r.example:5001", "ns/repo") is None


@pytest.mark.parametrize(
    "key",
    [
        "r.example",
        "https://r.example",
        "http://r.example/",
        "https://r.example/v1/",
        "r.example/v2/",
    ],
)
def test_dockers_files_name_hosts_in_several_ways(key: str) -> None:
    entries = parsed({"auths": {key: auth("user:pass")}}, "docker")
    assert entries.secret("r.example", "ns/repo") == Password(username="user", password="pass")
    assert entries.secret("example", "ns/repo") is None


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"]
)
@pytest.mark.parametrize("form", ["docker", "containers"])
def test_docker_hubs_many_names(key: str, form: CredentialForm) -> None:
    entries = parsed({"auths": {key: auth("user:pass")}}, form)
    assert entries.secret("docker.io", "library/nginx") is not None
    assert entries.secret("ghcr.io", "library/nginx") is None


def test_an_exact_key_wins_over_one_with_a_scheme() -> None:
    keys = {"https://r.example/v1/": auth("old:1"), "r.example": auth("new:1")}
    secret = parsed({"auths": keys}, "docker").secret("r.example", "x")
    assert secret == Password(username="new", password="1")


def test_helpers_of_a_host_win_over_the_store() -> None:
    entries = parsed(
        {"credHelpers": {"r.example": "one", "index.docker.io": "hub"}, "credsStore": "all"}
    )
    assert entries.helper("r.example") == "one"
    assert entries.helper("docker.io") == "hub"
    assert entries.helper("ghcr.io") == "all"
    assert parsed({"credHelpers": {"r.example": "one"}}).helper("ghcr.io") == ""
    assert server_address("docker.io") == "https://index.docker.io/v1/"
    assert server_address("r.example:5000") == "r.example:5000"


@pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "a b", "a;b", "$(x)"])
def test_helpers_whose_name_is_a_path_or_worse_are_refused(name: str) -> None:
    for document in ({"credsStore": name}, {"credHelpers": {"r.example": name}}):
        with pytest.raises(InvalidDocumentError, match="credential helper's name"):
            parsed(document)


def test_bad_base64_is_an_error_that_shows_no_value() -> None:
    secret = "c2VjcmV0OnNl!!"
    with pytest.raises(InvalidDocumentError) as caught:
        parsed({"auths": {"r.example": {"auth": secret}}})
    assert "r.example" in caught.value.message
    assert "log in again" in caught.value.hint
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_secrets_are_in_no_repr() -> None:
    secrets = (
        Password(username="user", password="hidden"),
        IdentityToken(token="hidden"),
        RegistryToken(token="hidden"),
        parsed({"auths": {"r.example": auth("user:hidden")}}),
    )
    assert "hidden" not in repr(secrets)
