"""Instances as objects: made, read, written, renamed, deleted."""

from dataclasses import replace

import pytest

from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    ChangedMeanwhileError,
    LimitReachedError,
    NameTakenError,
    RefusedError,
    StartFailedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.resources import Profile, Project
from tests.lxd_port.site import Site, settings

NONE = "0" * 64


def test_what_is_created_is_what_was_asked_for(site: Site) -> None:
    fingerprint = site.image()
    site.lxd.profiles.create(
        Profile(name="more", project="default", config={"user.a": "profile", "user.p": "1"})
    )
    written = settings(
        {"user.a": "own", "limits.memory": "64MiB", "user.empty": "", "environment.X": "a b=c"},
        {"gone": {"type": "none"}},
        profiles=("default", "more"),
        description="of ours",
    )
    site.lxd.instances.create(NewInstance(name="web", image=fingerprint, settings=written))
    web = site.lxd.instances.get("web")
    assert (web.name, web.project, web.status, web.location) == (
        "web",
        "default",
        "Stopped",
        "none",
    )
    assert (web.type, web.architecture, web.description) == ("container", "x86_64", "of ours")
    assert (web.profiles, web.devices) == (("default", "more"), {"gone": {"type": "none"}})
    own = {key: value for key, value in web.config.items() if not key.startswith("volatile.")}
    assert own == {
        "user.a": "own",
        "limits.memory": "64MiB",
        "environment.X": "a b=c",
        "image.os": "tiny",
        "image.version": "1",
        "image.description": "tiny 1",
    }
    assert web.base_image == fingerprint
    assert web.config["volatile.apply_template"] == "create"
    assert {key for key in web.config if key.startswith("volatile.")} == {
        "volatile.apply_template",
        "volatile.base_image",
        "volatile.cloud-init.instance-id",
        "volatile.eth0.hwaddr",
        "volatile.idmap.base",
        "volatile.idmap.next",
        "volatile.last_state.idmap",
        "volatile.uuid",
    }
    assert web.expanded_config["user.a"] == "own"
    assert web.expanded_config["user.p"] == "1"
    assert set(web.expanded_devices) == {"eth0", "gone", "root"}
    assert not web.running
    assert web.settings.profiles == ("default", "more")
    (listed,) = site.lxd.instances.list()
    assert listed == replace(web, etag="")


def test_an_alias_and_a_given_identity(site: Site) -> None:
    fingerprint = site.image()
    site.lxd.aliases.create("a/b:1", fingerprint)
    given = {
        "volatile.uuid": "11111111-2222-4333-8444-555555555555",
        "volatile.eth0.hwaddr": "00:16:3e:12:34:56",
        "volatile.base_image": NONE,
    }
    site.lxd.instances.create(
        NewInstance(name="web", image="a/b:1", settings=settings(given), by_alias=True)
    )
    web = site.lxd.instances.get("web")
    assert web.base_image == fingerprint
    assert web.config["volatile.uuid"] == given["volatile.uuid"]
    assert web.config["volatile.eth0.hwaddr"] == given["volatile.eth0.hwaddr"]


def test_what_cannot_be_created(site: Site) -> None:
    fingerprint = site.image()
    new = NewInstance(name="web", image=fingerprint, settings=settings())

    def refused(kind: type[Exception], changed: NewInstance, project: str = "default") -> None:
        with pytest.raises(kind):
            site.lxd.instances.create(changed, project=project)

    refused(AbsentError, replace(new, image=NONE))
    refused(AbsentError, replace(new, image="nope", by_alias=True))
    refused(AbsentError, new, project="nope")
    refused(RefusedError, replace(new, type="virtual-machine"))
    for name in ("web-", "9web", "w_b", "w" * 64):
        refused(RefusedError, replace(new, name=name))
    pool = {"type": "disk", "path": "/", "pool": "nope"}
    volume = {"type": "disk", "path": "/data", "pool": "default", "source": "nope"}
    for written in (
        settings(profiles=("nope",)),
        settings(profiles=()),
        settings({"nope.x": "1"}),
        settings({"environment.A": "a\nb"}),
        settings(devices={"root": pool}),
        settings(devices={"data": volume}),
    ):
        refused(RefusedError, replace(new, settings=written))
    assert site.lxd.instances.list() == ()
    site.lxd.instances.create(replace(new, name="w" * 63))
    refused(NameTakenError, replace(new, name="w" * 63))


