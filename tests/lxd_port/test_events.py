"""Lifecycle events: what tells of what, what doesn't, and connections that end."""

import threading

import pytest

from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import EventsLostError
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.lxd.resources import Profile, Project
from lxdocker_lxd.lxd.server_records import LifecycleEvent
from tests.lxd_port.site import RealSite, SimulatedSite, Site, settings

PATIENCE_SECONDS = 20.0
QUIET_SECONDS = 0.3


def heard(stream: EventStream, *actions: str) -> list[LifecycleEvent]:
    """All that comes until these actions have come and then nothing for a while."""
    events: list[LifecycleEvent] = []
    missing = set(actions)
    while event := stream.take(PATIENCE_SECONDS if missing else QUIET_SECONDS):
        events.append(event)
        missing.discard(event.action)
    assert not missing, (missing, events)
    return events


def test_an_instances_life(site: Site) -> None:
    image = site.image()
    lxd = site.lxd
    new = NewInstance(name="web", image=image, settings=settings())
    with lxd.events.subscribe() as stream:
        assert stream.take(0) is None
        lxd.instances.create(new)
        assert [one.action for one in heard(stream, "instance-created")] == ["instance-created"]
        lxd.power.start("web")
        (started,) = heard(stream, "instance-started")
        assert (started.action, started.kind, started.name) == (
            "instance-started",
            "instance",
            "web",
        )
        assert (started.project, started.location) == ("default", "none")
        assert started.at is not None
        lxd.power.freeze("web")
        lxd.power.unfreeze("web")
        assert {one.action for one in heard(stream, "instance-paused", "instance-resumed")} == {
            "instance-paused",
            "instance-resumed",
        }
        lxd.power.stop("web")
        heard(stream, "instance-shutdown")
        lxd.instances.patch("web", config={"user.a": "1"})
        assert [one.action for one in heard(stream, "instance-updated")] == ["instance-updated"]
        lxd.instances.rename("web", "old")
        (renamed,) = heard(stream, "instance-renamed")
        assert (renamed.action, renamed.name) == ("instance-renamed", "old")
        assert renamed.old_name == "web"
        site.snapshot("old", "first")
        (snap,) = heard(stream, "instance-snapshot-created")
        assert (snap.action, snap.name, snap.detail) == (
            "instance-snapshot-created",
            "old",
            "first",
        )
        lxd.instances.delete("old")
        heard(stream, "instance-deleted")


def test_a_guest_that_ends_by_itself_is_told_without_an_author(site: Site) -> None:
    site.create("web", kind="quick")
    with site.lxd.events.subscribe() as stream:
        site.lxd.power.start("web")
        events = {one.action: one for one in heard(stream, "instance-started", "instance-shutdown")}
    assert events["instance-shutdown"].by == ""
    assert events["instance-started"].by == "root"


def test_images_and_names(site: Site) -> None:
    first, second = site.image(), site.image(version="2")
    aliases = site.lxd.aliases
    name = "docker.io/web:1 é"
    with site.lxd.events.subscribe() as stream:
        aliases.create(name, first)
        (created,) = heard(stream, "image-alias-created")
        assert (created.action, created.kind) == ("image-alias-created", "image-alias")
        assert (created.name, created.target) == (name, first)
        aliases.move(aliases.get(name), second)
        (moved,) = heard(stream, "image-alias-updated")
        assert (moved.action, moved.target) == ("image-alias-updated", second)
        aliases.delete(name)
        assert [one.action for one in heard(stream, "image-alias-deleted")] == [
            "image-alias-deleted"
        ]
        site.lxd.images.delete(first)
        (deleted,) = heard(stream, "image-deleted")
        assert (deleted.action, deleted.kind, deleted.name) == ("image-deleted", "image", first)


def test_a_refresh_tells_the_old_fingerprint(site: Site) -> None:
    source = site.publish("refreshed", "1")
    first = site.lxd.images.pull(source)
    site.publish("refreshed", "2")
    site.an_hour_passes()
    with site.lxd.events.subscribe() as stream:
        second = site.lxd.images.refresh(first)
        events = {(one.action, one.name) for one in heard(stream, "image-refreshed")}
    assert events == {("image-created", second), ("image-refreshed", first)}


def test_a_background_update_tells_only_of_a_new_image(site: Site) -> None:
    source = site.publish("background", "1")
    first = site.lxd.images.pull(source)
    site.lxd.aliases.create("mine", first)
    site.publish("background", "2")
    site.an_hour_passes()
    if isinstance(site, SimulatedSite):
        with site.lxd.events.subscribe() as stream:
            site.simulated.auto_update()
            events = [(one.action, one.name, one.by) for one in heard(stream, "image-created")]
        second = site.lxd.aliases.get("mine").fingerprint
        assert events == [("image-created", second, "")]
    else:
        # LXD looks for new images whenever it starts; its events before our connection are lost.
        site.restart()
        site.eventually(lambda: site.lxd.aliases.get("mine").fingerprint != first, "the update")
        second = site.lxd.aliases.get("mine").fingerprint
    # The old image goes a moment after the alias has moved.
    site.eventually(
        lambda: [one.fingerprint for one in site.lxd.images.list()] == [second],
        "the old image's removal",
    )


def test_all_projects_are_heard(site: Site) -> None:
    site.lxd.projects.create(Project(name="other"))
    with site.lxd.events.subscribe() as stream:
        site.lxd.profiles.create(Profile(name="more", project="other"))
        (event,) = heard(stream, "profile-created")
    assert (event.action, event.kind, event.name) == ("profile-created", "profile", "more")
    assert event.project == "other"


def test_nothing_is_replayed(site: Site) -> None:
    site.create("web")
    with site.lxd.events.subscribe() as stream:
        assert heard(stream) == []


def test_a_restart_of_lxd_ends_the_connection_after_what_came(site: Site) -> None:
    stream = site.lxd.events.subscribe()
    site.create("web")
    assert {one.action for one in heard(stream, "instance-created")} == {
        "image-created",
        "instance-created",
    }
    site.restart()
    with pytest.raises(EventsLostError):
        site.eventually(lambda: stream.take(1), "the end")
    with pytest.raises(EventsLostError):
        stream.take(0)
    stream.close()
    with site.lxd.events.subscribe() as anew:
        site.lxd.instances.patch("web", config={"user.a": "1"})
        assert [one.action for one in heard(anew, "instance-updated")] == ["instance-updated"]


def test_a_stream_that_is_closed_is_lost(site: Site) -> None:
    stream = site.lxd.events.subscribe()
    stream.close()
    stream.close()
    with pytest.raises(EventsLostError):
        stream.take(0)


@pytest.mark.lxd
def test_closing_from_another_thread_wakes_a_waiting_take(real: RealSite) -> None:
    stream = real.lxd.events.subscribe()
    timer = threading.Timer(0.3, stream.close)
    timer.start()
    with pytest.raises(EventsLostError):
        stream.take(20)
    timer.join()
