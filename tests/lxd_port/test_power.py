"""Starting, stopping, freezing, and what the guest has to say about it."""

import time
from dataclasses import replace
from datetime import datetime

import pytest

from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    PermissionRefusedError,
    StartFailedError,
    StopTimedOutError,
    WrongStateError,
)
from lxdocker_lxd.lxd.resources import Project
from lxdocker_lxd.update.remapping import (
    BARRIER,
    BARRIER_NAME,
    ended_at_barrier,
    needs_remapping,
)
from tests.lxd_port.site import Site, settings


def status(site: Site, name: str = "web") -> str:
    return site.lxd.instances.get(name).status


def test_an_instance_starts_and_stops_cleanly(site: Site) -> None:
    site.create("web")
    stopped = site.lxd.power.state("web")
    assert (stopped.status, stopped.process_id, stopped.addresses) == ("Stopped", 0, ())
    site.lxd.power.start("web")
    running = site.lxd.power.state("web")
    assert running.status == "Running"
    assert running.process_id > 1
    web = site.lxd.instances.get("web")
    assert web.running
    assert web.config["volatile.last_state.power"] == "RUNNING"
    assert "volatile.apply_template" not in web.config
    assert web.config["volatile.eth0.host_name"]
    assert web.config["volatile.idmap.current"] == web.config["volatile.last_state.idmap"]
    assert web.last_used_at is not None
    site.lxd.power.stop("web", timeout_seconds=20)
    web = site.lxd.instances.get("web")
    assert web.status == "Stopped"
    assert web.config["volatile.last_state.power"] == "STOPPED"
    assert "volatile.eth0.host_name" not in web.config


def test_the_last_start_is_told_of_each_instance_and_goes_with_its_name(site: Site) -> None:
    """So it can be told which of two was started later."""

    def started(name: str) -> datetime:
        at = site.lxd.instances.get(name).last_used_at
        assert at is not None
        return at

    for name in ("web", "front"):
        site.create(name)
        site.lxd.power.start(name)
    assert started("web") <= started("front")
    before = started("front")
    site.lxd.power.kill("web")
    assert started("web") <= before
    site.lxd.instances.rename("web", "other")
    site.lxd.power.start("other")
    assert started("other") >= before == started("front")
    (listed,) = (one for one in site.lxd.instances.list() if one.name == "other")
    assert listed.last_used_at == started("other")


def test_a_start_that_ends_at_a_device_has_remapped_the_files_and_nothing_else(site: Site) -> None:
    site.create("web")
    new = site.lxd.instances.get("web")
    assert not site.remapped("web")
    assert needs_remapping(new)
    site.lxd.instances.patch("web", devices={BARRIER_NAME: BARRIER})
    for _ in range(2):
        with pytest.raises(StartFailedError) as failure:
            site.lxd.power.start("web")
        assert ended_at_barrier(failure.value)
        assert site.remapped("web")
    web = site.lxd.instances.get("web")
    assert not needs_remapping(web)
    assert (web.status, site.lxd.power.state("web").process_id) == ("Stopped", 0)
    changed = {
        key for key in {*new.config, *web.config} if new.config.get(key) != web.config.get(key)
    }
    # No template was used up, no state of power is remembered: it never ran.
    assert changed == {"volatile.idmap.current", "volatile.last_state.idmap"}
    assert web.config["volatile.apply_template"] == "create"
    assert site.lxd.guests.console_log("web") == b""
    devices = {name: one for name, one in web.devices.items() if name != BARRIER_NAME}
    site.lxd.instances.replace("web", replace(web.settings, devices=devices), etag=web.etag)
    site.lxd.power.start("web")
    assert site.remapped("web")
    assert status(site) == "Running"


