"""Image, volumes and container of the server, on a simulated LXD: made, made again, taken back."""

from collections.abc import Callable, Mapping

import pytest

from lxdocker_lxd.errors import NotFoundError, ToolError
from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.lxd.records import UpdateSource
from lxdocker_lxd.setup.contained import MARK, Contained
from lxdocker_lxd.setup.container_hands import (
    BASE_ALIAS,
    BaseImages,
    Containers,
    ContainerVolumes,
    ImageFetchError,
    Powers,
    keep_volumes,
    local_image,
)
from lxdocker_lxd.setup.installation import Servers
from lxdocker_lxd.setup.item import DAMAGE
from tests.harness.simulated_lxd import GOOD, Behaviour, SimulatedLxd

SHALL = Contained(
    name="lxdocker",
    host_name="lxdocker.lxd",
    image="debian",
    pool="default",
    network="br0",
    address="10.20.30.254",
)
VOLUMES = {f"default/{volume}": path for path, volume in SHALL.volumes.items()}
RUNNING = {"status": "running", "address": ""}
DEFINED = {"definition": SHALL.definition}
SERVED = {"address": ":443", "url": SHALL.url, "names": SHALL.host_name}


def answering(said: Mapping[str, str]) -> Callable[[Command, float], CommandResult]:
    """A guest that answers a command by the first of ``said`` that is in it, and else with 1."""

    def answer(command: Command, seconds: float) -> CommandResult:
        words = " ".join(command.words)
        found = next((text for key, text in said.items() if key in words), None)
        out = (found or "").encode()
        return CommandResult(exit_code=int(found is None), stdout=out, stderr=b"no\nnot at all")

    return answer


BOOTED = {"is-system-running": "", "cat /proc/1/comm": "systemd\n"}


def made(said: Mapping[str, str] = BOOTED, *, answer: bool = True) -> SimulatedLxd:
    """A LXD with volumes and the stopped container."""
    lxd = SimulatedLxd()
    behaviour = Behaviour(answer=answering(said)) if answer else GOOD
    lxd.add_image("1", alias="debian", behaviour=behaviour)
    for name, path in VOLUMES.items():
        ContainerVolumes(lxd).make(name, {"of": SHALL.name, "path": path})
    Containers(lxd, SHALL).make(SHALL.name, DEFINED)
    return lxd


def volumes_left(lxd: SimulatedLxd) -> dict[str, str]:
    """Take container and volumes back; return why volumes were left."""
    Containers(lxd, None).take_back(SHALL.name, DEFINED, None)
    return {name: ContainerVolumes(lxd).take_back(name, {}, None) for name in VOLUMES}


class TestTheContainer:
    def test_it_is_what_its_definition_says(self) -> None:
        lxd = made()
        found = lxd.instances.get(SHALL.name)
        assert dict(found.devices) == SHALL.devices
        assert found.config[MARK] == "image-server"
        assert Containers(lxd, SHALL).look(SHALL.name, DEFINED) == DEFINED

    def test_what_a_user_adds_is_the_users(self) -> None:
        lxd = made()
        lxd.user.instances.patch(SHALL.name, config={"limits.memory": "1GiB"})
        assert Containers(lxd, SHALL).look(SHALL.name, DEFINED) == DEFINED

    def test_what_is_lost_is_written_again(self) -> None:
        lxd = made()
        lxd.user.instances.patch(SHALL.name, config={"boot.autostart": ""})
        hand = Containers(lxd, SHALL)
        assert hand.look(SHALL.name, DEFINED) != DEFINED
        hand.make(SHALL.name, DEFINED)
        assert hand.look(SHALL.name, DEFINED) == DEFINED

    def test_somebodys_instance_is_told_apart(self) -> None:
        lxd = SimulatedLxd()
        lxd.launch(SHALL.name, lxd.add_image("1"))
        assert Containers(lxd, SHALL).look(SHALL.name, DEFINED) != DEFINED
        assert Containers(lxd, None).look(SHALL.name, DEFINED) != DEFINED

    @pytest.mark.parametrize("stops", [True, False])
    def test_it_goes_running_or_not(self, *, stops: bool) -> None:
        lxd = made()
        lxd.behave(lxd.add_image("1"), Behaviour(stops=stops, answer=answering(BOOTED)))
        lxd.power.start(SHALL.name)
        assert set(volumes_left(lxd).values()) == {""}
        assert volumes_left(lxd) == dict.fromkeys(VOLUMES, "")
        assert not lxd.instances.list()
        assert not lxd.volumes.list("default")


class TestItsPower:
    def test_it_is_started_once(self) -> None:
        lxd, name = made(), SHALL.name
        hand = Powers(lxd)
        assert hand.look(name, RUNNING) == {DAMAGE: "stopped"}
        hand.make(name, RUNNING)
        hand.make(name, RUNNING)
        assert hand.look(name, RUNNING) == RUNNING
        assert hand.look("nobody", RUNNING) is None

    def test_another_init_is_told(self) -> None:
        lxd = made({"is-system-running": "", "cat /proc/1/comm": "init\n"})
        with pytest.raises(ToolError, match="boots init, not systemd"):
            Powers(lxd).make(SHALL.name, RUNNING)


