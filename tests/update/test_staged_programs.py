"""Programs that a new version lacks are found before the outage, and cost none."""

import pytest

from lxdocker_lxd.lxd.records import Config, Devices
from lxdocker_lxd.update.hook import Hook
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.staged_programs import MissingProgramError, StagedPrograms
from lxdocker_lxd.update.transaction import Transaction
from tests.harness.simulated_lxd import Behaviour, Call, SimulatedLxd, Supervised
from tests.update.test_rounds import AUTO, House

KEYS = "user.lxdocker.update."
HOOK = "/etc/lxdocker-lxd/hooks/warm"


def updated(
    keys: Config,
    files: tuple[str, ...] = (),
    *,
    devices: Devices | None = None,
    hooks: dict[str, Hook] | None = None,
    behaviour: Behaviour | None = None,
) -> tuple[str, str, list[str]]:
    """Update an instance; return how that ended, why, and what was done to the running one."""
    house = House()
    house.lxd.add_image("one", alias="app")
    programs = StagedPrograms(house.lxd, hooks or {})
    house.check_stage = programs.check
    config = {**AUTO, "user.lxdocker.image": "local|app", **{KEYS + k: v for k, v in keys.items()}}
    held = house.lxd.user.aliases.get("app").fingerprint
    house.lxd.launch("web", held, config=config, devices=devices or {})
    new = house.lxd.add_image("two", alias="app", behaviour=behaviour or Behaviour())
    more = house.lxd.store.image_files.setdefault(new, {})
    more |= dict.fromkeys(files, b"")
    house.lxd.log.restart_count()
    touched: list[str] = []

    def note(call: Call) -> None:
        if call.name.startswith("power.") and call.writes and call.subject == "web":
            touched.append(call.name)

    house.lxd.log.after = note
    (outcome,) = house.run().outcomes
    return outcome.act, outcome.reason, touched


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({"health": "exec /opt/check --now"}, "/opt/check"),
        ({"health": "exec pg_isready"}, "pg_isready"),
        ({"health": "tcp 80"}, "/busybox-lxd"),
        ({"health": "http 80 /ready"}, "/busybox-lxd"),
        ({"hook.after": "warm"}, HOOK),
    ],
)
def test_a_program_that_isnt_in_the_new_version_costs_no_outage(keys: Config, missing: str) -> None:
    act, reason, touched = updated(keys)
    assert (act, missing in reason, touched) == (Act.GIVEN_UP, True, [])
    assert KEYS + next(iter(keys)) in reason


@pytest.mark.parametrize(
    ("keys", "files"),
    [
        ({"health": "exec /bin/echo"}, ("/bin/echo",)),
        ({"health": "exec echo"}, ("/usr/bin/echo",)),
        ({"health": "tcp 80", "health_from": "outside"}, ()),
        ({"hook.after": "warm"}, (HOOK,)),
        ({"hook.before": "flush"}, ()),
        ({}, ()),
    ],
)
def test_what_is_there_is_no_obstacle(keys: Config, files: tuple[str, ...]) -> None:
    _, reason, touched = updated(keys, files)
    assert "the new version has no" not in reason
    assert touched


def test_a_converted_image_can_be_asked_from_inside() -> None:
    own = Behaviour(supervised=Supervised(), listens=frozenset({80}))
    assert updated({"health": "tcp 80"}, behaviour=own)[0] is Act.COMMITTED


def test_what_can_only_be_seen_at_run_time_is_no_obstacle() -> None:
    disk = {"hooks": {"type": "disk", "source": "/srv/hooks", "path": "/etc/lxdocker-lxd"}}
    assert updated({"hook.after": "warm"}, devices=disk)[2]


def test_a_hosts_hook_needs_nothing_of_the_image() -> None:
    host = Hook(name="warm", where="host", words=("/bin/true",))
    assert updated({"hook.after": "warm"}, hooks={"warm": host})[0] is Act.COMMITTED
    elsewhere = Hook(name="warm", where="host", words=("/bin/true",), projects=frozenset({"x"}))
    act, reason, touched = updated({"hook.after": "warm"}, hooks={"warm": elsewhere})
    assert (act, touched) == (Act.GIVEN_UP, [])
    assert "isn't for the project" in reason


def test_from_outside_an_address_of_lxds_is_needed() -> None:
    lan = {"eth0": {"type": "nic", "nictype": "macvlan", "parent": "eno1", "name": "eth0"}}
    keys = {"health": "tcp 80", "health_from": "outside"}
    act, reason, touched = updated(keys, devices=lan)
    assert (act, touched) == (Act.GIVEN_UP, [])
    assert "LXD gives none of its NICs an address" in reason


def test_a_stopped_instance_runs_no_program() -> None:
    lxd = SimulatedLxd()
    image = lxd.add_image("one")
    lxd.launch("web", image, config={KEYS + "health": "exec /opt/check"}, start=False)
    transaction = Transaction(id="00000001", project="default", name="web", fingerprint=image)
    StagedPrograms(lxd, {}).check(transaction)
    lxd.user.power.start("web")
    with pytest.raises(MissingProgramError):
        StagedPrograms(lxd, {}).check(transaction)
