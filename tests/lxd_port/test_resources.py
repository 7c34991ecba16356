"""Volumes, pools, networks, profiles, projects: made, changed, refused, deleted."""

from dataclasses import replace

import pytest

from lxdocker_lxd.lxd.failures import (
    AbsentError,
    ChangedMeanwhileError,
    InUseError,
    NameTakenError,
    WrongStateError,
)
from lxdocker_lxd.lxd.resources import Network, Profile, Project, StoragePool, Volume
from tests.lxd_port.site import Site, settings

STALE = "0" * 64


def test_a_volume_lives_by_itself(site: Site) -> None:
    volumes = site.lxd.volumes
    wanted = Volume(
        pool="default", name="data", project="default", description="ours", config={"user.a": "1"}
    )
    volumes.create(wanted)
    held = volumes.get("default", "data")
    assert replace(held, etag="", location="") == wanted
    assert held.location == "none"
    assert [one.name for one in volumes.list("default")] == ["data"]
    with pytest.raises(NameTakenError):
        volumes.create(wanted)
    volumes.edit(replace(held, description="new", config={"user.b": "2"}))
    now = volumes.get("default", "data")
    assert (now.description, now.config) == ("new", {"user.b": "2"})
    with pytest.raises(ChangedMeanwhileError):
        volumes.edit(held)
    disk = {"type": "disk", "pool": "default", "source": "data", "path": "/data"}
    site.create("web", settings(devices={"data": disk}))
    assert volumes.get("default", "data").used_by == ("/1.0/instances/web",)
    with pytest.raises(InUseError):
        volumes.delete("default", "data")
    site.lxd.instances.delete("web")
    assert volumes.get("default", "data").config == {"user.b": "2"}
    volumes.delete("default", "data")
    assert volumes.list("default") == ()


def test_volumes_that_are_not_there(site: Site) -> None:
    for pool in ("default", "nope"):
        with pytest.raises(AbsentError):
            site.lxd.volumes.get(pool, "nope")
        with pytest.raises(AbsentError):
            site.lxd.volumes.delete(pool, "nope")
    with pytest.raises(AbsentError):
        site.lxd.volumes.list("nope")
    with pytest.raises(AbsentError):
        site.lxd.volumes.create(Volume(pool="nope", name="data", project="default"))


def test_volumes_of_projects(site: Site) -> None:
    site.lxd.projects.create(Project(name="own"))
    site.lxd.projects.create(Project(name="shared", config={"features.storage.volumes": "false"}))
    site.lxd.volumes.create(Volume(pool="default", name="data", project="default"))
    assert site.lxd.volumes.list("default", project="own") == ()
    assert [one.name for one in site.lxd.volumes.list("default", project="shared")] == ["data"]


def test_pools(site: Site) -> None:
    (listed,) = site.lxd.pools.list()
    held = site.lxd.pools.get("default")
    assert (held.name, held.driver, held.status) == ("default", "dir", "Created")
    assert listed == replace(held, etag="")
    assert "/1.0/profiles/default" in held.used_by
    space = site.lxd.pools.space("default")
    assert 0 <= space.used_bytes < space.total_bytes
    assert space.free_bytes == space.total_bytes - space.used_bytes
    with pytest.raises(NameTakenError):
        site.lxd.pools.create(StoragePool(name="default", driver="dir"))
    with pytest.raises(InUseError):
        site.lxd.pools.delete("default")
    site.lxd.pools.create(StoragePool(name="more", driver="dir", description="ours"))
    assert site.lxd.pools.get("more").description == "ours"
    site.lxd.pools.delete("more")
    for call in (site.lxd.pools.get, site.lxd.pools.space, site.lxd.pools.delete):
        with pytest.raises(AbsentError):
            call("more")


def test_networks(site: Site) -> None:
    networks = site.lxd.networks
    held = networks.get(site.network)
    assert (held.type, held.managed, held.status) == ("bridge", True, "Created")
    assert held.config["ipv4.address"] == f"{site.prefix}1/24"
    assert site.network in {one.name for one in networks.list()}
    networks.edit(replace(held, description="ours"))
    assert networks.get(site.network).description == "ours"
    with pytest.raises(ChangedMeanwhileError):
        networks.edit(held)
    with pytest.raises(InUseError):
        networks.delete(site.network)
    with pytest.raises(NameTakenError):
        networks.create(held)
    for call in (networks.get, networks.leases, networks.delete):
        with pytest.raises(AbsentError):
            call("nope")


def test_a_network_comes_and_goes(site: Site) -> None:
    # Without addresses it needs no DHCP server and no firewall.
    config = {"ipv4.address": "none", "ipv6.address": "none"}
    name = "lxtport0"
    site.lxd.networks.create(
        Network(name=name, project="default", type="bridge", managed=True, config=config)
    )
    try:
        assert site.lxd.networks.get(name).managed
        assert site.lxd.networks.leases(name) == ()
    finally:
        site.lxd.networks.delete(name)
    assert name not in {one.name for one in site.lxd.networks.list()}


def test_profiles(site: Site) -> None:
    profiles = site.lxd.profiles
    wanted = Profile(
        name="more",
        project="default",
        description="ours",
        config={"user.a": "1"},
        devices={"x": {"type": "none"}},
    )
    profiles.create(wanted)
    held = profiles.get("more")
    assert replace(held, etag="") == wanted
    assert {one.name for one in profiles.list()} == {"default", "more"}
    with pytest.raises(NameTakenError):
        profiles.create(wanted)
    profiles.edit(replace(held, config={"user.b": "2"}, devices={}))
    with pytest.raises(ChangedMeanwhileError):
        profiles.edit(held)
    site.create("web", settings(profiles=("default", "more")))
    assert site.lxd.instances.get("web").expanded_config["user.b"] == "2"
    assert profiles.get("more").used_by == ("/1.0/instances/web",)
    with pytest.raises(InUseError):
        profiles.delete("more")
    with pytest.raises(WrongStateError):
        profiles.delete("default")
    for call in (profiles.get, profiles.delete):
        with pytest.raises(AbsentError):
            call("nope")


def test_projects(site: Site) -> None:
    projects = site.lxd.projects
    assert [one.name for one in projects.list()] == ["default"]
    projects.create(Project(name="other", description="ours", config={"user.a": "1"}))
    held = projects.get("other")
    assert held.description == "ours"
    assert held.config["user.a"] == "1"
    assert all(held.has_feature(one) for one in ("images", "profiles", "storage.volumes"))
    with pytest.raises(NameTakenError):
        projects.create(Project(name="other"))
    projects.edit(replace(held, config={**held.config, "limits.instances": "3"}))
    with pytest.raises(ChangedMeanwhileError):
        projects.edit(held)
    usage = projects.usage("other")
    assert (usage["instances"].used, usage["instances"].limit) == (0, 3)
    assert usage["memory"].limit is None
    site.lxd.profiles.create(Profile(name="more", project="other"))
    with pytest.raises(InUseError):
        projects.delete("other")
    site.lxd.profiles.delete("more", project="other")
    projects.delete("other")
    for call in (projects.get, projects.usage, projects.delete):
        with pytest.raises(AbsentError):
            call("other")
    for where in (site.lxd.images.list, site.lxd.profiles.list, site.lxd.aliases.list):
        with pytest.raises(AbsentError):
            where(project="other")
