"""Waiting for a launched instance: what counts as of use, and what only looks like it."""

import pytest

from lxdocker_lxd.launching.waiting import Clock, NotReadyError, Watch
from lxdocker_lxd.lxd.calls import Command, CommandResult
from tests.harness.simulated_lxd import Behaviour, SimulatedLxd


class Guest:
    """A guest whose health command gives one code after another."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    def answer(self, command: Command, _second: float) -> CommandResult | None:
        if command.words[-1] != "--health":
            return None
        self.asked += 1
        code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        return CommandResult(exit_code=code, stdout=b"", stderr=b"")


def wait(guest: Guest, *, seconds: float = 30, **config: str) -> float:
    """Wait for health; return how long that took."""
    lxd = SimulatedLxd()
    image = lxd.add_image("one", behaviour=Behaviour(answer=guest.answer))
    nic = {"type": "nic", "network": "br0", "ipv4.address": "10.20.30.7"}
    keys = {f"user.lxdocker.{key}": value for key, value in config.items()}
    lxd.launch("web", image, config=keys, devices={"eth0": nic})
    clock = Clock(now=lxd.clock.monotonic, pause=lxd.clock.advance)
    began = lxd.clock.monotonic()
    Watch(lxd.user, "web", project="default", clock=clock).until_ready(
        health=True, ports=(), seconds=seconds
    )
    return lxd.clock.monotonic() - began


def test_a_command_that_was_not_started_yet_is_waited_for() -> None:
    assert wait(Guest(125, 126, 1, 0)) == 1.5


def test_without_a_check_an_address_is_enough() -> None:
    guest = Guest(124)
    assert wait(guest) == 0
    assert guest.asked == 1
    off = Guest(1)
    assert wait(off, health="none") == 0
    assert off.asked == 0


def test_one_that_stays_ill_is_told() -> None:
    with pytest.raises(NotReadyError, match="not healthy"):
        wait(Guest(1), seconds=5)
