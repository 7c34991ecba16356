"""What an image's own file says of it."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.image_facts import HealthcheckTimes, ImageFacts, parse_facts


def said(**fields: object) -> ImageFacts:
    return parse_facts(json.dumps(fields).encode())


def test_volumes_ports_and_health() -> None:
    found = said(
        volumes=["/data", "/data/"],
        ports=["80/tcp"],
        healthcheck={"Test": ["CMD", "true"]},
    )
    assert found == ImageFacts(
        volumes=("/data",), ports=("80/tcp",), healthcheck=HealthcheckTimes()
    )
    assert found.health


def test_the_times_of_the_health_check() -> None:
    second = 10**9
    check = {
        "Test": ["CMD-SHELL", "x"],
        "Interval": 5 * second,
        "Timeout": second / 2,
        "StartPeriod": 300 * second,
        "StartInterval": second,
        "Retries": 4,
    }
    assert said(healthcheck=check).healthcheck == HealthcheckTimes(
        interval_seconds=5,
        timeout_seconds=0.5,
        start_period_seconds=300,
        start_interval_seconds=1,
        retries=4,
    )


@pytest.mark.parametrize("value", [0, -1, "5s", None, [], True, float("inf"), float("nan")])
def test_times_that_make_no_sense_are_not_stated(value: object) -> None:
    check = {"Test": ["CMD", "x"], "Interval": value, "Retries": -1, "StartPeriod": 10**400}
    found = said(healthcheck=check).healthcheck
    assert found == HealthcheckTimes(start_period_seconds=86400)


@pytest.mark.parametrize("check", [None, {}, {"Test": ["NONE"]}, {"Test": []}])
def test_no_health_check(check: object) -> None:
    assert said(healthcheck=check) == ImageFacts()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b'{"volumes": ["x"]}', b'{"volumes": 1}', b"[" * 100_000]
)
def test_another_file(content: bytes) -> None:
    with pytest.raises(VerificationError):
        parse_facts(content)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["NONE", "CMD", "/data", "80/tcp", "\ud800", 10**400]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["Test", "Interval", "Retries", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = ("volumes", "ports", "healthcheck", "config")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, ANY_JSON)))
def test_a_stranger_s_word_is_facts_or_an_error_of_ours(fields: dict[str, object]) -> None:
    with contextlib.suppress(VerificationError):
        assert isinstance(parse_facts(json.dumps(fields).encode()), ImageFacts)


@pytest.mark.parametrize("deep", ["healthcheck", "config", "volumes", "ports", "else"])
def test_deep_brackets_are_an_error_of_ours(deep: str) -> None:
    for opening, closing in (("[", "]"), ('{"Test":', "}")):
        inner = opening * 50_000 + "1" + closing * 50_000
        with pytest.raises(VerificationError):
            parse_facts(f'{{"{deep}": {inner}}}'.encode())


@pytest.mark.parametrize("test", [{}, {"0": "CMD"}, "CMD", 7, [[]], [{}], [None]])
def test_a_test_that_is_none(test: object) -> None:
    found = said(healthcheck={"Test": test})
    assert found.health is isinstance(test, list)
