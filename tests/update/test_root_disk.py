"""Data that an update would leave behind on the old root disk: looked for before anything is stopped."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.records import Config, Devices
from lxdocker_lxd.lxd.resources import Volume
from lxdocker_lxd.update.declared_volumes import DeclaredVolumes, RootDiskError
from lxdocker_lxd.update.enrolling import enrolling_mode
from lxdocker_lxd.update.enrolment import Mode
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rehearsal import Rehearsal
from lxdocker_lxd.update.root_disk import (
    ROOT_DISK_KEY,
    Exposure,
    exposed_paths,
    is_covered,
    loss,
)
from lxdocker_lxd.update.rounds import Report
from tests.harness.simulated_lxd import Behaviour, SimulatedLxd
from tests.update.test_rounds import AUTO, House

PGDATA = "/var/lib/postgresql/data"
ROWS = f"{PGDATA}/rows"


def disk(path: str, source: str = "data") -> dict[str, str]:
    return {"type": "disk", "pool": "default", "source": source, "path": path}


@dataclass
class Shop(House):
    """A house whose updater compares what images declare."""

    declared: DeclaredVolumes = field(init=False)

    def __post_init__(self) -> None:
        self.declared = DeclaredVolumes(self.lxd)
        self.check_stage, self.obstacle = self.declared.check_stage, self.declared.problem
        self.lxd.user.volumes.create(Volume(pool="default", name="data", project="default"))

    def version(
        self, version: str, volumes: Sequence[str] | None, *, behaviour: Behaviour | None = None
    ) -> str:
        """An image that declares volumes; None is one that isn't ours."""
        fingerprint = self.lxd.add_image(version, alias="app", behaviour=behaviour or Behaviour())
        if volumes is not None:
            content = json.dumps({"volumes": list(volumes)}).encode()
            self.lxd.store.image_files[fingerprint] = {"/lxd-image.json": content}
        return fingerprint

    def database(self, devices: Devices | None = None, config: Config | None = None) -> None:
        fingerprint = self.lxd.user.aliases.get("app").fingerprint
        keys = {**AUTO, "user.lxdocker.image": "local|app", **(config or {})}
        self.lxd.launch("db", fingerprint, config=keys, devices=devices)

    def acts(self) -> list[Act]:
        return [one.act for one in self.run().outcomes]


@pytest.fixture
def shop() -> Shop:
    return Shop()


def stages(lxd: SimulatedLxd) -> int:
    return sum(call.name == "instances.create" for call in lxd.log.calls)


def test_a_declared_volume_on_the_root_disk_is_not_left_behind(shop: Shop) -> None:
    shop.version("one", [PGDATA], behaviour=Behaviour(writes={ROWS: b"rows"}))
    shop.database()
    old = shop.image("db")
    for version in ("two", "three"):
        shop.version(version, [PGDATA])
        report = shop.run()
        assert (report.outcomes, shop.image("db")) == ((), old)
        assert PGDATA in report.problems[0].text
    assert stages(shop.lxd) == 0
    assert shop.lxd.user.guests.read_file("db", ROWS).content == b"rows"


def test_the_refusal_names_the_commands_that_mend_it(shop: Shop) -> None:
    shop.version("one", [PGDATA])
    shop.database()
    shop.version("two", [PGDATA])
    (problem,) = (one.text for one in shop.run().problems)
    assert (
        "lxc storage volume create default db-var-lib-postgresql-data"
        " && lxc config device add db var-lib-postgresql-data disk pool=default"
        f" source=db-var-lib-postgresql-data path={PGDATA}"
    ) in problem
    assert f"lxc config set db {ROOT_DISK_KEY} disposable" in problem
    # They are what mends it.
    shop.lxd.user.volumes.create(
        Volume(pool="default", name="db-var-lib-postgresql-data", project="default")
    )
    device = disk(PGDATA, "db-var-lib-postgresql-data")
    shop.lxd.user.instances.patch("db", devices={"var-lib-postgresql-data": device})
    assert shop.acts() == [Act.COMMITTED]


