"""Refusals: the registry's words, the kind of error, the next step."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.registry.refusal import (
    BusyError,
    DeniedError,
    NotInRegistryError,
    RateLimitedError,
    UnexpectedAnswerError,
    refusal,
    registry_words,
)
from lxdocker_lxd.errors import LxdockerError

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def refused(
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    registry: str = "docker.io",
    logged_in_from: str = "",
) -> LxdockerError:
    return refusal(
        status,
        body,
        what="nginx:latest",
        registry=registry,
        headers=headers or {},
        now=NOW,
        logged_in_from=logged_in_from,
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors":[{"code":"DENIED","message":"no"}]}', "DENIED: no"),
        (b'{"errors":[{"code":"A","message":"b"},{"code":"C"}]}', "A: b; C"),
        (b'{"errors":[{"message":"only words","detail":{"x":1}}]}', "only words"),
        (b'{"details":"incorrect username or password"}', "incorrect username or password"),
        (b'{"error":"invalid_grant","error_description":"gone"}', "invalid_grant: gone"),
        (b'{"errors":[{"code":"X","message":"a\\u001b[31m\\nb"}]}', "X: a [31m b"),
        (b"<html>Bad gateway</html>", ""),
        (b'{"errors":"x"}', ""),
        (b'{"errors":["x"]}', ""),
        (b"{}", ""),
        (b"", ""),
        (b"\xff", ""),
    ],
)
def test_the_registrys_words(body: bytes, words: str) -> None:
    assert registry_words(body) == words


def test_long_words_are_cut() -> None:
    assert len(registry_words(b'{"message":"%s"}' % (b"x" * 9999))) == 301


@given(st.binary(max_size=80))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    assert registry_words(body).isprintable()


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, NotInRegistryError, 3),
        (401, DeniedError, 4),
        (403, DeniedError, 4),
        (400, UnexpectedAnswerError, 5),
        (418, UnexpectedAnswerError, 5),
        (301, UnexpectedAnswerError, 5),
        (429, BusyError, 5),
        (500, BusyError, 5),
        (503, BusyError, 5),
    ],
)
def test_kinds_of_refusal(status: int, kind: type[LxdockerError], code: int) -> None:
    error = refused(status)
    assert type(error) is kind
    assert error.exit_code == code
    assert str(status) in error.message
    assert "nginx:latest" in error.message
    assert "docker.io" in error.message
    assert error.hint


def test_a_login_names_the_command_for_the_registry() -> None:
    assert "`docker login`" in refused(401).hint
    assert "`docker login ghcr.io`" in refused(401, registry="ghcr.io").hint
    error = refused(403, registry="ghcr.io", logged_in_from="/root/.docker/config.json")
    assert "refused the credentials from /root/.docker/config.json" in error.message


def test_docker_hubs_limit_says_when_it_ends_and_what_helps() -> None:
    body = (
        b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}'
    )
    limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}
    error = refused(429, body, limits | {"retry-after": "1234"})
    assert isinstance(error, RateLimitedError)
    assert error.message == (
        "nginx:latest: the allowance of 100 pulls in 360 minutes at docker.io is used up"
        " (429 TOOMANYREQUESTS: You have reached your pull rate limit);"
        " it asks to come back in 1234 s"
    )
    assert error.hint.startswith("try again in 1234 s, or run `docker login`")
    assert "mirror" in error.hint
    assert refused(429, body, limits).hint.startswith("try again later, or run `docker login`")


def test_a_wish_in_another_header_and_as_a_moment_is_understood() -> None:
    moment = str(int(NOW.timestamp()) + 90)
    error = refused(429, headers={"x-retry-after": moment})
    assert isinstance(error, BusyError)
    assert error.retry_after_seconds == 90


@pytest.mark.parametrize("value", ["", "x", "0", "0;w=", "0;w=x", ";", "-1;w=5"])
def test_strange_limits_break_nothing(value: str) -> None:
    assert refused(429, headers={"ratelimit-remaining": value, "ratelimit-limit": value}).hint