def test_a_projects_limit_is_one(site: Site) -> None:
    fingerprint = site.image()
    features = {"features.images": "false", "features.profiles": "false"}
    site.lxd.projects.create(Project(name="small", config={**features, "limits.instances": "1"}))
    new = NewInstance(name="web", image=fingerprint, settings=settings())
    site.lxd.instances.create(new, project="small")
    with pytest.raises(LimitReachedError):
        site.lxd.instances.create(replace(new, name="two"), project="small")
    usage = site.lxd.projects.usage("small")["instances"]
    assert (usage.used, usage.limit) == (1, 1)
    assert site.lxd.instances.list() == ()
    (found,) = site.lxd.instances.list(project=None)
    assert (found.name, found.project) == ("web", "small")
    with pytest.raises(AbsentError):
        site.lxd.instances.get("web")


# ---- writing


def test_a_put_replaces_all_but_keys_lxd_keeps(site: Site) -> None:
    site.create("web", settings({"user.a": "1"}))
    web = site.lxd.instances.get("web")
    config = {**web.config, "user.b": "2", "user.c": ""}
    for key in ("user.a", "image.os", "volatile.uuid", "volatile.apply_template"):
        del config[key]
    site.lxd.instances.replace(
        "web", replace(web.settings, config=config, description="new"), etag=web.etag
    )
    now = site.lxd.instances.get("web")
    assert now.config == {key: value for key, value in config.items() if value}
    assert now.description == "new"
    without = {key: value for key, value in now.config.items() if "idmap" not in key}
    with pytest.raises(RefusedError):
        site.lxd.instances.replace("web", replace(now.settings, config=without))


def test_a_stale_write_is_refused_and_changes_nothing(site: Site) -> None:
    site.create("web")
    old = site.lxd.instances.get("web")
    site.lxd.instances.patch("web", config={"user.a": "1"}, etag=old.etag)
    with pytest.raises(ChangedMeanwhileError):
        site.lxd.instances.replace("web", old.settings, etag=old.etag)
    with pytest.raises(ChangedMeanwhileError):
        site.lxd.instances.patch("web", config={"user.a": "2"}, etag=old.etag)
    assert site.lxd.instances.get("web").config["user.a"] == "1"


def test_an_etag_covers_all_but_the_description(site: Site) -> None:
    site.create("web")

    def etag() -> str:
        return site.lxd.instances.get("web").etag

    seen = [etag()]
    now = site.lxd.instances.get("web").settings
    site.lxd.instances.replace("web", replace(now, description="other"))
    assert etag() == seen[0]
    site.lxd.instances.patch("web", ephemeral=True)
    seen.append(etag())
    site.lxd.instances.patch("web", ephemeral=False, devices={"x": {"type": "none"}})
    seen.append(etag())
    now = site.lxd.instances.get("web").settings
    site.lxd.profiles.create(Profile(name="more", project="default"))
    site.lxd.instances.replace("web", replace(now, profiles=("default", "more")))
    seen.append(etag())
    site.lxd.instances.patch("web", config={"user.a": "1"})
    seen.append(etag())
    profile = site.lxd.profiles.get("more")
    site.lxd.profiles.edit(replace(profile, config={"user.p": "1"}))
    seen.append(etag())
    assert len(set(seen)) == 6, "what profiles say is covered too"


def test_a_patch_adds_and_removes_single_keys(site: Site) -> None:
    site.create("web", settings({"user.a": "1", "user.b": "2"}, {"x": {"type": "none"}}))
    site.lxd.instances.patch("web", config={"user.a": "", "user.c": "3"})
    site.lxd.instances.patch("web", devices={"y": {"type": "none"}})
    web = site.lxd.instances.get("web")
    assert {key for key in web.config if key.startswith("user.")} == {"user.b", "user.c"}
    assert set(web.devices) == {"x", "y"}


def test_what_cannot_be_written(site: Site) -> None:
    site.create("web")
    web = site.lxd.instances.get("web")
    none = {"x": {"type": "none"}}
    with pytest.raises(AbsentError):
        site.lxd.instances.replace("web", replace(web.settings, profiles=("nope",)))
    with pytest.raises(RefusedError):
        site.lxd.instances.replace("web", replace(web.settings, devices=none, profiles=()))
    with pytest.raises(RefusedError):
        site.lxd.instances.patch("web", config={"nope.x": "1"})
    with pytest.raises(AbsentError):
        site.lxd.instances.patch("nope", config={"user.a": "1"})
    assert site.lxd.instances.get("web") == web


# ---- renaming, deleting


