"""What LXD ties to an instance beside its settings goes on with the name, or is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lxdocker_lxd.lxd.records import Config, Devices
from lxdocker_lxd.lxd.server_records import Permission
from lxdocker_lxd.update.configuration import differences, saved_of
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import reap
from lxdocker_lxd.update.transaction import Phase, Role, Transaction, encoded, readable_stamp
from tests.harness.simulated_lxd import EXITS_AT_ONCE, GOOD, Behaviour, SimulatedLxd
from tests.update.records import instance
from tests.update.simulated_scene import KEYS, Scene

P2P = {"type": "nic", "nictype": "p2p"}
NAMES = {"volatile.wan.name": "eth0", "volatile.lan.name": "eth1"}


def router(behaviour: Behaviour) -> Scene:
    """A router whose first NIC isn't the first by its device's name."""
    scene = Scene(behaviour)
    user = scene.lxd.user
    user.power.kill("web")
    user.instances.delete("web")
    scene.lxd.launch("web", scene.old, config=KEYS, devices={"eth0": {"type": "none"}, "wan": P2P})
    user.instances.patch("web", devices={"lan": P2P})
    assert interfaces(scene) == NAMES
    scene.saved = saved_of(user.instances.get("web"))
    scene.hosts = scene.fixed_hosts()
    scene.lxd.log.restart_count()
    return scene


def interfaces(scene: Scene) -> Config:
    config = scene.lxd.user.instances.get("web").config
    return {key: config[key] for key in NAMES if key in config}


def macs_inside(scene: Scene) -> Config:
    return scene.lxd.user.power.state("web").hardware_addresses


@pytest.mark.parametrize("behaviour", [GOOD, EXITS_AT_ONCE])
def test_a_routers_interfaces_keep_their_names(behaviour: Behaviour) -> None:
    scene = router(behaviour)
    before = macs_inside(scene)
    scene.update()
    assert interfaces(scene) == NAMES
    assert macs_inside(scene) == before
    scene.settled()


def test_a_router_that_a_user_takes_back_keeps_them_too() -> None:
    scene = router(GOOD)
    before = macs_inside(scene)
    assert scene.update().act is Act.COMMITTED
    assert scene.turn_back().act is Act.ROLLED_BACK
    assert (interfaces(scene), macs_inside(scene)) == (NAMES, before)
    scene.settled()


def test_an_interface_that_has_another_name_is_a_difference() -> None:
    one = instance(config=NAMES, devices={"wan": P2P, "lan": P2P})
    swapped = {"volatile.wan.name": "eth1", "volatile.lan.name": "eth0"}
    other = replace(one, config={**one.config, **swapped})
    assert differences(other, saved_of(one)) == (
        "interface name of lan",
        "interface name of wan",
    )


def test_a_name_that_the_device_gives_is_no_drawn_one() -> None:
    devices: Devices = {"wan": P2P | {"name": "up"}}
    assert saved_of(instance(config={"volatile.wan.name": "eth0"}, devices=devices)).volatile == {}


@pytest.mark.parametrize(
    "key", ["volatile.cluster.group", "volatile.evacuate.origin", "volatile.wan.devlxd.owner"]
)
def test_a_place_in_a_cluster_is_kept(key: str) -> None:
    scene = router(GOOD)
    scene.lxd.user.instances.patch("web", config={key: "here"})
    assert scene.update().act is Act.COMMITTED
    assert scene.lxd.user.instances.get("web").config.get(key) == "here"


def test_a_stamp_of_before_says_nothing_of_names_and_is_read() -> None:
    transaction = Transaction(id="0123abcd", project="default", name="web", fingerprint="b" * 64)
    saved = saved_of(instance(config=NAMES, devices={"wan": P2P, "lan": P2P}))
    text = encoded(transaction.stamp(Role.OLD, Phase.LEASED, saved))
    older = text.replace(',"volatile":{"volatile.lan.name":"eth1","volatile.wan.name":"eth0"}', "")
    assert older != text
    stamp = readable_stamp(instance(config={"user.lxdocker.transaction": older}))
    assert stamp is not None
    assert stamp.saved == replace(saved, volatile={})


# ---- what hangs on the copy


def test_a_copy_with_backups_that_lxd_keeps_is_never_removed() -> None:
    scene = Scene(GOOD)
    scene.lxd.backup("web", "monday")
    assert scene.update().act is Act.COMMITTED
    (copy,) = (one.name for one in scene.lxd.user.instances.list() if "-old-" in one.name)
    later = scene.lxd.clock() + timedelta(days=99)
    assert reap(scene.lxd, later).removed == ()
    assert scene.lxd.user.instances.backups(copy) == ("monday",)
    scene.lxd.box(copy).backups.clear()
    assert reap(scene.lxd, later).removed == (copy,)


# ---- the root volume's own settings


def test_the_root_volumes_own_settings_are_given_to_the_next_one() -> None:
    scene = Scene(GOOD)
    box = scene.lxd.box("web")
    box.root_config, box.root_description = {"user.mine": "1"}, "mine"
    assert scene.update().act is Act.COMMITTED
    box = scene.lxd.box("web")
    assert (box.root_config, box.root_description) == ({"user.mine": "1"}, "mine")
    assert scene.turn_back().act is Act.ROLLED_BACK
    assert scene.lxd.box("web").root_config == {"user.mine": "1"}


def test_a_root_volumes_setting_that_lxd_doesnt_take_refuses_the_update_before_the_outage() -> None:
    scene = Scene(GOOD)
    scene.lxd.box("web").root_config = {"zfs.use_refquota": "true"}
    outcome = scene.update()
    assert (outcome.act, outcome.failed) == (Act.GIVEN_UP, True)
    assert "zfs.use_refquota" in outcome.reason
    assert not [call for call in scene.lxd.log.calls if call.name == "power.stop"]
    scene.settled()


def test_what_a_root_volume_has_from_its_birth_hinders_nobody() -> None:
    scene = Scene(GOOD)
    scene.lxd.box("web").root_config = {"block.filesystem": "ext4", "volatile.rootfs.size": "1"}
    assert scene.update().act is Act.COMMITTED


# ---- permissions of groups


def test_permissions_of_groups_stay_with_the_old_root_and_that_is_told_once() -> None:
    scene = Scene(GOOD, lxd=SimulatedLxd(extensions=frozenset({"access_management"})))
    scene.lxd.store.permissions = tuple(
        Permission(
            group="staff",
            entitlement=word,
            kind="instance",
            path=f"/1.0/instances/{name}",
            project="default",
        )
        for word, name in (("can_exec", "web"), ("can_view", "other"))
    )
    outcome = scene.update()
    assert outcome.act is Act.COMMITTED
    assert "lxc auth group permission add staff instance web can_exec project=default" in (
        outcome.reason
    )
    assert "can_view" not in outcome.reason
    scene.settled()


def test_a_lxd_without_groups_isnt_asked_for_permissions() -> None:
    scene = Scene(GOOD)
    outcome = scene.update()
    assert (outcome.act, outcome.reason) == (Act.COMMITTED, "")
    assert not [call for call in scene.lxd.log.calls if call.name == "server.permissions"]
