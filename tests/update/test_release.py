"""What images say of their versions: when they were published, what changed, where that is described."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.control_characters import spelled_out
from lxdocker_lxd.lxd.records import Alias, Config, Image, UpdateSource
from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.notification import Round, Topic, document_of, message_of, of_round
from lxdocker_lxd.update.plan import Choice, Decision, Scene, plan
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.release import (
    Release,
    changes_between,
    published_at,
    release_of,
    running_release,
)
from lxdocker_lxd.update.transaction import Transaction
from tests.update.records import NEW_IMAGE, NOW, OLD_IMAGE, image, instance

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LABEL = "org.opencontainers.image."
SERVER = UpdateSource(server="https://images.example:8443", alias="web")
KEYS = {"user.lxdocker.update": "auto", "user.lxdocker.update.minimum_age": "3d"}
LOCAL = KEYS | {"user.lxdocker.image": "local|web"}
REMOTE = KEYS | {"user.lxdocker.image": f"{SERVER.server}|simplestreams|web"}


def version(
    properties: Config | None = None,
    *,
    seen: datetime = NOW,
    created: datetime | None = None,
    fetched: bool = False,
) -> Image:
    return replace(
        image(uploaded_at=seen),
        properties=properties or {},
        created_at=created,
        update_source=SERVER if fetched else None,
    )


def decide(new: Image, *, config: Config = LOCAL, old: Image | None = None) -> Decision:
    images = (new,) if old is None else (new, old)
    held = Alias(name="web", fingerprint=new.fingerprint, project="default")
    (decision,) = plan(
        Scene(
            instances=(instance(config=config),),
            images={"default": images},
            aliases={"default": (held,)},
            now=NOW,
        )
    )
    return decision


def before(days: float, properties: Config | None = None) -> Image:
    """The image the instance was made of, as LXD got it so many days ago."""
    return replace(
        image(OLD_IMAGE, aliases=(), uploaded_at=NOW - days * DAY), properties=properties or {}
    )


def test_an_image_that_was_published_days_ago_need_not_rest_again() -> None:
    published = {f"{LABEL}created": (NOW - 4 * DAY).isoformat()}
    assert decide(version(), old=before(30)).cause is Cause.MINIMUM_AGE
    assert decide(version(published), old=before(30)).choice is Choice.UPDATE
    assert decide(version(created=NOW - 4 * DAY), old=before(30)).choice is Choice.UPDATE


@pytest.mark.parametrize(
    "serial", ["20261117_0830", "20261117_083059", "20261117T0830", "20261117", "20261117-abc"]
)
def test_the_serial_of_a_servers_version_is_a_date(serial: str) -> None:
    new = version({"serial": serial}, fetched=True)
    assert decide(new, config=REMOTE, old=before(30)).choice is Choice.UPDATE


def test_an_imports_serial_says_when_it_was_imported_and_counts_for_nothing() -> None:
    new = version({"serial": "20261117_0830"})
    assert decide(new, old=before(30)).cause is Cause.MINIMUM_AGE


def test_the_reason_says_from_when_it_counts() -> None:
    published = {f"{LABEL}created": (NOW - DAY).isoformat()}
    assert "it was published 2026-11-20T12:00" in decide(version(published), old=before(9)).reason
    assert "LXD has had it since 2026-11-21T12:00" in decide(version(), old=before(9)).reason


@pytest.mark.parametrize(
    "said",
    [
        (NOW + HOUR).isoformat(),
        "1970-01-01T00:00:00Z",
        "2014-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "yesterday",
        "9" * 5000,
        "",
    ],
)
def test_a_time_that_cant_be_true_doesnt_count(said: str) -> None:
    new = version({f"{LABEL}created": said}, seen=NOW - HOUR)
    assert published_at(new, NOW, None) is None
    assert decide(new).cause is Cause.MINIMUM_AGE


def test_no_publisher_makes_a_version_older_than_the_one_it_replaces() -> None:
    """The name stood for the old version when LXD got that: the new one came later."""
    new = version({f"{LABEL}created": (NOW - 20 * DAY).isoformat()})
    assert decide(new, old=before(10)).cause is Cause.MINIMUM_AGE
    assert decide(new, old=before(21)).choice is Choice.UPDATE
    # Where the old image is gone, the instance tells since when it was the one.
    one = replace(instance(config=LOCAL), created_at=NOW - 10 * DAY)
    held = Alias(name="web", fingerprint=NEW_IMAGE, project="default")
    scene = Scene(
        instances=(one,), images={"default": (new,)}, aliases={"default": (held,)}, now=NOW
    )
    assert plan(scene)[0].cause is Cause.MINIMUM_AGE


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants naive bounds
    st.none() | st.timedeltas(timedelta(0), 400 * DAY),
    st.timedeltas(timedelta(0), 400 * DAY),
)
def test_what_counts_lies_between_the_version_before_and_the_arrival(
    said: datetime, floor: timedelta | None, age: timedelta
) -> None:
    new = version({f"{LABEL}created": said.isoformat()}, seen=NOW - age)
    earliest = None if floor is None else NOW - floor
    found = published_at(new, NOW, earliest)
    assert found is None or (found <= NOW - age and (earliest is None or found >= earliest))


@given(st.dictionaries(st.sampled_from(["serial", "version", f"{LABEL}url"]), st.text()))
def test_whatever_an_image_says_is_short_and_legible(properties: Config) -> None:
    found = release_of(version(properties))
    for text in (found.version, found.serial, found.notes_url):
        assert spelled_out(text, kept="") == text
        assert len(text) <= 600


OLD = {f"{LABEL}version": "1.26.2", "serial": "20261101_0200"}
NEW = {
    f"{LABEL}version": "1.27.0",
    "serial": "20261121_0200",
    f"{LABEL}url": "https://web.example/changes",
}


def test_what_changed_and_where_it_is_described_stands_in_a_decision() -> None:
    decision = decide(version(NEW), old=before(30, OLD))
    assert decision.changes == (
        "version 1.26.2 -> 1.27.0",
        "build 20261101_0200 -> 20261121_0200",
    )
    assert decision.release_notes == "https://web.example/changes"
    # Where the old image is gone, the instance has its properties.
    one = instance(config=LOCAL | {f"image.{key}": value for key, value in OLD.items()})
    assert running_release(one, None) == release_of(version(OLD))


def test_layers_and_configuration_are_compared_where_both_tell_them() -> None:
    one = Release(manifest="sha256:" + "a" * 64, reference="docker.io/library/nginx:1.26")
    other = Release(manifest="sha256:" + "b" * 64, reference="docker.io/library/nginx:1.27")
    assert changes_between(one, other) == (
        "image docker.io/library/nginx:1.26 -> docker.io/library/nginx:1.27",
        f"layers or configuration sha256:{'a' * 12} -> sha256:{'b' * 12}",
    )
    assert changes_between(one, one) == ("the same layers and configuration, built anew",)
    assert changes_between(Release(), one) == ("image docker.io/library/nginx:1.26",)
    assert changes_between(Release(), Release()) == ()


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "https://bank.example@evil.example/",
        "https://x.example/\u202egpj",
        "ftp://x.example/",
        "https://",
        "https://x.example/ y",
        "//x.example",
    ],
)
def test_only_web_addresses_are_links(address: str) -> None:
    assert release_of(version({f"{LABEL}url": address})).notes_url == ""
    source = {f"{LABEL}url": address, f"{LABEL}source": "https://code.example/web"}
    assert release_of(version(source)).notes_url == "https://code.example/web"


def test_messages_say_what_changed() -> None:
    decision = decide(
        version(NEW), config=LOCAL | {"user.lxdocker.update": "notify"}, old=before(30, OLD)
    )
    updated = replace(decision, choice=Choice.UPDATE, name="db")
    outcome = Outcome(
        transaction=Transaction(id="1", project="default", name="db", fingerprint=NEW_IMAGE),
        act=Act.COMMITTED,
    )
    other = replace(outcome, transaction=replace(outcome.transaction, id="2", name="unplanned"))
    found = of_round(
        Round(at=NOW, host="h", outcomes=(outcome, other), decisions=(decision, updated))
    )
    assert [one.topic for one in found] == [Topic.UPDATED, Topic.UPDATED, Topic.AVAILABLE]
    for one in (found[0], found[2]):
        assert "changes: version 1.26.2 -> 1.27.0; build" in one.text
        assert "release notes: https://web.example/changes" in one.text
        assert message_of(document_of(one)) == one
    assert found[1].changes == ""
    # One of an older version that still waits to be sent.
    old = {
        key: value
        for key, value in document_of(found[1]).items()
        if key not in {"changes", "release_notes"}
    }
    assert message_of(old) == found[1]


def test_a_plan_of_two_hundred_instances_takes_no_time() -> None:
    """Outside of their windows, with images that say all they can."""
    windows = [f"Sat 02:{number % 60:02}-05:00 Europe/Berlin" for number in range(200)]
    instances = tuple(
        instance(f"n{number}", config=LOCAL | {"user.lxdocker.update.window": text})
        for number, text in enumerate(windows)
    )
    scene = Scene(
        instances=instances,
        images={"default": (version(NEW, seen=NOW - 20 * DAY), before(30, OLD))},
        aliases={"default": (Alias(name="web", fingerprint=NEW_IMAGE, project="default"),)},
        now=NOW,
    )
    began = time.process_time()
    decisions = plan(scene)
    assert time.process_time() - began < 0.4
    assert {one.cause for one in decisions} == {Cause.WINDOW}
