"""The check that keys and image ask for: its forms, its times, and what is no check."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.image_facts import HealthcheckTimes
from lxdocker_lxd.update.enrolment import policy_of
from lxdocker_lxd.update.health_check import Check, HealthError, Kind, check_of

PREFIX = "user.lxdocker.update."
NAMES = (
    *("health", "health_from", "interval", "timeout", "retries", "start_period", "stable"),
    *("hook.before", "hook.after", "hook.back"),
)


def test_keys_name_the_check_and_its_times() -> None:
    assert check_of({}) == Check()
    check = check_of({f"{PREFIX}health": "exec sh -c 'test -e /x'", f"{PREFIX}stable": "3"})
    assert (check.kind, check.command, check.stable_seconds) == (
        Kind.EXEC,
        ("sh", "-c", "test -e /x"),
        3.0,
    )
    assert check_of({f"{PREFIX}health": "http 8080 /ready"}).path == "/ready"
    assert check_of({f"{PREFIX}health": "tcp 53"}).port == 53
    assert check_of({f"{PREFIX}health": "running"}).kind is Kind.RUNNING
    assert check_of({f"{PREFIX}health_from": "outside"}).outside
    assert not check_of({}).outside


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("health", text) for text in ("exec", "tcp", "tcp 0", "tcp 70000", "http x", "ping")),
        *(
            ("health", text)
            for text in ("exec '", "exec ''", "htp 80", "http 8080/health", "tcp \uff18\uff10")
        ),
        *(
            ("health", text)
            for text in ("http 80 /a b", "http 80 x", "http 80 /\x01", "tcp " + "9" * 5000)
        ),
        *(("health", text) for text in ("image x", "exec " + "x" * 5000)),
        *(
            ("stable", text)
            for text in ("-1", "10s", "nan", "inf", "1e18", "9" * 5000, "1801", "\u0663")
        ),
        *(("start_period", text) for text in ("nan", "inf", "86401", "1_0", "0x10")),
        *(("interval", text) for text in ("x", "1e3")),
        *(("timeout", text) for text in ("inf", "241")),
        *(("retries", text) for text in ("0", "-1", "1.5", "9" * 5000)),
        ("health_from", "the moon"),
        ("hook.after", "Purge-Cache"),
        ("hook.before", "a/b"),
    ],
)
def test_a_key_that_isnt_understood_is_told_before_the_outage(name: str, value: str) -> None:
    (problem,) = policy_of({PREFIX + name: value}).problems
    assert problem.startswith(PREFIX + name)
    assert len(problem) < 300
    if not name.startswith("hook"):
        with pytest.raises(HealthError):
            check_of({PREFIX + name: value})


@given(st.dictionaries(st.sampled_from([PREFIX + name for name in NAMES]), st.text()))
def test_whatever_the_keys_hold_is_understood_or_told(config: dict[str, str]) -> None:
    if not policy_of(config).problems:
        check = check_of(config)
        assert 0.1 <= check.interval_seconds <= 86400
        assert 0.1 <= check.start_interval_seconds <= check.interval_seconds
        assert 0.1 <= check.timeout_seconds <= 240
        assert 0 <= check.start_period_seconds <= 86400
        assert 0 <= check.stable_seconds <= 1800
        assert len(check.label) < 200


def test_the_images_times_are_defaults_of_its_own_check_alone() -> None:
    times = HealthcheckTimes(
        interval_seconds=30,
        timeout_seconds=500,
        start_period_seconds=300,
        start_interval_seconds=5,
        retries=7,
    )
    check = check_of({}, times)
    assert (check.interval_seconds, check.start_interval_seconds) == (30, 5)
    assert (check.timeout_seconds, check.start_period_seconds, check.retries) == (240, 300, 7)
    assert check_of({f"{PREFIX}start_period": "0"}, times).start_period_seconds == 0
    assert check_of({f"{PREFIX}retries": "1"}, times).retries == 1
    assert check_of({f"{PREFIX}health": "tcp 80"}, times) == Check(kind=Kind.TCP, port=80)


def test_a_short_start_period_alone_gives_up_no_earlier_than_docker() -> None:
    short = HealthcheckTimes(start_period_seconds=5)
    assert check_of({}, short).start_period_seconds == 60
    both = HealthcheckTimes(start_period_seconds=5, interval_seconds=10)
    assert check_of({}, both).start_period_seconds == 5


def test_a_label_tells_no_arguments() -> None:
    secret = "exec curl -H 'Authorization: Bearer s3cr3t' http://localhost"
    assert check_of({f"{PREFIX}health": secret}).label == "exec curl"
    assert check_of({f"{PREFIX}health": "http 80 /x?token=1"}).label == "http 80 /x"
