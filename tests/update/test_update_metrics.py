"""Metrics as Prometheus reads them, from a tally and over HTTP."""

import http.client
import socket
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from lxdocker_lxd.lxd.records import Alias
from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.metrics import (
    FAILURES,
    MEDIA_TYPE,
    OutboxGauge,
    Tally,
    is_breaker,
    rendered,
)
from lxdocker_lxd.update.metrics_endpoint import ListenError, MetricsEndpoint
from lxdocker_lxd.update.plan import Choice, Decision, Scene, plan
from lxdocker_lxd.update.procedure import Act
from tests.update import records
from tests.update.messages import NEW, NOW, OLD, outcome
from tests.update.records import image, instance


def values(text: bytes) -> dict[str, float]:
    return {
        sample.name.removeprefix("lxdocker_lxd_update_")
        + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def decision(
    name: str,
    choice: Choice,
    reason: str = "",
    fingerprint: str = NEW,
    cause: Cause = Cause.NEW_VERSION,
) -> Decision:
    return Decision(
        project="default",
        name=name,
        choice=choice,
        cause=cause,
        reason=reason,
        fingerprint=fingerprint,
        running=OLD,
    )


def test_every_series_is_there_from_the_start() -> None:
    found = values(rendered(Tally(started=NOW), NOW + timedelta(seconds=30)))
    assert found["rounds_total,result=good"] == 0
    assert found["updates_total,result=rolled_back"] == 0
    assert {f"failures_total,reason={reason}" for reason in FAILURES} <= set(found)
    assert found["good_round_age_seconds"] == 30
    assert found["oldest_pending_seconds"] == 0
    assert found["breakers_open"] == 0
    assert "last_round_time_seconds" not in found


def test_rounds_updates_rollbacks_failures_and_outages_are_counted() -> None:
    tally = Tally(started=NOW)
    tally = tally.with_round(NOW, good=True, outcomes=[outcome(Act.COMMITTED)], restarts=2)
    tally = tally.with_round(
        NOW + timedelta(seconds=60),
        good=False,
        outcomes=[
            outcome(Act.ROLLED_BACK, blame=True),
            outcome(Act.ROLLED_BACK),
            outcome(Act.GIVEN_UP),
            outcome(Act.USER_TOOK_OVER),
            outcome(Act.HOLD),
        ],
        problems=3,
    )
    tally = tally.with_failed_round(NOW + timedelta(seconds=90))
    found = values(rendered(tally, NOW + timedelta(seconds=100)))
    expected = {
        "rounds_total,result=good": 1,
        "rounds_total,result=bad": 1,
        "rounds_total,result=failed": 1,
        "updates_total,result=committed": 1,
        "updates_total,result=rolled_back": 2,
        "updates_total,result=held": 1,
        "rollbacks_total": 2,
        "failures_total,reason=unhealthy": 1,
        "failures_total,reason=turned_back": 1,
        "failures_total,reason=given_up": 1,
        "failures_total,reason=user_took_over": 1,
        "failures_total,reason=held": 1,
        "failures_total,reason=problem": 3,
        "failures_total,reason=round": 1,
        "restarts_total": 2,
        "outage_seconds_count": 4,
        "outage_seconds_sum": 5.0,
        "outage_seconds_bucket,le=1": 0,
        "outage_seconds_bucket,le=2.5": 4,
        "outage_seconds_bucket,le=+Inf": 4,
        "good_round_age_seconds": 100,
        "last_round_time_seconds": (NOW + timedelta(seconds=90)).timestamp(),
    }
    assert {key: found[key] for key in expected} == expected


def test_an_open_breaker_and_a_waiting_version_are_seen() -> None:
    refused = decision("web", Choice.REFUSE, "whatever it says", cause=Cause.BREAKER)
    waiting = decision("db", Choice.WAIT, "outside of its windows")
    current = decision("app", Choice.CURRENT, fingerprint=OLD)
    tally = Tally(started=NOW)
    for minutes in (0, 5, 10):
        now = NOW + timedelta(minutes=minutes)
        tally = tally.with_round(now, good=True, decisions=[refused, waiting, current])
    found = values(rendered(tally, NOW + timedelta(minutes=20)))
    assert found["breakers_open"] == 1
    assert found["breaker_open,name=web,project=default"] == 1
    assert found["oldest_pending_seconds"] == 1200
    assert found["decisions,choice=wait"] == 1
    assert found["decisions,choice=update"] == 0
    # They come through, and nothing waits any more.
    done = tally.with_round(
        NOW,
        good=True,
        outcomes=[outcome(Act.COMMITTED)],
        decisions=[decision("web", Choice.UPDATE), current],
    )
    found = values(rendered(done, NOW + timedelta(minutes=20)))
    assert (found["breakers_open"], found["oldest_pending_seconds"]) == (0, 0)


def test_the_plans_own_refusal_is_recognised_as_an_open_breaker() -> None:
    keys = {"user.lxdocker.update": "auto", "user.lxdocker.image": "local|web"}
    alias = Alias(name="web", fingerprint=image().fingerprint, project="default")
    for rejected, expected in (("1 2 3", True), ("1 2", False)):
        one = instance(config=keys | {"user.lxdocker.rejected": rejected})
        scene = Scene(
            instances=(one,),
            images={"default": (image(),)},
            aliases={"default": (alias,)},
            now=records.NOW,
        )
        assert [is_breaker(one) for one in plan(scene)] == [expected]


def test_the_outbox_is_seen() -> None:
    gauges = [
        OutboxGauge(receiver="ops", waiting=3, aside=1, oldest=NOW),
        OutboxGauge(receiver="mail", waiting=0, aside=0),
    ]
    found = values(
        rendered(Tally(started=NOW), NOW + timedelta(seconds=9), outbox=gauges, dropped=4)
    )
    assert found["messages_waiting,receiver=ops"] == 3
    assert found["oldest_message_seconds,receiver=ops"] == 9
    assert found["oldest_message_seconds,receiver=mail"] == 0
    assert found["messages_aside,receiver=ops"] == 1
    assert found["messages_dropped_total"] == 4


@given(st.text(max_size=30), st.text(max_size=30))
def test_names_cant_break_the_text(project: str, name: str) -> None:
    one = Decision(
        project=project, name=name, choice=Choice.REFUSE, cause=Cause.BREAKER, reason="3 in a row"
    )
    tally = Tally(started=NOW).with_round(NOW, good=True, decisions=[one])
    text = rendered(tally, NOW)
    assert text == rendered(tally, NOW)
    # Prometheus' lines end with \n alone.
    assert len([line for line in text.split(b"\n") if b"breaker_open{" in line]) == 1


def test_a_clock_that_went_back_gives_no_negative_ages() -> None:
    tally = Tally(started=NOW).with_round(NOW, good=True)
    assert values(rendered(tally, NOW - timedelta(days=1)))["good_round_age_seconds"] == 0


def fetched(port: int, method: str, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def test_metrics_are_served_over_http() -> None:
    with MetricsEndpoint("127.0.0.1", 0, lambda: rendered(Tally(started=NOW), NOW)) as endpoint:
        status, kind, body = fetched(endpoint.port, "GET", "/metrics")
        assert (status, kind) == (200, MEDIA_TYPE)
        assert "rounds_total,result=good" in values(body)
        assert fetched(endpoint.port, "HEAD", "/metrics?x")[0::2] == (200, b"")
        assert fetched(endpoint.port, "GET", "/")[0] == 404
        assert fetched(endpoint.port, "POST", "/metrics")[0] == 501
        port = endpoint.port
    with pytest.raises(OSError, match="refused"):
        fetched(port, "GET", "/metrics")


def test_readers_that_hang_are_few_and_stop_nobody() -> None:
    with MetricsEndpoint("127.0.0.1", 0, lambda: b"x 1\n") as endpoint:
        idle = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(15)]
        assert fetched(endpoint.port, "GET", "/metrics")[0] == 200
        before = threading.active_count()
        more = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(40)]
        for one in more[5:]:
            one.settimeout(5)
            assert one.recv(1) == b""
        assert threading.active_count() <= before + 5
        for one in (*idle, *more):
            one.close()


def test_a_taken_address_is_told() -> None:
    with (
        MetricsEndpoint("127.0.0.1", 0, lambda: b"") as endpoint,
        pytest.raises(ListenError, match="serve metrics at"),
        MetricsEndpoint("127.0.0.1", endpoint.port, lambda: b""),
    ):
        pass