def test_protected_files_are_remapped_by_no_start(site: Site) -> None:
    site.create("web", settings({"security.protection.shift": "true"}))
    with pytest.raises(StartFailedError):
        site.lxd.power.start("web")
    assert not site.remapped("web")
    site.lxd.instances.patch("web", config={"security.protection.shift": ""})
    site.lxd.power.start("web")
    site.lxd.power.kill("web")
    # Once they are remapped, the protection is in nobody's way.
    site.lxd.instances.patch("web", config={"security.protection.shift": "true"})
    site.lxd.power.start("web")


def test_a_restricted_project_refuses_devices_of_the_host(site: Site) -> None:
    root = {"root": {"type": "disk", "path": "/", "pool": "default"}}
    config = {"restricted": "true", "features.images": "false"}
    site.lxd.projects.create(Project(name="small", config=config))
    new = NewInstance(name="web", image=site.image(), settings=settings(devices=root))
    site.lxd.instances.create(new, project="small")
    before = site.lxd.instances.get("web", project="small")
    with pytest.raises(PermissionRefusedError):
        site.lxd.instances.patch("web", devices={BARRIER_NAME: BARRIER}, project="small")
    with pytest.raises(PermissionRefusedError):
        site.lxd.instances.patch(
            "web", config={"raw.lxc": "lxc.init.cmd = /bin/true"}, project="small"
        )
    assert site.lxd.instances.get("web", project="small") == before


def test_asking_for_what_holds_already_is_wrong(site: Site) -> None:
    site.create("web")
    power = site.lxd.power
    for change in (power.stop, power.kill, power.freeze, power.unfreeze):
        with pytest.raises(WrongStateError):
            change("web")
    power.start("web")
    for change in (power.start, power.unfreeze):
        with pytest.raises(WrongStateError):
            change("web")
    for change in (power.start, power.stop, power.kill, power.freeze, power.unfreeze):
        with pytest.raises(AbsentError):
            change("nope")
    with pytest.raises(AbsentError):
        power.state("nope")


def test_a_deaf_guest_goes_on_after_the_time_it_had(site: Site) -> None:
    site.create("web", kind="deaf", start=True)
    began = time.monotonic()
    with pytest.raises(StopTimedOutError):
        site.lxd.power.stop("web", timeout_seconds=1)
    assert time.monotonic() - began < 10
    assert status(site) == "Running"
    site.lxd.power.kill("web")
    assert status(site) == "Stopped"


def test_an_image_without_an_init_does_not_start(site: Site) -> None:
    site.create("web", kind="broken")
    with pytest.raises(StartFailedError):
        site.lxd.power.start("web")
    assert status(site) == "Stopped"
    site.lxd.instances.delete("web")


def test_an_init_that_exits_at_once_starts_and_is_stopped(site: Site) -> None:
    site.create("web", kind="quick")
    site.lxd.power.start("web")
    site.eventually(lambda: status(site) == "Stopped", "the end of its init")


def test_stopping_an_ephemeral_instance_deletes_it(site: Site) -> None:
    site.create("web", settings(ephemeral=True), start=True)
    site.lxd.power.stop("web")
    site.eventually(lambda: site.lxd.instances.list() == (), "its removal")
    site.create("web", settings(ephemeral=True), start=True)
    site.lxd.instances.patch("web", ephemeral=False)
    site.lxd.power.kill("web")
    assert status(site) == "Stopped"


def test_a_frozen_instance_is_not_running_and_can_be_stopped(site: Site) -> None:
    site.create("web", start=True)
    site.lxd.power.freeze("web")
    frozen = site.lxd.instances.get("web")
    assert (frozen.status, frozen.running) == ("Frozen", False)
    for change in (site.lxd.power.freeze, site.lxd.power.start):
        with pytest.raises(WrongStateError):
            change("web")
    site.lxd.power.unfreeze("web")
    assert status(site) == "Running"
    site.lxd.power.freeze("web")
    site.lxd.power.stop("web", timeout_seconds=10)
    assert status(site) == "Stopped"


def test_instances_live_through_a_restart_of_lxd(site: Site) -> None:
    site.create("web", start=True)
    before = site.lxd.power.state("web").process_id
    site.restart()
    assert site.lxd.power.state("web").process_id == before
