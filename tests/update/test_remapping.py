"""A successor's files are remapped before the outage, and never by half."""

from dataclasses import replace

import pytest

from lxdocker_lxd.lxd.failures import NoSpaceError
from lxdocker_lxd.lxd.resources import Project
from lxdocker_lxd.update.configuration import differences
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.remapping import (
    BARRIER,
    BARRIER_NAME,
    barred_settings,
    needs_remapping,
)
from lxdocker_lxd.update.transaction import Phase, Role, Transaction, readable_stamp
from tests.harness.simulated import power
from tests.harness.simulated_lxd import GOOD, Behaviour, Call, Fault
from tests.update.records import instance
from tests.update.simulated_scene import Scene

MAP = '[{"Isuid":true,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":1000000000}]'
STAGE = "web-new-00000001"
SLOW = Behaviour(remap_seconds=40)


def committed(scene: Scene) -> None:
    """The new version runs, whole, and nothing is left of how it came there."""
    scene.settled()
    web = scene.lxd.user.instances.get("web")
    assert web.base_image == scene.new
    assert BARRIER_NAME not in web.devices
    names = {one.name for one in scene.lxd.user.instances.list()}
    assert names == {"web", "other", "web-old-00000001"}


def at_start_of_stage(scene: Scene, act: object) -> None:
    """Let something happen once, right before the stage's start."""

    def before(call: Call) -> None:
        if (call.name, call.subject) == ("power.start", STAGE):
            scene.lxd.log.before = lambda _call: None
            act()  # type: ignore[operator] # each test gives a function

    scene.lxd.log.before = before


# ---- how it goes


def test_files_are_remapped_before_the_outage_and_the_outage_doesnt_wait_for_it() -> None:
    scene = Scene(SLOW)
    outcome = scene.update()
    assert outcome.act is Act.COMMITTED
    assert outcome.outage_seconds is not None
    assert outcome.outage_seconds < 1
    committed(scene)
    assert scene.lxd.box("web").remapped_as == [STAGE]
    assert scene.steps[:4] == [Act.STAGE, Act.PREPARE, Act.REMAP, Act.PROVE]


def test_templates_wait_for_the_name() -> None:
    scene = Scene(GOOD)
    seen: dict[str, str] = {}

    def before(call: Call) -> None:
        if (call.name, call.subject) == ("power.start", "web"):
            seen.update(scene.lxd.user.instances.get("web").config)

    scene.lxd.log.before = before
    scene.update()
    assert seen["volatile.apply_template"] == "create"
    assert "volatile.last_state.power" not in seen


def test_a_protection_of_files_holds_again_before_the_outage_and_no_update_fails_by_it() -> None:
    scene = Scene(GOOD)
    scene.lxd.user.instances.patch("web", config={"security.protection.shift": "true"})
    scene.update()
    web = scene.lxd.user.instances.get("web")
    assert (web.base_image, web.config["security.protection.shift"]) == (scene.new, "true")
    assert differences(web, scene.saved) == ("config security.protection.shift",)


def test_an_isolated_instances_stage_is_remapped_with_the_map_of_its_real_start() -> None:
    scene = Scene(GOOD)
    web = scene.lxd.user.instances.get("web")
    isolated = {"security.idmap.isolated": "true", "raw.idmap": "both 1000 1000"}
    scene.lxd.user.instances.patch("web", config=isolated, etag=web.etag)
    deciding = {}

    def before(call: Call) -> None:
        if call.name == "power.start":
            keys = scene.lxd.user.instances.get(call.subject).config
            deciding[call.subject] = {
                key: keys.get(key) for key in (*isolated, "security.idmap.base")
            }

    scene.lxd.log.before = before
    scene.update()
    assert deciding[STAGE] == deciding["web"]
    assert deciding[STAGE]["raw.idmap"] == "both 1000 1000"


# ---- where it isn't done


def test_a_stopped_instance_has_no_outage_so_its_successor_isnt_started() -> None:
    scene = Scene(GOOD)
    scene.lxd.user.power.kill("web")
    assert scene.update().act is Act.COMMITTED
    assert scene.lxd.box("web").remapped_as == []
    assert Act.REMAP not in scene.steps


def test_a_project_that_forbids_the_device_leaves_it_to_the_real_start() -> None:
    scene = Scene(SLOW)
    restricted = Project(name="default", config={"restricted": "true"})
    scene.lxd.store.projects["default"] = restricted
    outcome = scene.update()
    committed(scene)
    assert outcome.act is Act.COMMITTED
    assert scene.lxd.box("web").remapped_as == ["web"]
    assert Act.REMAP not in scene.steps


def test_what_needs_no_remapping() -> None:
    unmapped = {"volatile.last_state.idmap": "[]", "volatile.idmap.next": MAP}
    stage = replace(instance(), config=unmapped)
    assert needs_remapping(stage)
    assert not needs_remapping(replace(stage, type="virtual-machine"))
    for already in (MAP, ""):
        config = {**unmapped, "volatile.last_state.idmap": MAP, "volatile.idmap.next": already}
        assert not needs_remapping(replace(stage, config=config))
    for unmappable in ("[]", "null", "{", ""):
        assert not needs_remapping(
            replace(stage, config=unmapped | {"volatile.idmap.next": unmappable})
        )
    assert not needs_remapping(replace(stage, config={}))