def test_a_rename_takes_snapshots_and_volatile_keys_along(site: Site) -> None:
    site.create("web")
    site.snapshot("web", "first")
    before = site.lxd.instances.get("web").config
    site.lxd.instances.rename("web", "old")
    after = site.lxd.instances.get("old").config
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    # A template trigger that waits already isn't overwritten.
    assert changed == {"volatile.cloud-init.instance-id"}
    assert [one.name for one in site.lxd.instances.snapshots("old")] == ["first"]
    assert [one.name for one in site.lxd.instances.list()] == ["old"]
    for call in (site.lxd.instances.get, site.lxd.instances.snapshots, site.lxd.instances.delete):
        with pytest.raises(AbsentError):
            call("web")


def test_what_cannot_be_renamed(site: Site) -> None:
    site.create("web")
    site.create("other")
    with pytest.raises(NameTakenError):
        site.lxd.instances.rename("web", "other")
    with pytest.raises(RefusedError):
        site.lxd.instances.rename("web", "9x")
    with pytest.raises(AbsentError):
        site.lxd.instances.rename("nope", "free")
    site.lxd.power.start("web")
    with pytest.raises(WrongStateError):
        site.lxd.instances.rename("web", "free")


def test_a_running_or_protected_instance_is_not_deleted(site: Site) -> None:
    site.create("web", settings({"security.protection.delete": "true"}))
    with pytest.raises(WrongStateError):
        site.lxd.instances.delete("web")
    site.lxd.instances.patch("web", config={"security.protection.delete": ""})
    site.lxd.power.start("web")
    with pytest.raises(WrongStateError):
        site.lxd.instances.delete("web")
    site.lxd.power.kill("web")
    site.lxd.instances.delete("web")
    assert site.lxd.instances.list() == ()


def test_snapshots_come_in_order_and_go_with_the_instance(site: Site) -> None:
    site.create("web")
    site.snapshot("web", "zz")
    site.snapshot("web", "aa")
    assert [one.name for one in site.lxd.instances.snapshots("web")] == ["zz", "aa"]
    site.lxd.instances.delete("web")
    site.create("web")
    assert site.lxd.instances.snapshots("web") == ()


def test_backups_that_lxd_keeps_go_with_the_instance(site: Site) -> None:
    site.create("web")
    assert site.lxd.instances.backups("web") == ()
    site.backup("web", "monday")
    site.backup("web", "tuesday")
    site.lxd.instances.rename("web", "old")
    assert sorted(site.lxd.instances.backups("old")) == ["monday", "tuesday"]
    with pytest.raises(AbsentError):
        site.lxd.instances.backups("web")
    site.lxd.instances.delete("old")
    site.create("old")
    assert site.lxd.instances.backups("old") == ()


def test_a_root_volume_has_settings_of_its_own_that_keep_the_instances_name(site: Site) -> None:
    site.create("web")
    web = site.lxd.instances.get("web")
    volume = site.lxd.instances.root_volume(web)
    assert (volume.pool, volume.name, dict(volume.config)) == ("default", "web", {})
    edited = replace(volume, config={"user.mine": "1"}, description="mine")
    site.lxd.instances.edit_root_volume(web, edited)
    with pytest.raises(ChangedMeanwhileError):
        site.lxd.instances.edit_root_volume(web, edited)
    with pytest.raises(RefusedError):
        site.lxd.instances.edit_root_volume(
            web, replace(volume, config={"zfs.use_refquota": "true"}, etag="")
        )
    site.lxd.instances.rename("web", "old")
    now = site.lxd.instances.root_volume(site.lxd.instances.get("old"))
    assert (dict(now.config), now.description) == ({"user.mine": "1"}, "mine")
    with pytest.raises(AbsentError):
        site.lxd.instances.root_volume(web)


def test_lxd_killed_while_it_creates_leaves_a_ruin(site: Site) -> None:
    site.die_creating("ruin")
    ruin = site.lxd.instances.get("ruin")
    assert (ruin.status, ruin.base_image != "") == ("Stopped", True)
    assert "volatile.apply_template" not in ruin.config, (
        "the one thing that tells it from a new one"
    )
    with pytest.raises(StartFailedError):
        site.lxd.power.start("ruin")
    site.lxd.instances.delete("ruin")
    site.create("ruin", start=True)


def test_an_instance_outlives_its_image(site: Site) -> None:
    site.create("web", start=True)
    fingerprint = site.lxd.instances.get("web").base_image
    site.lxd.images.delete(fingerprint)
    assert site.lxd.instances.get("web").base_image == fingerprint
    site.lxd.power.stop("web")
    site.lxd.power.start("web")