class TestItsVolumes:
    def test_one_of_somebody_else_is_told_apart(self) -> None:
        lxd = made()
        hand, name = ContainerVolumes(lxd), "default/lxdocker-data"
        wanted = {"of": SHALL.name, "path": VOLUMES[name]}
        assert hand.look(name, wanted) == wanted
        keep_volumes(lxd, SHALL.name, "things")
        assert hand.look(name, wanted) == wanted
        keep_volumes(lxd, SHALL.name, "")
        assert hand.look("default/none", wanted) is None

    def test_they_stay_while_an_instance_has_them(self) -> None:
        lxd = made()
        left = {name: ContainerVolumes(lxd).take_back(name, {}, None) for name in VOLUMES}
        assert set(left.values()) == {"an instance uses it"}

    @pytest.mark.parametrize(("count", "kept"), [("0", False), ("3", True)])
    def test_they_stay_when_they_hold_somebodys_own(self, count: str, *, kept: bool) -> None:
        lxd = made({**BOOTED, "find ": count})
        hand = Servers(lxd)
        assert bool(hand.take_back(SHALL.name, SERVED, None)) is kept
        assert all(bool(why) is kept for why in volumes_left(lxd).values())
        assert bool(lxd.volumes.list("default")) is kept

    def test_what_nobody_can_look_into_stays(self) -> None:
        """A container deleted by hand, or one that can't be asked: its images might be all there are."""
        lxd = made({**BOOTED, "lxdocker-lxd setup": "", "command -v": ""})
        lxd.power.start(SHALL.name)
        Servers(lxd).make(SHALL.name, SERVED)
        lxd.user.power.kill(SHALL.name)
        lxd.user.instances.delete(SHALL.name)
        assert Servers(lxd).take_back(SHALL.name, SERVED, None) == ""
        left = volumes_left(lxd)
        assert all("it holds what the server kept" in why for why in left.values())
        assert len(lxd.volumes.list("default")) == len(VOLUMES)


class TestItsServer:
    @pytest.mark.parametrize(
        ("said", "found"),
        [
            ('{"steps": [{"action": "already"}, {"action": "leave"}]}', SERVED),
            ('{"steps": [{"action": "change"}]}', {DAMAGE: "incomplete"}),
            ("{}", {DAMAGE: "it can't be asked"}),
            ("[" * 100_000, {DAMAGE: "it can't be asked"}),
            ('{"steps": [{"action": {}}]}', {DAMAGE: "it can't be asked"}),
            ("", None),
        ],
    )
    def test_its_own_plan_says_how_it_is(self, said: str, found: object) -> None:
        lxd = made({**BOOTED, "setup --no-lxd": said})
        assert Servers(lxd).look(SHALL.name, SERVED) == {DAMAGE: "the container doesn't run"}
        lxd.power.start(SHALL.name)
        assert Servers(lxd).look(SHALL.name, SERVED) == found
        assert Servers(lxd).look("nobody", SERVED) is None

    def test_what_fails_inside_is_told_with_its_last_words(self) -> None:
        lxd = made()
        lxd.power.start(SHALL.name)
        with pytest.raises(ToolError, match="in the container lxdocker: no not at all"):
            Servers(lxd).make(SHALL.name, SERVED)


FETCHED = {
    "server": "https://images.test",
    "alias": "debian/12",
    "certificate": "",
    "for": SHALL.name,
}


class TestItsImage:
    def lxd(self) -> SimulatedLxd:
        lxd = SimulatedLxd()
        lxd.publish("https://images.test", "debian/12", "12")
        return lxd

    def test_it_is_fetched_and_goes_again(self) -> None:
        lxd = self.lxd()
        hand = BaseImages(lxd)
        assert hand.look(BASE_ALIAS, FETCHED) is None
        hand.make(BASE_ALIAS, FETCHED)
        assert hand.look(BASE_ALIAS, FETCHED) == FETCHED
        assert hand.take_back(BASE_ALIAS, FETCHED, None) == ""
        assert hand.take_back(BASE_ALIAS, FETCHED, None) == ""
        assert not lxd.images.list()

    def test_one_that_was_there_before_stays(self) -> None:
        lxd = self.lxd()
        source = UpdateSource(server="https://images.test", alias="debian/12")
        lxd.user.images.pull(source)
        hand = BaseImages(lxd)
        hand.make(BASE_ALIAS, FETCHED)
        hand.take_back(BASE_ALIAS, FETCHED, None)
        assert len(lxd.images.list()) == 1
        assert not lxd.aliases.list()

    def test_a_server_that_doesnt_give_it_is_named_with_what_to_do(self) -> None:
        elsewhere = {**FETCHED, "server": "https://gone.test"}
        with pytest.raises(ImageFetchError, match=r"debian/12 of https://gone\.test") as caught:
            BaseImages(self.lxd()).make(BASE_ALIAS, elsewhere)
        assert "--container-image" in caught.value.hint

    def test_it_is_not_needed_once_the_container_is_there(self) -> None:
        assert BaseImages(made()).look(BASE_ALIAS, FETCHED) == FETCHED

    def test_a_local_one_is_found_by_alias_and_fingerprint(self) -> None:
        lxd = SimulatedLxd()
        fingerprint = lxd.add_image("1", alias="debian")
        for text in ("debian", fingerprint, fingerprint[:12]):
            assert local_image(lxd, text) == fingerprint
        for text in ("", "none"):
            with pytest.raises(NotFoundError, match="--container-image"):
                local_image(lxd, text)