def test_what_forbids_a_start_is_off_in_a_barred_stage_and_nothing_else_changes() -> None:
    transaction = Transaction(id="1", project="default", name="web", fingerprint="f")
    stamp = transaction.stamp(Role.NEW, Phase.REMAPPING, None)
    protected = {"security.protection.start": "true", "limits.cpu": "1"}
    # One of them comes from a profile.
    stage = replace(
        instance(),
        config=protected,
        expanded_config={**protected, "security.protection.shift": "true"},
    )
    barred = barred_settings(stage, stamp)
    assert barred.config == {
        "limits.cpu": "1",
        "security.protection.start": "false",
        "security.protection.shift": "false",
        "user.lxdocker.transaction": barred.config["user.lxdocker.transaction"],
    }
    assert barred.devices == {**stage.devices, BARRIER_NAME: BARRIER}


# ---- what goes wrong


@pytest.mark.parametrize("fault", [Fault.LXD_KILLED, Fault.LXD_RESTARTED, Fault.ANSWER_LOST])
def test_a_remapping_whose_end_nobody_saw_is_never_built_upon(fault: Fault) -> None:
    """LXD killed there leaves files of which some are remapped; a second time spoils them."""
    scene = Scene(GOOD)

    def spoil() -> None:
        scene.lxd.log.faults = {scene.lxd.log.number: fault}

    at_start_of_stage(scene, spoil)
    assert scene.update().act is Act.COMMITTED
    committed(scene)
    assert scene.steps.count(Act.STAGE_AGAIN) == 1
    assert scene.lxd.box("web").remapped_as == ["web"]


def test_a_remapping_that_fails_leaves_it_to_the_real_start() -> None:
    scene = Scene(Behaviour(remaps=False))
    at_start_of_stage(scene, lambda: scene.lxd.behave(scene.new, GOOD))
    assert scene.update().act is Act.COMMITTED
    committed(scene)
    assert scene.steps.count(Act.REMAP) == 1


def test_a_remapping_that_always_fails_goes_back_to_the_old_version() -> None:
    scene = Scene(Behaviour(remaps=False))
    assert scene.update().act is Act.ROLLED_BACK
    scene.settled()
    assert scene.lxd.user.instances.get("web").base_image == scene.old


def test_a_full_pool_ends_the_update_before_the_outage() -> None:
    scene = Scene(GOOD)
    began = scene.lxd.box("web").started_at

    def full() -> None:
        raise NoSpaceError("could not start it: no space left on device")

    at_start_of_stage(scene, full)
    outcome = scene.update()
    assert (outcome.act, "no space left" in outcome.reason) == (Act.GIVEN_UP, True)
    scene.settled()
    assert scene.lxd.box("web").started_at == began
    assert {one.name for one in scene.lxd.user.instances.list()} == {"web", "other"}


@pytest.mark.parametrize("ends", [None, 0.0])
def test_a_stage_that_runs_after_all_is_stopped_and_made_again(
    monkeypatch: pytest.MonkeyPatch, ends: float | None
) -> None:
    scene = Scene(Behaviour(ends_after_seconds=ends))
    scene.lxd.log.after = lambda _call: None

    def appear() -> None:
        monkeypatch.setattr(power, "HOST_FILES", {BARRIER["source"]})
        scene.lxd.behave(scene.new, GOOD)

    at_start_of_stage(scene, appear)
    assert scene.update().act is Act.COMMITTED
    committed(scene)
    assert scene.steps.count(Act.END_STAGE) == (1 if ends is None else 0)
    assert scene.steps.count(Act.STAGE_AGAIN) == 1


def test_a_stage_that_runs_is_stopped_and_removed_by_a_recovery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(GOOD)
    monkeypatch.setattr(power, "HOST_FILES", {BARRIER["source"]})
    scene.lxd.log.after = lambda _call: None

    def die() -> None:
        scene.lxd.log.faults = {scene.lxd.log.number: Fault.KILLED_AFTER}

    at_start_of_stage(scene, die)
    scene.spoil(0, Fault.BUSY, scene.update)
    stage = scene.lxd.user.instances.get(STAGE)
    stamp = readable_stamp(stage)
    assert (stage.status, stamp and stamp.phase) == ("Running", Phase.REMAPPING)
    scene.journal.lose()
    assert [one.act for one in scene.recover()] == [Act.GIVEN_UP]
    scene.settled()
    assert {one.name for one in scene.lxd.user.instances.list()} == {"web", "other"}


def test_nothing_happens_to_the_old_version_whatever_happens_before_its_outage() -> None:
    """Every kind of fault at every call until the lease: the old version just runs on."""
    whole = Scene(GOOD)
    whole.update()
    lease = next(
        call.number
        for call in whole.lxd.log.calls
        if (call.name, call.subject) == ("instances.replace", "web")
    )
    injections = 0
    for fault in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.KILLED_LATE):
        for number in range(1, lease):
            scene = Scene(GOOD)
            began = scene.lxd.box("web").started_at
            assert scene.spoil(number, fault, scene.update)
            scene.recover()
            scene.lxd.finish()
            scene.recover()
            scene.settled()
            assert scene.lxd.box("web").started_at == began
            assert {one.name for one in scene.lxd.user.instances.list()} == {"web", "other"}
            injections += 1
    assert injections == 3 * (lease - 1) > 40