def test_a_key_says_that_the_root_disk_may_be_lost(shop: Shop) -> None:
    shop.version("one", [PGDATA])
    shop.database(config={ROOT_DISK_KEY: "disposable"})
    shop.version("two", ["/elsewhere"])
    assert shop.acts() == [Act.COMMITTED]


def test_a_key_that_nobody_understands_is_not_taken_for_consent(shop: Shop) -> None:
    shop.version("one", [PGDATA])
    shop.database(config={ROOT_DISK_KEY: "dispoable"})
    shop.version("two", [PGDATA])
    report = shop.run()
    assert not report.outcomes
    (decision,) = report.decisions
    assert decision.choice is Choice.REFUSE
    assert "'dispoable'" in decision.reason


@pytest.mark.parametrize("privileged", ["false", "true"], ids=["remapped", "never remapped"])
def test_no_outage_waits_for_the_files_that_were_read_in_the_stage(
    shop: Shop, privileged: str
) -> None:
    """After a rename, LXD lets a start wait until its server of the instance's files has ended."""
    shop.version("one", [PGDATA])
    shop.database({"data": disk(PGDATA)}, {"security.privileged": privileged})
    shop.version("two", [PGDATA])
    (outcome,) = shop.run().outcomes
    assert outcome.act is Act.COMMITTED
    assert outcome.outage_seconds is not None
    assert outcome.outage_seconds < 5


def refused(report: Report) -> str:
    (outcome,) = report.outcomes
    assert (outcome.act, outcome.failed) == (Act.GIVEN_UP, True)
    return outcome.reason


def test_a_volume_that_moved_between_the_images_is_not_missed(shop: Shop) -> None:
    """As postgres 18 does: the volume would stay mounted at the old path, the program start empty."""
    shop.version("17", [PGDATA], behaviour=Behaviour(writes={ROWS: b"17"}))
    shop.database({"pg": disk(PGDATA)})
    old = shop.image("db")
    shop.version("18", ["/var/lib/postgresql"])
    said = refused(shop.run())
    assert "/var/lib/postgresql, where no disk is mounted" in said
    assert f"{PGDATA} (device pg)" in said
    assert "lxc config device set db pg path=/var/lib/postgresql" in said
    db = shop.lxd.user.instances.get("db")
    assert (db.base_image, db.running) == (old, True)
    stops = [call for call in shop.lxd.log.calls if call.name == "power.stop"]
    assert not [call for call in stops if call.subject == "db"]
    # What the new image declares is known from now on: no other stage is made to find it out.
    made = stages(shop.lxd)
    shop.lxd.clock.advance(24 * 3600)
    report = shop.run()
    assert not report.outcomes
    assert "/var/lib/postgresql, where no disk is mounted" in report.problems[0].text
    assert stages(shop.lxd) == made


def test_a_volume_that_only_the_new_image_declares_needs_a_disk(shop: Shop) -> None:
    shop.version("one", ["/data"])
    shop.database({"data": disk("/data")})
    shop.version("two", ["/data", "/uploads"])
    said = refused(shop.run())
    assert "the new image declares the volume /uploads" in said
    shop.lxd.user.volumes.create(Volume(pool="default", name="more", project="default"))
    shop.lxd.user.instances.patch("db", devices={"more": disk("/uploads", "more")})
    shop.lxd.clock.advance(24 * 3600)
    assert shop.acts() == [Act.COMMITTED]


def test_covered_volumes_need_nothing(shop: Shop) -> None:
    shop.version("one", ["/data/a", "/data/b"])
    shop.database({"all": disk("/data/")})
    shop.version("two", ["/data/a", "/data/c"])
    assert shop.acts() == [Act.COMMITTED]


def test_a_disk_is_where_the_declared_path_leads(shop: Shop) -> None:
    shop.version("one", ["/var/run/state"])
    shop.database({"state": disk("/run/state")})
    link = GuestFile(kind="symlink", content=b"/run")
    shop.lxd.box("db").guest.files["/var/run"] = link
    shop.version("two", ["/var/run/state"])
    # The stage's root is the image's own.
    shop.lxd.log.after = lambda call: (
        shop.lxd.box(call.subject).guest.files.__setitem__("/var/run", link)
        if call.name == "instances.create"
        else None
    )
    assert shop.acts() == [Act.COMMITTED]


