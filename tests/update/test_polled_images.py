"""Names whose servers are asked directly, on the simulated LXD with its blind hour."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from lxdocker_lxd.lxd.records import UpdateSource
from lxdocker_lxd.update.enrolment import POLL_KEY, Poll
from lxdocker_lxd.update.image_server_http import Answer, AskingError, NoSuchDocumentError
from lxdocker_lxd.update.image_server_poll import ImageServerPoll
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.polled_images import PolledImages
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.source import AGAIN_PATH, SOURCE_KEY
from tests.harness.simulated_lxd import EXITS_AT_ONCE, SimulatedClock, SimulatedLxd
from tests.update.test_rounds import AUTO, SERVER, House, watching

OTHER = "https://foreign.example"


@dataclass
class Documents:
    """The documents of the simulated image servers, as they are sent over HTTPS."""

    lxd: SimulatedLxd
    again: bool = True
    spoilt: Callable[[bytes], bytes] = lambda content: content
    asked: list[str] = field(default_factory=list)

    def ask(self, url: str, *, certificate: str = "", tag: str = "") -> Answer:
        assert certificate == ""
        self.asked.append(url)
        server, _, path = url.partition("/streams/v1/")
        if AGAIN_PATH in server and not self.again:
            raise NoSuchDocumentError("it answers 404")
        server = server.partition("/at/")[0]
        if not self.lxd.store.reachable(server):
            raise AskingError("it can't be reached")
        content = self.spoilt(self._document(server, path))
        now = str(hash(content))
        return Answer(content=None if tag == now else content, tag=now)

    def _document(self, server: str, path: str) -> bytes:
        if path == "index.json":
            entry = {
                "datatype": "image-downloads",
                "path": "streams/v1/images.json",
                "products": ["all"],
            }
            return json.dumps({"index": {"images": entry}}).encode()
        products = {}
        for (alias, _), one in self.lxd.store.servers[server].items():
            metadata = {"ftype": "lxd.tar.xz", "combined_squashfs_sha256": one.fingerprint}
            items = {"meta": metadata, "root": {"ftype": "squashfs"}}
            versions = {one.properties["serial"]: {"items": items}}
            products[alias] = {"aliases": alias, "arch": "amd64", "versions": versions}
        return json.dumps({"products": products}).encode()


def polling(house: House, *, default: Poll = Poll.REMOTE) -> Documents:
    """Let the house ask servers each minute."""
    documents = Documents(house.lxd)
    poll = ImageServerPoll(
        documents.ask,
        clock=house.lxd.clock.monotonic,
        draw=random.Random(7).random,
        interval_seconds=60,
    )
    clock = house.lxd.clock
    house.polled = PolledImages(poll=poll, clock=clock, monotonic=clock.monotonic, default=default)
    return documents


def serial(number: int) -> str:
    return f"20261121_{number:04}"


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.publish(SERVER, "web", serial(1))
    first = house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="web"))
    house.lxd.launch("web", first, config=AUTO)
    return house


def ended(house: House) -> list[str]:
    return [entry.transaction.fingerprint for entry in house.journal.entries if entry.result]


def test_a_version_is_fetched_within_lxds_blind_hour(house: House) -> None:
    polling(house)
    house.run()
    second = house.lxd.publish(SERVER, "web", serial(2))
    # LXD itself is blind.
    assert house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="web")) != second
    assert [one.act for one in house.run(refresh=True).outcomes] == [Act.COMMITTED]
    assert house.image("web") == second
    origin = house.lxd.user.images.get(second).update_source
    assert origin is not None
    assert origin.server == f"{SERVER}{AGAIN_PATH}{serial(2)}-{second[:12]}"
    assert not house.run(refresh=True).outcomes
    # Another process, that has asked nobody, sees the same.
    house.polled = None
    assert [one.choice for one in house.rounds().plan()] == [Choice.CURRENT]


def test_without_polling_nobody_is_asked(house: House) -> None:
    documents = polling(house, default=Poll.LXD)
    house.lxd.publish(SERVER, "web", serial(2))
    assert not house.run(refresh=True).outcomes
    assert documents.asked == []
    box = house.lxd.user.instances.get("web")
    house.lxd.user.instances.patch("web", config={POLL_KEY: "remote"}, etag=box.etag)
    assert [one.act for one in house.run(refresh=True).outcomes] == [Act.COMMITTED]


def test_the_service_moves_within_its_own_interval(house: House) -> None:
    polling(house)
    clock, seen = house.lxd.clock, []

    def publish() -> None:
        published = clock.monotonic()
        house.lxd.publish(SERVER, "web", serial(2))
        house.lxd.log.before = lambda call: (
            seen.append(clock.monotonic() - published) if call.name == "instances.create" else None
        )

    rounds, told = watching(house, 250, iter([(100.0, publish)]))
    assert house.ends == ["committed"]
    assert seen[0] <= 70
    assert (rounds <= 8, told) == (True, [])


def test_lxds_own_update_to_an_older_version_turns_nothing_back(house: House) -> None:
    """LXD's copy of the index may be newer than its image, and older than what was polled."""
    polling(house)
    house.lxd.clock.advance(3601)
    second = house.lxd.publish(SERVER, "web", serial(2))
    house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="web"))
    house.lxd.user.images.delete(second)
    third = house.lxd.publish(SERVER, "web", serial(3))
    house.run(refresh=True)
    assert house.image("web") == third
    house.lxd.auto_update()
    assert second in {image.fingerprint for image in house.lxd.user.images.list()}
    house.polled = None
    assert not house.run().outcomes
    assert house.image("web") == third


