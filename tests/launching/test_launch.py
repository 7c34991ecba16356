"""A launch on a LXD whose every call is made to fail, one at a time: nothing half-made stays."""

import json
from collections.abc import Mapping

import pytest

from lxdocker_lxd.errors import LxdockerError, UsageError, VerificationError
from lxdocker_lxd.launching.launch import (
    LAUNCHING_KEY,
    Launch,
    Launched,
    LaunchWishes,
    PortTakenError,
)
from lxdocker_lxd.launching.listing import listed
from lxdocker_lxd.launching.ports import PublishedPort
from lxdocker_lxd.launching.seeding import SeedError
from lxdocker_lxd.launching.volumes import VolumeWish
from lxdocker_lxd.lxd.calls import GuestFile, ImageUpload, NewInstance
from lxdocker_lxd.lxd.failures import NameTakenError
from lxdocker_lxd.lxd.records import Image, InstanceSettings
from lxdocker_lxd.progress import Silent
from tests.harness.simulated_lxd import REFUSES_TO_START, Fault, SimulatedLxd
from tests.importing.test_placing import METADATA, archive

FAULTS = (Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.BUSY)
IMAGE = {
    "volumes": ["/data", "/cache"],
    "ports": ["80/tcp", "53/udp", "9/sctp"],
    "healthcheck": None,
}
# The simulated guest has no busybox that copies.
BARE = tuple(
    VolumeWish(name=f"v-{path}", path=f"/{path}", copy=False) for path in ("data", "cache")
)


def prepared(document: Mapping[str, object] | None = None) -> SimulatedLxd:
    """A LXD with one of our images under the alias ``web``."""
    lxd = SimulatedLxd()
    content = json.dumps(IMAGE if document is None else document).encode()
    fingerprint = lxd.user.images.upload(
        ImageUpload(
            metadata=archive("metadata.yaml", METADATA),
            rootfs=[archive("lxd-image.json", content)],
        )
    )
    lxd.user.aliases.create("web", fingerprint)
    return lxd


def launch(lxd: SimulatedLxd, wishes: LaunchWishes, name: str = "one") -> Launched:
    return Launch(lxd, name, wishes, Silent(), project="default").run("web")


def left(lxd: SimulatedLxd) -> tuple[set[str], set[str], tuple[Image, ...]]:
    instances = {instance.name for instance in lxd.user.instances.list()}
    volumes = {volume.name for volume in lxd.user.volumes.list("default")}
    return instances, volumes, lxd.user.images.list()


def test_an_instance_gets_what_was_said_and_what_its_image_asks_for() -> None:
    lxd = prepared()
    wishes = LaunchWishes(
        publish=(PublishedPort.parse("8080:80"),),
        publish_all=True,
        volumes=BARE,
        config={"environment.A": "b"},
        user="7:7",
        command=("two", "more words"),
        update="notify",
    )
    launched = launch(lxd, wishes)
    instance = lxd.user.instances.get("one")
    assert instance.running
    assert {
        "environment.A": "b",
        "user.lxdocker.user": "7:7",
        "user.lxdocker.cmd": '["two", "more words"]',
        "user.lxdocker.image": "local|web",
        "user.lxdocker.update": "notify",
    }.items() <= instance.config.items()
    assert instance.devices == {
        "volume0": {"type": "disk", "pool": "default", "source": "v-cache", "path": "/cache"},
        "volume1": {"type": "disk", "pool": "default", "source": "v-data", "path": "/data"},
        "publish-tcp-8080": PublishedPort.parse("8080:80").device,
        "publish-udp-53": PublishedPort.parse("53:53/udp").device,
    }
    assert [port.host_port for port in launched.ports] == [8080, 53]
    (found,) = listed(lxd, project="default", standing=lambda _instance: "current")
    assert (found.name, found.status, found.update) == ("one", "running", "current")