def test_an_image_that_says_nothing_any_more_isnt_taken_for_one_without_data(shop: Shop) -> None:
    shop.version("one", ["/data"])
    shop.database({"data": disk("/data")})
    shop.version("two", None)
    assert "doesn't say where it keeps data" in refused(shop.run())


def test_an_image_that_isnt_ours_is_updated_as_it_was_asked(shop: Shop) -> None:
    shop.version("one", None)
    shop.database()
    shop.version("two", None)
    assert shop.acts() == [Act.COMMITTED]


FACTS = (
    *(b"", b"[" * 100_000, b'{"volumes": 3}', b"\xff", b"null"),
    json.dumps({"volumes": ["x" * 1_000_000]}).encode(),
    json.dumps({"volumes": [f"/v{number}" for number in range(5000)]}).encode(),
)


@pytest.mark.parametrize("content", FACTS)
def test_facts_that_cant_be_read_are_no_consent(shop: Shop, content: bytes) -> None:
    fingerprint = shop.version("one", ["/data"])
    shop.lxd.store.image_files[fingerprint] = {"/lxd-image.json": content}
    shop.database()
    shop.version("two", ["/data"])
    report = shop.run()
    assert not report.outcomes
    assert "it can't be told what its image declares as volumes" in report.problems[0].text
    assert len(report.problems[0].text) < 1000


def test_an_instance_that_declares_much_is_told_of_in_few_words_and_requests(shop: Shop) -> None:
    paths = [f"/v{number}" + "/a" * 1000 for number in range(1000)]
    shop.version("one", paths)
    shop.database()
    shop.version("two", [])
    shop.lxd.log.restart_count()
    (problem,) = (one.text for one in shop.run().problems)
    assert "and 997 more such paths" in problem
    assert shop.lxd.log.number < 6000


def test_what_one_instance_says_of_its_image_counts_for_itself_alone(shop: Shop) -> None:
    """Its root can write what it likes into the file."""
    shop.version("one", ["/data"])
    shop.database()
    fingerprint = shop.image("db")
    keys = {**AUTO, "user.lxdocker.image": "local|app"}
    shop.lxd.launch("web", fingerprint, config=keys)
    shop.lxd.box("db").guest.files["/lxd-image.json"] = GuestFile(content=b'{"volumes": []}')
    shop.version("two", [])
    report = shop.run()
    assert [one.transaction.name for one in report.outcomes] == ["db"]
    assert [problem.name for problem in report.problems] == ["web"]


def test_one_image_is_read_once_for_all_its_instances(shop: Shop) -> None:
    shop.version("one", ["/data"])
    fingerprint = shop.lxd.user.aliases.get("app").fingerprint
    keys = {**AUTO, "user.lxdocker.image": "local|app"}
    for number in range(4):
        name = f"d{number}"
        shop.lxd.user.volumes.create(Volume(pool="default", name=name, project="default"))
        shop.lxd.launch(name, fingerprint, config=keys, devices={"d": disk("/data", name)})
    shop.version("two", ["/data"])
    shop.lxd.log.restart_count()
    assert len(shop.acts()) == 4
    reads = [call.subject for call in shop.lxd.log.calls if call.name == "guests.read_file"]
    facts = [name for name in reads if "-new-" in name]
    assert len(facts) == 1


def test_the_plan_tells_of_it_before(shop: Shop) -> None:
    shop.version("one", ["/data"])
    shop.database()
    shop.version("two", ["/data"])
    report = Rehearsal(shop.lxd, (), shop.lxd.clock).round(frozenset())
    assert not report.outcomes
    assert "its image declares the volume /data" in report.problems[0].text


# ---- the comparison alone

PATHS = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(
        lambda parts: "/" + "/".join(parts)
    ),
    max_size=4,
)


