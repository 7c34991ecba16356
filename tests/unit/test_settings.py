"""The file, then the environment, then flags; a mistake is named with its place."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from lxdocker_lxd.convert.layer.limits import CONFIGURABLE, LayerLimits
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.settings import SETTINGS, Settings, Surroundings, load, table

README = Path(__file__).parents[2] / "README.md"


def settings(
    text: str = "",
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    surroundings = Surroundings(environment=environment or {}, home="/home/ann", user_id=7)
    return load(text, file="config.yaml", flags=flags or {}, surroundings=surroundings)


def test_without_a_file_the_defaults_hold() -> None:
    found = settings()
    assert found.specs == Path("/etc/lxdocker-lxd/specs")
    assert found.jobs == 3
    assert found.imageformat == "squashfs"
    assert found.registries.of("ghcr.io").mirrors == ()


def test_the_environment_wins_over_the_file_and_a_flag_over_both() -> None:
    text = "jobs: 5\nversions: 7\ncache: /from/file\n"
    environment = {"LXDOCKER_LXD_JOBS": "6", "LXDOCKER_LXD_CACHE": "/from/environment"}
    found = settings(text, environment=environment, flags={"cache": "/from/flag", "jobs": None})
    assert (found.versions, found.jobs, found.cache) == (7, 6, Path("/from/flag"))


def test_the_server_is_set_like_everything_else() -> None:
    found = settings().serve
    assert (found.address, found.http_address, found.url, found.names) == (":443", None, None, ())
    assert (found.key, found.tls_minimum, found.publish_delay) == (None, "1.3", 0)
    found = settings(
        "names: a.lan, 10.0.0.5\nkey: /k.pem\nurl: https://a.lan:8443/\n",
        environment={"LXDOCKER_LXD_PUBLISH_DELAY": "3900"},
        flags={"http_address": ":80"},
    ).serve
    assert found.names == ("a.lan", "10.0.0.5")
    assert (found.key, found.url) == (Path("/k.pem"), "https://a.lan:8443")
    assert (found.publish_delay, found.http_address) == (3900, ":80")
    with pytest.raises(UsageError, match="--stall-timeout: expected a whole number"):
        settings(flags={"stall_timeout": "soon"})


def test_names_of_the_server_are_those_of_its_certificate() -> None:
    given = "Images.LAN., bücher.example, [2001:db8::7], 10.0.0.5"
    found = settings(flags={"names": given}).serve.names
    assert found == ("images.lan", "xn--bcher-kva.example", "2001:db8::7", "10.0.0.5")
    for bad in ("https://x", "x:8443", "*.images.lan", "fe80::1%eth0", "a b", "a..b"):
        with pytest.raises(UsageError, match="--name: expected a DNS name or an address"):
            settings(flags={"names": bad})
    with pytest.raises(UsageError, match="expected a DNS name"):
        settings("names: https://x\n")


@pytest.mark.parametrize(
    "url",
    [
        *("images.lan", "ftp://x", "https://", "https://u:p@x", "https://x?y", "https://x#y"),
        *(
            "https://x:99999",
            "https://x:http",
            "https://[fd00::1",
            "https://bücher.lan",
            "https://a b",
        ),
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--url: expected https://host or https://host:port"):
        settings(flags={"url": url})


def test_a_signing_key_may_be_named_by_its_user_id() -> None:
    assert settings(flags={"gpg_key": "Images <i@x.org>"}).serve.gpg_key == "Images <i@x.org>"
    with pytest.raises(UsageError, match="--gpg-key: expected a fingerprint, key id or user id"):
        settings(flags={"gpg_key": "a\nb"})


def test_a_remote_is_not_called_like_one_of_lxc() -> None:
    with pytest.raises(UsageError, match="a name that lxc doesn't set itself"):
        settings(flags={"remote_name": "local"})


def test_registries_are_set_by_host() -> None:
    text = """
registries:
  docker.io:
    mirrors: [mirror.example.org, other.example.org:5000/hub]
  localhost:5000:
    insecure: true
    ca_file: /etc/ca.pem
    proxy: http://proxy:3128
