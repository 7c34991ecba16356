"""The daemon itself: what it is, its keys, its work in the background."""

import threading

import pytest

from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import ChangedMeanwhileError, RefusedError
from lxdocker_lxd.lxd.resources import Project
from tests.lxd_port.site import RealSite, Site

# The shell that is PID 1 of the image, and what it waits for.
INIT_PROCESSES = 2


def test_what_it_is(site: Site) -> None:
    info = site.lxd.server.info()
    assert (info.product, info.api_version, info.trusted) == ("lxd", "1.0", True)
    assert info.clustered is False
    assert info.version.startswith("5.0")
    assert "x86_64" in info.architectures
    assert "dir" in info.storage_drivers
    assert info.name
    assert not info.supports("nothing_of_the_kind")
    assert not info.supports("instances_rebuild"), "LXD 5.0 can't rebuild"
    assert site.lxd.server.members() == ()


def test_keys_are_set_and_taken_back(site: Site) -> None:
    server = site.lxd.server
    before = server.info()
    server.configure({"images.auto_update_interval": "0", "user.mine": "1"}, etag=before.etag)
    assert server.info().config["images.auto_update_interval"] == "0"
    with pytest.raises(ChangedMeanwhileError):
        server.configure({"user.mine": "2"}, etag=before.etag)
    server.configure({"images.auto_update_interval": "", "user.mine": ""})
    assert server.info().config == before.config
    with pytest.raises(RefusedError):
        server.configure({"nope.x": "1"})


def test_operations_of_all_projects_and_of_one(site: Site) -> None:
    assert [one for one in site.lxd.server.operations() if not one.ended] == []
    site.lxd.projects.create(Project(name="other"))
    ids = [one.id for one in site.lxd.server.operations()]
    assert len(ids) == len(set(ids)), "work of the whole server shows in every project"
    site.lxd.server.cancel("11111111-2222-4333-8444-555555555555")


def test_a_lxd_without_groups_of_identities_has_no_permissions(site: Site) -> None:
    assert site.lxd.server.permissions() == ()


@pytest.mark.lxd
def test_a_running_command_shows_as_an_operation(real: RealSite) -> None:
    real.create("web", start=True)

    def run() -> None:
        command = Command(words=("/bin/sleep", "30"), timeout_seconds=40)
        assert real.lxd.guests.execute("web", command).exit_code == 137

    worker = threading.Thread(target=run)
    worker.start()

    def shown() -> bool:
        listed = real.lxd.server.operations(project="default")
        return any("/1.0/instances/web" in one.resources and not one.ended for one in listed)

    real.eventually(shown, "the command")
    # LXD lists it before it is attached; until then its end would be unknown.
    real.eventually(lambda: real.lxd.power.state("web").processes > INIT_PROCESSES, "its process")
    real.lxd.power.kill("web")
    worker.join(20)
    assert not worker.is_alive()
