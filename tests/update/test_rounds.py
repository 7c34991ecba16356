"""Rounds and the service on the simulated LXD: sources, images, dependants, waves, and a week."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import NoSpaceError
from lxdocker_lxd.lxd.records import Config, Instance, UpdateSource
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.hook import HookDeferredError
from lxdocker_lxd.update.journal_record import Event
from lxdocker_lxd.update.liveness_monitor import LivenessMonitor
from lxdocker_lxd.update.liveness_probe import InstanceLiveness
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.plan import Choice, Key
from lxdocker_lxd.update.polled_images import PolledImages
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy
from lxdocker_lxd.update.rounds import Report, Rounds
from lxdocker_lxd.update.source import CERTIFICATE_KEY, SOURCE_KEY
from lxdocker_lxd.update.transaction import REJECTED_KEY, Transaction
from lxdocker_lxd.update.updater import Updater
from lxdocker_lxd.update.watch import Rhythm, Watch
from tests.harness.simulated_lxd import EXITS_AT_ONCE, Call, SimulatedClock, SimulatedLxd
from tests.update.memory_journal import MemoryJournal

SERVER = "https://images.example:8443"
QUICK = {"user.lxdocker.update.stable": "1", "user.lxdocker.update.start_period": "2"}
AUTO = QUICK | {"user.lxdocker.update": "auto"}


@dataclass
class House:
    """A simulated LXD with an updater."""

    lxd: SimulatedLxd = field(default_factory=SimulatedLxd)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    drawn: int = 0
    before_stage: Callable[[Transaction], None] = lambda _transaction: None
    check_stage: Callable[[Transaction], bool] = lambda _transaction: False
    before_outage: Callable[[Transaction], None] = lambda _transaction: None
    obstacle: Callable[[Instance, str], str] = lambda _instance, _fingerprint: ""
    polled: PolledImages | None = None
    directory: Path | None = None
    liveness: LivenessMonitor | None = None

    def begin_service(self) -> None:
        """Begin to watch the health of what runs; ``directory`` is where that is kept, if anywhere."""
        self.liveness = LivenessMonitor(
            lambda: self.lxd,
            InstanceLiveness(),
            self.lxd.clock,
            self.directory,
            monotonic=self.lxd.clock.monotonic,
        )

    @property
    def monitor(self) -> LivenessMonitor:
        assert self.liveness is not None
        return self.liveness

    def has_news(self) -> bool:
        return self.polled is not None and self.polled.poll.look()

    def updater(self) -> Updater:
        gate = HealthGate(self.lxd, clock=self.lxd.clock.monotonic, pause=self.lxd.sleep)
        means = Means(
            gate=gate,
            clock=self.lxd.clock,
            pause=self.lxd.sleep,
            draw_id=self._draw,
            before_stage=self.before_stage,
            check_stage=self.check_stage,
            before_outage=self.before_outage,
            obstacle=self.obstacle,
        )
        return Updater(self.lxd, self.journal, means)

    def rounds(self, projects: frozenset[str] = frozenset()) -> Rounds:
        return Rounds(
            self.lxd,
            self.updater(),
            self.journal,
            self.lxd.clock,
            projects=projects,
            polled=self.polled,
            monitor=self.liveness,
        )

    def _draw(self) -> str:
        self.drawn += 1
        return f"{self.drawn:08x}"

    def run(self, *names: str, refresh: bool = False) -> Report:
        return self.rounds().run(frozenset(names), by_hand=bool(names), refresh=refresh)

    def local(self, name: str, config: Config = AUTO, alias: str = "app") -> None:
        """An instance of the local alias ``app``."""
        held = self.lxd.user.aliases.get(alias).fingerprint
        keys = {SOURCE_KEY: f"local|{alias}", HOLDER_KEY: f"default/{name}"}
        self.lxd.launch(name, held, config={**config, **keys})

    def image(self, name: str) -> str:
        return self.lxd.user.instances.get(name).base_image

    @property
    def ends(self) -> list[str]:
        return [entry.result for entry in self.journal.entries if entry.event is Event.ENDED]


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    return house


def test_an_enrolled_instance_follows_its_alias_and_others_dont(house: House) -> None:
    house.local("web")
    house.local("quiet", QUICK)
    house.local("told", AUTO | {"user.lxdocker.update": "notify"})
    assert not house.run().outcomes
    old = house.image("web")
    new = house.lxd.add_image("two", alias="app")
    report = house.run()
    assert [one.act for one in report.outcomes] == [Act.COMMITTED]
    assert (house.image("web"), house.image("quiet"), house.image("told")) == (new, old, old)
    assert not house.run().outcomes


def image_keys(house: House, name: str) -> dict[str, str]:
    config = house.lxd.user.instances.get(name).config
    return {key: value for key, value in config.items() if key.startswith("image.")}


def test_what_lxd_says_of_the_image_is_that_of_the_new_version(house: House) -> None:
    house.lxd.add_image("one", alias="app", properties={"os": "Alpine", "dropped": "1"})
    house.local("web")
    new = house.lxd.add_image("two", alias="app", properties={"os": "Debian", "added": "1"})
    house.run()
    assert house.image("web") == new
    house.lxd.launch("fresh", new)
    assert image_keys(house, "web") == image_keys(house, "fresh") != {}
    assert image_keys(house, "web")["image.os"] == "Debian"
    # And when it goes back, that of the old one.
    house.lxd.add_image("three", alias="app", properties={"os": "Void"}, behaviour=EXITS_AT_ONCE)
    house.run()
    assert image_keys(house, "web") == image_keys(house, "fresh")


def test_a_source_is_learned_while_lxd_knows_it(house: House) -> None:
    house.lxd.publish(SERVER, "web", "1")
    source = UpdateSource(server=SERVER, alias="web")
    first = house.lxd.user.images.pull(source)
    house.lxd.launch("web", first, config=AUTO)
    house.run()
    config = house.lxd.user.instances.get("web").config
    assert config[SOURCE_KEY] == f"{SERVER}|simplestreams|web"
    # LXD's own background update sends no event of its own and forgets the old image.
    second = house.lxd.publish(SERVER, "web", "2")
    house.lxd.clock.advance(7 * 3600)
    house.lxd.auto_update()
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert house.image("web") == second


def cached_web(house: House) -> str:
    """An image that LXD fetched for an instance, from a server with a certificate of its own."""
    first = house.lxd.publish(SERVER, "web", "1")
    house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="web", certificate="PEM"))
    held = house.lxd.store.images["default", first]
    house.lxd.store.images["default", first] = replace(held, cached=True)
    house.lxd.launch("web", first, config=AUTO)
    return first


def test_an_image_that_has_expired_is_fetched_again_and_held(house: House) -> None:
    first = cached_web(house)
    house.run()
    assert house.lxd.user.instances.get("web").config[CERTIFICATE_KEY] == "PEM"
    house.lxd.clock.advance(11 * 86400)
    house.lxd.prune()
    assert first not in {image.fingerprint for image in house.lxd.user.images.list()}
    assert house.run().problems == ()
    for _ in range(3):
        house.lxd.clock.advance(30 * 86400)
        house.lxd.prune()
        image = house.lxd.user.images.get(first)
        assert image.update_source is not None
        # The certificate is forgotten with the image; the instance remembers it.
        assert (image.cached, image.update_source.certificate) == (False, "PEM")


def test_a_cached_image_is_no_news_again_and_again(house: House) -> None:
    """To have LXD fetch what it has is an event; a round after each would never end."""
    cached_web(house)
    rounds, told = watching(house, 3000, iter([]))
    assert (rounds, told) == (10, [])


def test_a_machine_gets_the_image_for_machines_and_a_container_its_own(house: House) -> None:
    """One alias has both; whichever of them LXD forgot is fetched with its own type."""
    keys = AUTO | {SOURCE_KEY: f"{SERVER}|simplestreams|debian"}
    kinds = ("container", "virtual-machine")
    first = {kind: house.lxd.publish(SERVER, "debian", f"{kind} 1", kind=kind) for kind in kinds}
    for kind in kinds:
        source = UpdateSource(server=SERVER, alias="debian", image_type=kind)
        house.lxd.user.images.pull(source, auto_update=False)
        house.lxd.launch(kind[:7], first[kind], config=keys, kind=kind)
        house.lxd.user.images.delete(first[kind])
    second = {kind: house.lxd.publish(SERVER, "debian", f"{kind} 2", kind=kind) for kind in kinds}
    house.lxd.clock.advance(2 * 3600)
    report = house.run()
    assert report.problems == ()
    assert {one.choice for one in report.decisions} == {Choice.UPDATE}, report.decisions
    assert {kind: house.image(kind[:7]) for kind in kinds} == second


def test_an_unreachable_server_is_told_and_harms_nobody(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    keys = AUTO | {SOURCE_KEY: f"{SERVER}|simplestreams|gone"}
    house.lxd.launch("other", house.image("web"), config=keys)
    report = house.run(refresh=True)
    assert len(report.problems) == 1
    assert [one.act for one in report.outcomes] == [Act.COMMITTED]


def test_dependants_restart_and_a_bad_version_ends_the_wave(house: House) -> None:
    house.lxd.add_image("base", alias="base")
    house.local("db", alias="base")
    house.local("web", AUTO | {"user.lxdocker.depends": "db"})
    house.lxd.add_image("base2", alias="base")
    report = house.run()
    assert (report.restarted, [one.act for one in report.outcomes]) == (("web",), [Act.COMMITTED])
    house.lxd.add_image("base3", alias="base", behaviour=EXITS_AT_ONCE)
    house.lxd.add_image("two", alias="app")
    before = house.image("web")
    report = house.run()
    assert [one.act for one in report.outcomes] == [Act.ROLLED_BACK]
    assert report.bad
    assert house.image("web") == before
    # The next round leaves the bad one alone and goes on with the others.
    assert [one.transaction.name for one in house.run().outcomes] == ["web"]


def test_three_bad_versions_in_a_row_open_the_breaker(house: House) -> None:
    house.local("web")
    for version in ("b1", "b2", "b3", "b4"):
        house.lxd.add_image(version, alias="app", behaviour=EXITS_AT_ONCE)
        house.run()
    assert house.ends == ["rolled back"] * 3
    (decision,) = house.rounds().plan()
    assert (decision.choice, "3 versions in a row" in decision.reason) == (Choice.REFUSE, True)
    box = house.lxd.user.instances.get("web")
    house.lxd.user.instances.patch("web", config={REJECTED_KEY: ""}, etag=box.etag)
    house.lxd.add_image("good", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]


def test_too_little_room_or_a_full_project_costs_no_outage(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    house.lxd.store.pool_bytes["default"] = 1 << 20
    report = house.run()
    assert report.outcomes == ()
    assert "the pool default has" in report.problems[0].text


def test_only_allowed_projects_are_followed(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    assert house.rounds(frozenset({"other"})).run().outcomes == ()
    assert house.rounds(frozenset({"default"})).run().outcomes != ()


# ---- the service


class Stop(Exception):  # noqa: N818 - it ends a test that would go on for ever
    """The time of the test is over."""


def watching(
    house: House, seconds: float, script: Iterator[tuple[float, Callable[[], object]]]
) -> tuple[int, list[LxdockerError]]:
    """Run the service for so long, with things happening at their seconds; count rounds."""
    clock, rounds = house.lxd.clock, 0
    began = clock.monotonic()
    told: list[LxdockerError] = []
    coming = list(script)

    def pause(wanted: float) -> bool:
        clock.advance(wanted)
        while coming and coming[0][0] <= clock.monotonic() - began:
            coming.pop(0)[1]()
        return clock.monotonic() - began >= seconds

    def work() -> frozenset[Key]:
        nonlocal rounds
        rounds += 1
        return house.run().passing

    Watch(
        house.lxd.events.subscribe,
        work,
        clock=clock.monotonic,
        pause=pause,
        tell=told.append,
        rhythm=Rhythm(interval_seconds=300),
        has_news=house.has_news,
    ).run()
    return rounds, told


def test_the_service_sees_a_moved_alias_within_a_second(house: House) -> None:
    house.local("web")
    clock = house.lxd.clock
    seen: list[float] = []

    def move() -> None:
        moved = clock.monotonic()
        new = house.lxd.add_image("two")
        alias = house.lxd.user.aliases.get("app")
        house.lxd.user.aliases.move(alias, new)
        house.lxd.log.before = lambda call: (
            seen.append(clock.monotonic() - moved) if call.name == "instances.create" else None
        )

    rounds, told = watching(house, 200, iter([(20.0, move)]))
    assert house.ends == ["committed"]
    assert seen[0] <= 1.5
    assert rounds <= 4
    assert told == []


def test_lost_connections_and_a_restarted_lxd_are_survived(house: House) -> None:
    house.local("web")
    lxd = house.lxd

    def changed_unseen() -> None:
        lxd.add_image("two", alias="app")
        lxd.events.lose()

    def down() -> None:
        lxd.go_down()

    script = [(20.0, changed_unseen), (500.0, down), (600.0, lxd.come_up), (700.0, lxd.restart)]
    _, told = watching(house, 2000, iter(script))
    assert house.ends == ["committed"]
    assert 2 <= len(told) < 20


def test_a_week_with_a_flapping_server_and_daylight_saving() -> None:
    house = House(lxd=SimulatedLxd(clock=SimulatedClock(datetime(2026, 10, 22, tzinfo=UTC))))
    lxd = house.lxd
    lxd.publish(SERVER, "web", "0")
    first = lxd.user.images.pull(UpdateSource(server=SERVER, alias="web"))
    window = {"user.lxdocker.update.window": "02:00-03:00 Europe/Berlin"}
    lxd.launch("web", first, config=AUTO | window)
    published = [0]

    def hourly(hour: int) -> Callable[[], None]:
        def act() -> None:
            (lxd.server_down if hour % 5 == 0 else lxd.server_up)(SERVER)
            if hour % 24 == 12:
                published[0] += 1
                lxd.publish(SERVER, "web", str(published[0]))
            if hour % 6 == 1:
                lxd.auto_update()
            if hour % 31 == 0:
                lxd.events.lose()
            lxd.log.calls.clear()

        return act

    script = ((hour * 3600.0, hourly(hour)) for hour in range(1, 7 * 24))
    rounds, _ = watching(house, 7 * 86400, script)
    # One update a day, each in its window, none twice; and no round beyond the timer's and hints.
    assert set(house.ends) == {"committed"}
    assert 5 <= len(house.ends) <= 7
    hours = {
        (entry.at + timedelta(hours=2)).hour
        for entry in house.journal.entries
        if entry.event is Event.BEGUN and entry.at < datetime(2026, 10, 25, tzinfo=UTC)
    }
    assert hours == {2}
    assert rounds < 2300
    assert len(house.journal.entries) < 60
    # It and its three newest copies.
    assert len(lxd.user.instances.list()) <= 4


def test_what_was_given_up_is_tried_again_ever_more_rarely(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    began = house.lxd.clock.monotonic()

    def refuse(call: Call) -> None:
        if call.name == "instances.create":
            raise NoSpaceError("the pool is full")

    house.lxd.log.before = refuse
    while house.lxd.clock.monotonic() - began < 86400:
        house.run()
        house.lxd.clock.advance(300)
    assert 5 <= len(house.ends) <= 10
    assert house.lxd.user.instances.get("web").status == "Running"
    # A hand doesn't wait.
    house.lxd.log.before = lambda _call: None
    assert [one.act for one in house.run("web").outcomes] == [Act.COMMITTED]


def test_a_version_somebody_went_back_from_isnt_installed_again(house: House) -> None:
    house.local("web")
    old = house.image("web")
    house.lxd.add_image("two", alias="app")
    house.run()
    transaction = parked_copy(house.lxd.user.instances.list(), "web", "default")
    assert transaction is not None
    gate = HealthGate(house.lxd, clock=house.lxd.clock.monotonic, pause=house.lxd.sleep)
    means = Means(
        gate=gate, clock=house.lxd.clock, pause=house.lxd.sleep, draw_id=lambda: "00000009"
    )
    Updater(house.lxd, house.journal, means).turn_back(transaction)
    house.lxd.clock.advance(7 * 3600)
    assert house.run().outcomes == ()
    assert house.image("web") == old
    # Its copy is kept for a while, and a newer version is installed.
    assert len(house.lxd.user.instances.list()) == 2
    house.lxd.add_image("three", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]


def test_a_hook_puts_an_update_off_and_is_asked_again(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    old, asked = house.image("web"), []

    def refuse(transaction: Transaction) -> None:
        asked.append(transaction.name)
        if len(asked) == 1:
            raise HookDeferredError("the hook backup puts it off")

    house.before_outage = refuse
    report = house.run()
    assert [(one.act, one.reason) for one in report.outcomes] == [
        (Act.GIVEN_UP, "the hook backup puts it off")
    ]
    assert house.image("web") == old
    assert [one.name for one in house.lxd.user.instances.list()] == ["web"]
    assert [one.act for one in house.run("web").outcomes] == [Act.COMMITTED]


def test_a_version_that_was_put_off_is_unpacked_once_for_all_the_times_it_is(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    asked: list[str] = []

    def put_off(when: str) -> Callable[[Transaction], None]:
        def ask(_transaction: Transaction) -> None:
            asked.append(when)
            if len(asked) < 6:
                raise HookDeferredError("the hook backup puts it off")

        return ask

    house.before_stage, house.before_outage = put_off("early"), put_off("late")
    house.lxd.log.restart_count()
    while house.image("web") != house.lxd.user.aliases.get("app").fingerprint:
        house.run()
        house.lxd.clock.advance(600)
    assert asked == ["late", *["early"] * 5, "late"]
    created = [call for call in house.lxd.log.calls if call.name == "instances.create"]
    assert len(created) == 2
