"""The one rule of what looks like a secret, and what is told of an image's variables."""

import pytest

from lxdocker_lxd.secret_value import looks_secret, told


@pytest.mark.parametrize(
    "name",
    [
        *("DB_PASSWORD", "MYSQL_ROOT_PASSWORD", "user.password", "PGPASSWORD", "passwd", "DB_PASS"),
        *("client_secret", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "ApiKey", "API_KEY", "api-key"),
        *("MYSQL_PWD", "SSH_PRIVATE_KEY", "KEY_PASSPHRASE", "credentials", "spring.ldap.password"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "PWD", "OLDPWD", "LANG", "NGINX_VERSION", "GPG_KEYS", "KEYBOARD", "COMPASS"),
        *("POSTGRES_PASSWORD_FILE", "db.password.file", "BYPASS", "PASSENGER_ROOT", "USER", ""),
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    assert not looks_secret(name, "value")


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("postgres://app:hunter2@db/app", True),
        ("redis://:hunter2@cache:6379", True),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII", True),
        ("https://example.org:8080/a@b", False),
        ("postgres://app@db/app", False),
        ("http://x/?a=1&b=#2", False),
        ("-----BEGIN CERTIFICATE-----", False),
    ],
)
def test_values_that_tell(value: str, secret: bool) -> None:
    assert looks_secret("DATABASE_URL", value) is secret


def test_of_secrets_the_name_is_told() -> None:
    env = ["A=1", "DB_PASSWORD=hunter2", "EMPTY_TOKEN=", "URL=ftp://u:p@h", "SECRET"]
    config = told({"Cmd": ["x"], "Env": [*env, 7]})
    assert config == {
        "Cmd": ["x"],
        "Env": ["A=1", "DB_PASSWORD", "EMPTY_TOKEN=", "URL", "SECRET"],
    }
    assert told(config) == config
    assert told({"Env": {"odd": 1}}) == {"Env": {"odd": 1}}