def test_superseded_images_go_and_those_of_users_stay(house: House) -> None:
    polling(house)
    fetched = []
    for number in range(2, 7):
        fetched.append(house.lxd.publish(SERVER, "web", serial(number)))
        assert [one.act for one in house.run(refresh=True).outcomes] == [Act.COMMITTED]
        if number == 3:
            house.lxd.user.aliases.create("mine", fetched[-1])
    held = {image.fingerprint for image in house.lxd.user.images.list()}
    # The newest, those of the kept copies, one of which is the user's, and LXD's own.
    assert held & set(fetched) == set(fetched[1:])
    assert len(held) == 5
    house.lxd.clock.advance(7 * 3600)
    house.lxd.auto_update()
    assert not house.run(refresh=True).outcomes
    # LXD's own update joined them all, and moved the user's alias along.
    assert house.lxd.user.aliases.get("mine").fingerprint == fetched[4]


def test_two_names_of_one_image_are_no_news_again_and_again(house: House) -> None:
    polling(house, default=Poll.LXD)
    first = house.lxd.publish(SERVER, "web/current", serial(1))
    keys = AUTO | {SOURCE_KEY: f"{SERVER}|simplestreams|web/current"}
    house.lxd.launch("twin", first, config=keys)
    house.lxd.clock.advance(3601)
    rounds, told = watching(house, 3000, iter([]))
    assert (rounds <= 12, told) == (True, [])
    assert {one.choice for one in house.rounds().plan()} == {Choice.CURRENT}


def test_a_server_without_other_urls_is_told_of_once_and_lxd_asked_until_its_hour_is_over(
    house: House,
) -> None:
    documents = polling(house)
    documents.again = False
    house.run()
    house.lxd.clock.advance(120)
    second = house.lxd.publish(SERVER, "web", serial(2))
    remarks: list[str] = []
    waited = 0
    while house.image("web") != second:
        house.lxd.clock.advance(300)
        waited += 300
        house.has_news()
        report = house.run()
        remarks += report.remarks
        assert report.problems == ()
    assert waited <= 3900
    assert len(remarks) == 1
    assert "LXD, which reads this server once an hour, sees it by" in remarks[0]


def test_a_server_that_lies_harms_nobody(house: House) -> None:
    """It lists a version that it doesn't have: LXD gets another, or nothing."""
    documents = polling(house)
    house.run(refresh=True)
    wrong = "f" * 64
    first = house.image("web")
    documents.spoilt = lambda content: content.replace(first.encode(), wrong.encode())
    problems: list[str] = []
    for _ in range(24 * 12):
        house.lxd.clock.advance(300)
        house.has_news()
        problems += map(str, house.run().problems)
    assert 1 <= len(problems) <= 40
    assert "the server has moved on, or lies" in problems[0]
    assert (house.ends, house.image("web")) == ([], first)
    documents.spoilt = lambda content: content
    house.lxd.publish(SERVER, "web", serial(2))
    house.lxd.clock.advance(3700)
    house.has_news()
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]


def test_a_bad_version_is_rolled_back_and_not_fetched_or_tried_again(house: House) -> None:
    polling(house)
    first = house.image("web")
    house.lxd.publish(SERVER, "web", serial(2), behaviour=EXITS_AT_ONCE)
    assert [one.act for one in house.run(refresh=True).outcomes] == [Act.ROLLED_BACK]
    for _ in range(5):
        house.lxd.clock.advance(600)
        assert not house.run(refresh=True).outcomes
    assert house.image("web") == first
    house.lxd.publish(SERVER, "web", serial(3))
    assert [one.act for one in house.run(refresh=True).outcomes] == [Act.COMMITTED]


@pytest.mark.parametrize("days", [2, pytest.param(7, marks=pytest.mark.full)])
def test_days_of_polling_a_server_that_flaps(days: int) -> None:
    """No loop, no double update, and nothing grows: calls, journal, images, what is known."""
    house = House(lxd=SimulatedLxd(clock=SimulatedClock(datetime(2026, 10, 22, tzinfo=UTC))))
    lxd = house.lxd
    lxd.publish(SERVER, "web", serial(0))
    first = lxd.user.images.pull(UpdateSource(server=SERVER, alias="web"))
    lxd.launch("web", first, config=AUTO)
    documents = polling(house)
    published, asked, most_images = [first], [0], [0]

    def hourly(hour: int) -> Callable[[], None]:
        def act() -> None:
            (lxd.server_down if hour % 5 < 2 else lxd.server_up)(SERVER)
            documents.spoilt = (lambda _: b"<html>") if hour % 7 == 0 else (lambda content: content)
            if hour % 8 == 2:
                published.append(lxd.publish(SERVER, "web", serial(len(published))))
            if hour % 6 == 1:
                lxd.auto_update()
            if hour % 31 == 0:
                lxd.events.lose()
            if hour % 24 == 0:
                lxd.prune()
            asked[0] += len(documents.asked)
            documents.asked.clear()
            lxd.log.calls.clear()
            most_images[0] = max(most_images[0], len(lxd.user.images.list()))

        return act

    script = ((hour * 3600.0, hourly(hour)) for hour in range(1, days * 24))
    rounds, _ = watching(house, days * 86400, script)
    assert set(house.ends) == {"committed"}
    # Each version at most once, the newest in the end.
    updates = ended(house)
    assert len(updates) == len(set(updates))
    assert len(updates) >= len(published) - 5
    assert house.image("web") == published[-1]
    assert rounds < 360 * days
    assert asked[0] < 4 * days * 24 * 60
    assert most_images[0] <= 6
    assert len(house.journal.entries) < 4 * len(published) + 20
    # It and its three newest copies.
    assert len(lxd.user.instances.list()) <= 4
    polled = house.polled
    assert polled is not None
    assert len(polled.standing()) <= 1