@pytest.mark.parametrize(
    "content", [b'{"healthcheck": {"Test": {}}}', b"[" * 100_000, b'{"config":' * 9_999, b"\xff"]
)
def test_what_one_guest_s_root_writes_hides_no_other_instance(content: bytes) -> None:
    lxd = prepared({**IMAGE, "volumes": []})
    for name in ("one", "two", "ended"):
        launch(lxd, LaunchWishes(publish=(), volumes=()), name)
    for name in ("one", "ended"):
        lxd.user.guests.write_file(name, "/lxd-image.json", GuestFile(content=content))
        lxd.user.guests.write_file(name, "/.lxdocker", GuestFile(kind="directory"))
        lxd.user.guests.write_file(name, "/.lxdocker/state", GuestFile(content=content))
    lxd.user.power.kill("ended")
    found = {one.name: (one.status, one.exit_code) for one in listed(lxd, project="default")}
    assert found == {"one": ("running", None), "two": ("running", None), "ended": ("stopped", None)}


def test_whatever_fails_before_the_start_leaves_nothing() -> None:
    wishes = LaunchWishes(publish=(PublishedPort.parse("8080:80"),), volumes=BARE)
    lxd = prepared()
    before = left(lxd)
    lxd.log.restart_count()
    names: list[str] = []
    lxd.log.before = lambda call: names.append(call.name)
    launch(lxd, wishes)
    start = names.index("power.start") + 1
    failed = 0
    for number in range(1, start):
        for fault in FAULTS:
            lxd = prepared()
            lxd.log.restart_count()
            lxd.log.faults[number] = fault
            try:
                launch(lxd, wishes)
            except LxdockerError:
                failed += 1
                lxd.finish()
                assert left(lxd)[:2] == before[:2], (number, names[number - 1], fault)
            else:
                # What isn't there was asked for, and that was the answer.
                assert lxd.user.instances.get("one").running
    assert failed > start


def test_a_volume_that_was_there_stays_when_the_launch_fails() -> None:
    lxd = prepared()
    launch(lxd, LaunchWishes(volumes=BARE))
    lxd.user.power.kill("one")
    lxd.user.instances.delete("one")
    for fingerprint in {image.fingerprint for image in lxd.user.images.list()}:
        lxd.behave(fingerprint, REFUSES_TO_START)
    with pytest.raises(LxdockerError):
        launch(lxd, LaunchWishes(volumes=BARE))
    assert left(lxd)[:2] == (set(), {"v-data", "v-cache"})


def test_a_volume_that_cannot_be_filled_is_told_and_taken_away() -> None:
    lxd = prepared()
    with pytest.raises(SeedError, match="/cache"):
        launch(lxd, LaunchWishes())
    assert left(lxd)[:2] == (set(), set())


def test_what_a_killed_launch_leaves_is_known_for_what_it_is() -> None:
    lxd = prepared()
    half = NewInstance(
        name="half",
        image=lxd.user.aliases.get("web").fingerprint,
        settings=InstanceSettings(
            architecture="x86_64",
            config={LAUNCHING_KEY: "true"},
            devices={},
            profiles=("default",),
        ),
    )
    lxd.user.instances.create(half)
    with pytest.raises(NameTakenError, match="of a launch that was interrupted"):
        launch(lxd, LaunchWishes(volumes=BARE), "half")
    launch(lxd, LaunchWishes(volumes=BARE))
    assert LAUNCHING_KEY not in lxd.user.instances.get("one").config


def test_names_and_ports_that_are_taken() -> None:
    lxd = prepared({})
    wishes = LaunchWishes(publish=(PublishedPort.parse("8080:80"),))
    launch(lxd, wishes)
    with pytest.raises(NameTakenError, match="instance one"):
        launch(lxd, wishes)
    with pytest.raises(PortTakenError, match="the instance one has the host's tcp port 8080"):
        launch(lxd, wishes, "two")
    # A stopped instance holds no port; but one that is chosen keeps out of its way.
    lxd.user.power.kill("one")
    launch(lxd, wishes, "two")
    for name in ("", "1a", "a_b", "a-", "a" * 64):
        with pytest.raises(UsageError):
            launch(lxd, wishes, name)


def test_an_image_that_is_not_ours() -> None:
    lxd = SimulatedLxd()
    lxd.add_image("1", alias="web")
    with pytest.raises(VerificationError, match="was not made by lxdocker-lxd"):
        launch(lxd, LaunchWishes())
    assert left(lxd)[0] == set()