"""
    found = settings(text).registries
    assert found.of("docker.io").mirrors == ("mirror.example.org", "other.example.org:5000/hub")
    assert found.of("localhost:5000").insecure
    assert found.of("localhost:5000").proxy == "http://proxy:3128"


def test_limits_are_set_by_name_and_the_others_keep_their_defaults() -> None:
    """They could not be set at all, though errors advise to raise them."""
    found = settings("limits:\n  entries: 5\n  inflated_bytes: 99999999999999\n").limits
    assert found == LayerLimits(entries=5, inflated_bytes=99_999_999_999_999)
    assert settings("limits:\n").limits == settings().limits == LayerLimits()


def test_the_readme_shows_each_limit_with_its_default() -> None:
    block = README.read_text().partition("```yaml\nlimits:\n")[2].partition("```")[0]
    shown = yaml.safe_load(block)
    assert shown == {key: getattr(LayerLimits(), key) for key in CONFIGURABLE}
    assert settings("limits:\n" + block).limits == LayerLimits()


def test_credentials_are_looked_for_where_podman_and_docker_keep_them() -> None:
    paths = [file.path for file in settings().registries.credential_files]
    assert paths[-1] == "/home/ann/.docker/config.json"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stall_timeout: 0\n", "stall_timeout: expected a whole number from 1 to 86400"),
        ("url: ftp://host\n", "url: expected https://host"),
        ("url: https://ann:secret@host\n", "url: expected https://host"),
        ("tls_minimum: '1.1'\n", "expected one of 1.3, 1.2"),
        ("job: 3\n", "config.yaml:1:1: unknown key 'job'"),
        ("jobs: many\n", "config.yaml:1:7: jobs: expected a whole number from 1 to 64, got 'many'"),
        ("jobs: 00000000599999\n", "config.yaml:1:7: jobs: expected a whole number from 1 to 64"),
        (f"jobs: {'9' * 5000}\n", "config.yaml:1:7: jobs: expected a whole number from 1 to 64"),
        ("cache: /a\njobs: 0\n", "config.yaml:2:7: jobs: expected a whole number"),
        ("imageformat: zip\n", "expected one of squashfs, gzip, tar, got 'zip'"),
        ("registries:\n  docker.io: {mirror: [a]}\n", "unknown key 'mirror'"),
        ("registries:\n  https://ghcr.io: {}\n", "named by host"),
        ("registries:\n  ghcr.io: {mirrors: [u:p@m]}\n", "credentials don't belong here"),
        ("registries:\n  ghcr.io: {proxy: socks}\n", "expected http://host:port"),
        ("limits: {entry: 1}\n", "unknown key 'entry'"),
        ("limits: {links: 99}\n", "unknown key 'links'"),
        ("limits:\n  entries: 0\n", "config.yaml:2:12: limits.entries: expected a number from 1"),
        ("limits: {ratio: 1.5}\n", "expected a whole number"),
        ("limits: {ratio: -1}\n", "expected a whole number"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(text)
    assert complaint in caught.value.message


def test_a_mistake_in_the_environment_or_a_flag_names_it() -> None:
    with pytest.raises(UsageError, match="LXDOCKER_LXD_JOBS: expected a whole number"):
        settings(environment={"LXDOCKER_LXD_JOBS": "-1"})
    with pytest.raises(UsageError, match="--versions: expected a whole number"):
        settings(flags={"versions": 0})


def test_an_unknown_key_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        settings("lxdimage: /x\n")
    assert caught.value.hint == "did you mean 'lxdimages'?"


def test_each_default_is_a_valid_value() -> None:
    for setting in SETTINGS:
        setting.parse(setting.default)


def test_the_readme_holds_the_table_of_settings() -> None:
    assert table() in README.read_text()


@pytest.mark.parametrize("key", ["proxy: 'socks5://ann:s3cret@p'", "mirrors: ['ann:s3cret@m']"])
def test_a_password_in_the_settings_is_never_repeated(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(f"registries:\n  ghcr.io:\n    {key}\n")
    assert "s3cret" not in caught.value.message + caught.value.hint
