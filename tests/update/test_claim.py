"""One updater for each LXD, wherever they run."""

import json
from datetime import timedelta

import pytest

from lxdocker_lxd.update.claim import KEY, RENEWED, VALID, Claim, OtherUpdaterError
from tests.harness.simulated_lxd import Call, SimulatedLxd


def claim_of(lxd: SimulatedLxd, owner: str) -> Claim:
    return Claim(lambda: lxd.server, owner, lxd.clock)


def held(lxd: SimulatedLxd) -> str:
    return lxd.server.info().config.get(KEY, "")


def test_one_at_a_time_and_the_next_after_its_end() -> None:
    lxd = SimulatedLxd()
    lxd.server.configure({"user.mine": "1"})
    one, two = claim_of(lxd, "here:/one"), claim_of(lxd, "there:/two")
    one.take()
    for _ in range(2):
        with pytest.raises(OtherUpdaterError, match="here:/one, last heard of at 20") as caught:
            two.take()
        assert f"`lxc config unset {KEY}`" in caught.value.hint
    two.release()
    assert "here:/one" in held(lxd)
    one.release()
    two.take()
    one.release()
    assert "there:/two" in held(lxd)
    two.release()
    assert lxd.server.info().config == {"user.mine": "1"}


def test_a_dead_updaters_claim_is_its_own_at_once_and_anybodys_later() -> None:
    lxd = SimulatedLxd()
    claim_of(lxd, "one").take()
    claim_of(lxd, "one").take()
    lxd.clock.advance(VALID.total_seconds() - 1)
    two = claim_of(lxd, "two")
    with pytest.raises(OtherUpdaterError):
        two.take()
    lxd.clock.advance(1)
    two.take()
    assert "two" in held(lxd)


def test_a_claim_that_is_held_for_long_is_renewed_about_each_minute() -> None:
    lxd = SimulatedLxd()
    one, two = claim_of(lxd, "one"), claim_of(lxd, "two")
    one.renew()
    assert not held(lxd)
    one.take()
    written = set()
    for _ in range(120):
        lxd.clock.advance(30)
        one.renew()
        written.add(held(lxd))
        with pytest.raises(OtherUpdaterError):
            two.take()
    assert len(written) == 61
    assert timedelta(minutes=1) == RENEWED


def test_somebody_who_takes_over_isnt_pushed_aside_by_a_late_renewal() -> None:
    lxd = SimulatedLxd()
    one, two = claim_of(lxd, "one"), claim_of(lxd, "two")
    one.take()
    lxd.clock.advance(VALID.total_seconds())
    two.take()
    one.renew()
    one.release()
    assert "two" in held(lxd)


def test_two_that_claim_at_the_same_moment() -> None:
    lxd = SimulatedLxd()
    one, two = claim_of(lxd, "one"), claim_of(lxd, "two")
    tries = [two]

    def meanwhile(call: Call) -> None:
        # Between the other one's look and its write.
        if call.name == "server.configure" and tries:
            tries.pop().take()

    lxd.log.before = meanwhile
    with pytest.raises(OtherUpdaterError, match="two"):
        one.take()
    assert "two" in held(lxd)


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"owner": 1, "at": "noon"}', "1"])
def test_what_cannot_be_understood_is_nobodys_claim(text: str) -> None:
    lxd = SimulatedLxd()
    lxd.server.configure({KEY: text})
    claim_of(lxd, "one").take()
    assert json.loads(held(lxd))["owner"] == "one"


def test_a_clock_that_is_ahead_doesnt_claim_for_ever() -> None:
    lxd = SimulatedLxd()
    lxd.server.configure({KEY: json.dumps({"owner": "two", "at": "2090-01-01T00:00:00+00:00"})})
    claim_of(lxd, "one").take()
    assert "one" in held(lxd)
