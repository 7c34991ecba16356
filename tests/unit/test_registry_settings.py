"""Hosts, mirrors and where credentials are looked for."""

import pytest

from lxdocker_lxd.convert.registry.settings import (
    RegistriesSettings,
    RegistrySettings,
    api_host,
    credential_search,
    host_name,
    is_loopback,
)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("a.LOCALHOST:5000", True),
        ("127.0.0.1:5000", True),
        ("127.8.9.1", True),
        ("[::1]:5000", True),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("10.0.0.1:5000", False),
        ("registry.local", False),
        ("ghcr.io", False),
        ("[::2]", False),
    ],
)
def test_loopback_hosts(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert RegistrySettings(host=host).plain_http_allowed is loopback
    assert RegistrySettings(host=host, insecure=True).plain_http_allowed


def test_hosts_without_their_ports() -> None:
    assert [host_name(host) for host in ("a.b", "a.b:1", "[::1]", "[::1]:1")] == [
        "a.b",
        "a.b",
        "::1",
        "::1",
    ]


def test_docker_hub_answers_elsewhere() -> None:
    assert api_host("docker.io") == "registry-1.docker.io"
    assert api_host("ghcr.io") == "ghcr.io"


def test_a_host_without_settings_has_the_defaults() -> None:
    given = RegistrySettings(host="a.example", insecure=True)
    settings = RegistriesSettings(by_host={"a.example": given})
    assert settings.of("a.example") is given
    assert settings.of("b.example") == RegistrySettings(host="b.example")
    assert RegistriesSettings().credential_files == ()


def test_credentials_are_searched_as_podman_and_docker_do() -> None:
    files = credential_search({}, home="/root", user_id=0)
    assert [(file.path, file.form) for file in files] == [
        ("/run/containers/0/auth.json", "containers"),
        ("/root/.config/containers/auth.json", "containers"),
        ("/root/.docker/config.json", "docker"),
    ]
    environment = {
        "REGISTRY_AUTH_FILE": "/a/auth.json",
        "XDG_RUNTIME_DIR": "/run/user/7",
        "XDG_CONFIG_HOME": "/c",
        "DOCKER_CONFIG": "/d",
    }
    files = credential_search(environment, home="/home/x", user_id=7)
    assert [file.path for file in files] == [
        "/a/auth.json",
        "/run/user/7/containers/auth.json",
        "/c/containers/auth.json",
        "/d/config.json",
    ]