@given(old=PATHS, new=PATHS, mounts=PATHS)
def test_every_declared_path_is_covered_or_told(
    old: list[str], new: list[str], mounts: list[str]
) -> None:
    found = exposed_paths(old, new, mounts)
    told = [one.path for one in found]
    assert len(told) == len(set(told))
    assert set(told) == {path for path in (*old, *new) if not is_covered(path, mounts)}
    for one in found:
        assert (one.exposure is Exposure.UNCOVERED) == (one.path in old)
        assert (one.exposure is Exposure.MOVED) == bool(one.before)


def test_a_disk_below_a_declared_path_doesnt_cover_it() -> None:
    (found,) = exposed_paths(["/var/lib/mysql"], ["/var/lib/mysql"], ["/var/lib/mysql/binlog"])
    assert found.exposure is Exposure.UNCOVERED


def test_a_strangers_path_stays_one_word_of_a_command(shop: Shop) -> None:
    shop.version("one", [])
    shop.database()
    instance = shop.lxd.user.instances.get("db")
    path = "/data; rm -rf $(HOME) 'x"
    said = loss(instance, exposed_paths([path], [], []))
    command = said.partition("old root disk: ")[2].partition("; what is there")[0]
    assert shlex.split(command)[-1] == f"path={path}"


# ---- when it is enrolled


def test_an_instance_whose_data_is_on_volumes_is_enrolled_to_be_updated(shop: Shop) -> None:
    shop.version("one", ["/data"])
    shop.database({"data": disk("/data")})
    instance = shop.lxd.user.instances.get("db")
    found = enrolling_mode(shop.declared, instance, None, disposable=False)
    assert (found.mode, found.remark) == (Mode.AUTO, "")


def test_one_with_data_on_its_root_disk_is_refused_with_what_mends_it(shop: Shop) -> None:
    shop.version("one", ["/data"])
    shop.database()
    instance = shop.lxd.user.instances.get("db")
    for wanted in (None, Mode.AUTO):
        with pytest.raises(RootDiskError) as caught:
            enrolling_mode(shop.declared, instance, wanted, disposable=False)
        assert "lxc storage volume create default db-data" in caught.value.message
        assert "--root-disk-is-disposable" in caught.value.hint
    assert enrolling_mode(shop.declared, instance, None, disposable=True).mode is Mode.AUTO
    told = enrolling_mode(shop.declared, instance, Mode.NOTIFY, disposable=False)
    assert (told.mode, "/data" in told.remark) == (Mode.NOTIFY, True)


@pytest.mark.parametrize(
    ("wanted", "disposable", "mode"),
    [
        (None, False, Mode.NOTIFY),
        (Mode.NOTIFY, False, Mode.NOTIFY),
        (Mode.AUTO, False, Mode.AUTO),
        (None, True, Mode.AUTO),
    ],
)
def test_a_plain_system_is_only_told_of_unless_somebody_says_otherwise(
    shop: Shop, wanted: Mode | None, *, disposable: bool, mode: Mode
) -> None:
    """Images of Debian are built every day: what was installed would be gone after each night."""
    shop.version("one", None)
    shop.database()
    instance = shop.lxd.user.instances.get("db")
    found = enrolling_mode(shop.declared, instance, wanted, disposable=disposable)
    assert found.mode is mode
    assert "root disk" in found.remark


def test_an_instance_that_lacks_a_disk_keeps_no_other_from_the_version(shop: Shop) -> None:
    shop.version("one", ["/data"])
    shop.database({"data": disk("/data")})
    fingerprint = shop.image("db")
    keys = {**AUTO, "user.lxdocker.image": "local|app"}
    shop.lxd.user.volumes.create(Volume(pool="default", name="all", project="default"))
    devices = {"all": disk("/data", "all"), "up": disk("/uploads", "all")}
    shop.lxd.launch("web", fingerprint, config=keys, devices=devices)
    shop.version("two", ["/data", "/uploads"])
    outcomes = {one.transaction.name: one.act for one in shop.run().outcomes}
    assert outcomes == {"db": Act.GIVEN_UP, "web": Act.COMMITTED}
