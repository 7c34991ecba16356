"""Waiting for an instance, and following its log, while LXD doesn't know how a command ended."""

import pytest

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.launching.instance_log import LOG_PATH, InstanceLog
from lxdocker_lxd.launching.waiting import Clock, NotReadyError, Watch
from lxdocker_lxd.lxd.calls import CommandResult, GuestFile, NewInstance
from lxdocker_lxd.lxd.failures import UnknownOutcomeError
from lxdocker_lxd.lxd.records import InstanceSettings
from tests.harness.simulated_lxd import Behaviour, SimulatedLxd


def started(behaviour: Behaviour) -> SimulatedLxd:
    lxd = SimulatedLxd()
    image = lxd.add_image("one")
    lxd.behave(image, behaviour)
    settings = InstanceSettings(architecture="x86_64", config={}, devices={}, profiles=("default",))
    lxd.instances.create(NewInstance(name="web", image=image, settings=settings))
    lxd.power.start("web")
    return lxd


def waited_for(lxd: SimulatedLxd) -> Watch:
    began = lxd.clock()

    def seconds() -> float:
        return (lxd.clock() - began).total_seconds()

    clock = Clock(now=seconds, pause=lxd.clock.advance)
    return Watch(lxd, "web", project="default", clock=clock)


def write_log(lxd: SimulatedLxd) -> None:
    lxd.box("web").guest.files[LOG_PATH] = GuestFile(content=b"all of it\n")


def test_an_instance_that_ends_before_it_is_ready_is_told_as_ended() -> None:
    """Its last check is one whose end LXD doesn't know."""
    lxd = started(Behaviour(ends_after_seconds=3, attaches_for_seconds=2, health=((0, 1),)))
    with pytest.raises(NotReadyError, match="does not run any more"):
        waited_for(lxd).until_ready(health=True, ports=(), seconds=60)


def test_an_instance_that_no_command_reaches_is_not_ready() -> None:
    lxd = started(Behaviour(attaches_for_seconds=0, health=((0, 0),)))
    with pytest.raises(NotReadyError, match="is not healthy after 60 s"):
        waited_for(lxd).until_ready(health=True, ports=(), seconds=60)


def test_the_log_of_an_instance_that_ends_is_followed_to_its_end_once() -> None:
    lxd = started(Behaviour(ends_after_seconds=3, attaches_for_seconds=0))
    write_log(lxd)
    pause = lxd.clock.advance
    followed = InstanceLog(lxd, "web", project="default", pause=pause).followed()
    assert b"".join(followed) == b"all of it\n"


def test_a_log_that_no_command_reaches_for_long_cannot_be_followed() -> None:
    lxd = started(Behaviour(attaches_for_seconds=0))
    write_log(lxd)
    followed = InstanceLog(lxd, "web", project="default", pause=lxd.clock.advance).followed()
    with pytest.raises(UnknownOutcomeError):
        list(followed)


@pytest.mark.parametrize(
    "size", [b"nonsense\n", b"-1\n", b"\xb2\n", b"1_0\n", b"9" * 200_000, b"1e9\n", b" 5\n"]
)
def test_a_guest_that_says_nonsense_of_its_log_is_told(size: bytes) -> None:
    """The programs in an instance are its root's, who may have put others in their place."""
    lying = CommandResult(exit_code=0, stdout=size, stderr=b"")
    lxd = started(Behaviour(answer=lambda _command, _seconds: lying))
    write_log(lxd)
    followed = InstanceLog(lxd, "web", project="default", pause=lxd.clock.advance).followed()
    with pytest.raises(VerificationError, match="web: the instance's programs say no size"):
        list(followed)
