"""The health gate on simulated instances: converted ones, whose guests speak for them, and foreign ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.calls import Command, CommandResult, GuestFile
from lxdocker_lxd.lxd.failures import RefusedError
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.gate import HealthGate, watched_instance
from lxdocker_lxd.update.health_check import Kind
from lxdocker_lxd.update.means import Judgement, Verdict
from lxdocker_lxd.update.procedure import Act
from tests.guest.guest_shell import GuestShell, joined
from tests.harness.simulated.supervised import STATE_PATH
from tests.harness.simulated_lxd import (
    EXITS_AT_ONCE,
    GOOD,
    Behaviour,
    Call,
    SimulatedLxd,
    Supervised,
    crashes_after,
)
from tests.update.simulated_scene import Scene

HEALTHY, FAILED = Judgement.HEALTHY, Judgement.FAILED
STOPPED, UNDECIDED = Judgement.STOPPED, Judgement.UNDECIDED
KEYS = "user.lxdocker.update."
CHECK = {"Test": ["CMD", "check"]}


def judged(
    behaviour: Behaviour,
    config: Config | None = None,
    meanwhile: Callable[[SimulatedLxd, float], None] = lambda _lxd, _seconds: None,
    *,
    files_refused_seconds: float = 0,
) -> tuple[Verdict, float]:
    """Start an instance and watch it; return the verdict and how long that took.

    LXD refuses to look at its files for so many seconds.
    """
    lxd = SimulatedLxd()
    image = lxd.add_image("one", behaviour=behaviour)
    nic = {"type": "nic", "network": "br0", "name": "eth0"}
    lxd.launch("web", image, config=config or {}, devices={"eth0": nic}, start=False)
    began = lxd.clock.monotonic()

    def pause(seconds: float) -> None:
        lxd.sleep(seconds)
        meanwhile(lxd, lxd.clock.monotonic() - began)

    def refuse(call: Call) -> None:
        early = lxd.clock.monotonic() - began < files_refused_seconds
        if early and call.name in {"guests.file_kind", "guests.read_file"}:
            raise RefusedError(f"could not {call}: status 500, no reason given")

    lxd.user.power.start("web")
    lxd.log.before = refuse
    gate = HealthGate(lxd, clock=lxd.clock.monotonic, pause=pause)
    return gate.judge("web", project="default"), lxd.clock.monotonic() - began


def converted(**command: object) -> Behaviour:
    return Behaviour(supervised=Supervised(**command))  # type: ignore[arg-type] # its fields


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("dhcp", [0, 1.2, 12])
def test_a_slow_starter_behind_a_slow_network_is_waited_for(dhcp: float, older: bool) -> None:
    """Fifteen seconds after its command was started it is healthy, and never fails again."""
    slow = converted(
        starts_after_seconds=dhcp,
        healthcheck=CHECK,
        healthy=((0, 1), (dhcp + 15, 0)),
        older=older,
    )
    verdict, seconds = judged(slow)
    assert (verdict.judgement, verdict.check) == (HEALTHY, "the image's health check")
    assert seconds >= dhcp + 15 + 10


@pytest.mark.parametrize("older", [False, True])
def test_a_version_that_never_gets_healthy_isnt_excused_by_its_network(older: bool) -> None:
    ill = converted(starts_after_seconds=12, healthcheck=CHECK, healthy=((0, 1),), older=older)
    verdict, _ = judged(ill)
    assert (verdict.judgement, verdict.reason) == (FAILED, "its check fails")


@pytest.mark.parametrize("older", [False, True])
def test_a_crash_loop_below_the_supervisor_isnt_running(older: bool) -> None:
    loop = converted(restarts_at=(0, 1, 3, 7, 15, 31, 63), restart_seconds=60, older=older)
    verdict, _ = judged(loop)
    assert (verdict.judgement, verdict.check) == (FAILED, "running 10 s")
    assert "code 1" in verdict.reason


def test_no_check_is_that_the_command_keeps_running() -> None:
    for older in (False, True):
        verdict, seconds = judged(converted(starts_after_seconds=8, older=older))
        assert (verdict.judgement, verdict.check) == (HEALTHY, "running 10 s")
        assert seconds >= 18


def test_the_image_tells_its_times_and_keys_come_first() -> None:
    times = {"StartPeriod": 300 * 10**9, "Interval": 5 * 10**9, "Retries": 4}
    slow = converted(healthcheck=CHECK | times, healthy=((0, 1), (120, 0)))
    assert judged(slow)[0].judgement is HEALTHY
    assert judged(slow, {KEYS + "start_period": "60"})[0].judgement is FAILED
    lxd = SimulatedLxd()
    image = lxd.add_image("one", behaviour=slow)
    lxd.launch("web", image, config={KEYS + "retries": "2", KEYS + "interval": "1.5"})
    watched = watched_instance(lxd, lxd.user.instances.get("web"))
    check = watched.check
    assert watched.converted
    assert (check.kind, check.start_period_seconds) == (Kind.IMAGE, 300)
    assert (check.interval_seconds, check.retries) == (1.5, 2)


def test_damaged_facts_leave_it_to_the_guest() -> None:
    lxd = SimulatedLxd()
    lxd.launch("web", lxd.add_image("one", behaviour=converted()))
    for content in (b"", b"[" * 100_000, b'{"healthcheck": 1, "volumes": 1}'):
        lxd.box("web").guest.files["/lxd-image.json"] = GuestFile(content=content)
        watched = watched_instance(lxd, lxd.user.instances.get("web"))
        assert (watched.check.kind, watched.converted) == (Kind.IMAGE, True)


# ---- what happens to it meanwhile


def freezing(since: float, until: float) -> Callable[[SimulatedLxd, float], None]:
    """A snapshot by schedule, which freezes the instance for a while."""

    def act(lxd: SimulatedLxd, second: float) -> None:
        status = lxd.box("web").status
        if since <= second < until and status == "Running":
            lxd.user.power.freeze("web")
        elif second >= until and status == "Frozen":
            lxd.user.power.unfreeze("web")

    return act


@pytest.mark.parametrize("behaviour", [GOOD, converted(healthcheck=CHECK)])
def test_a_snapshot_that_freezes_it_is_waited_for(behaviour: Behaviour) -> None:
    verdict, seconds = judged(behaviour, meanwhile=freezing(4, 100))
    assert verdict.judgement is HEALTHY
    assert seconds >= 100


def test_lxd_that_is_away_is_waited_for() -> None:
    def restart(lxd: SimulatedLxd, second: float) -> None:
        if 3 <= second < 40:
            lxd.go_down()
        elif lxd.store.down:
            lxd.come_up()

    verdict, seconds = judged(GOOD, meanwhile=restart)
    assert verdict.judgement is HEALTHY
    assert seconds >= 40


@pytest.mark.parametrize("behaviour", [GOOD, converted(), converted(healthcheck=CHECK)])
def test_files_that_lxd_cannot_look_at_for_a_moment_are_looked_at_again(
    behaviour: Behaviour,
) -> None:
    plain, _ = judged(behaviour)
    assert judged(behaviour, files_refused_seconds=5)[0] == plain
    assert plain.judgement is HEALTHY


@pytest.mark.parametrize("behaviour", [GOOD, converted()])
def test_files_that_lxd_never_lets_anybody_look_at_give_no_verdict(behaviour: Behaviour) -> None:
    verdict, seconds = judged(behaviour, files_refused_seconds=1e9)
    assert verdict.judgement is UNDECIDED
    assert 60 <= seconds < 200
    # What ended is known without its files: nobody asked for it.
    ended, _ = judged(EXITS_AT_ONCE, files_refused_seconds=1e9)
    assert ended.judgement is FAILED


@pytest.mark.parametrize("behaviour", [GOOD, converted(), converted(older=True)])
def test_a_users_stop_says_nothing_of_the_version(behaviour: Behaviour) -> None:
    def stop(lxd: SimulatedLxd, second: float) -> None:
        if second >= 4 and lxd.box("web").runs:
            lxd.user.power.stop("web")

    assert judged(behaviour, meanwhile=stop)[0].judgement is STOPPED


def test_a_shutdown_of_the_host_blames_nobody() -> None:
    """LXD asks the guest to stop, and no user does."""

    def shut_down(lxd: SimulatedLxd, second: float) -> None:
        box = lxd.box("web")
        if second >= 4 and box.runs:
            lxd.store.stopped(box, "instance-shutdown", by="")
            if box.guest.behaviour.supervised is not None:
                box.guest.behaviour.supervised.write_end(box.guest.files, asked=True)
            lxd.events.streams[0].lost = "LXD closed the connection"

    verdict, _ = judged(converted(), meanwhile=shut_down)
    assert verdict.judgement is UNDECIDED
    assert "asked to stop" in verdict.reason
    # Of a foreign image nobody knows, once the events were missed.
    assert judged(GOOD, meanwhile=shut_down)[0].judgement is UNDECIDED


def test_an_end_by_itself_is_the_versions_fault_and_its_code_is_told() -> None:
    for behaviour in (EXITS_AT_ONCE, crashes_after(5)):
        verdict, _ = judged(behaviour)
        assert (verdict.judgement, verdict.reason) == (FAILED, "it ended by itself")
    own = Behaviour(ends_after_seconds=5, supervised=Supervised(exit_code=3, log=b"no port\n"))
    verdict, _ = judged(own)
    assert (verdict.judgement, verdict.reason) == (FAILED, "it ended by itself with code 3")
    assert verdict.evidence == ("no port",)


def test_the_command_that_was_started_is_known_from_the_first_moment_on() -> None:
    """A state that an earlier run left isn't this one's; an older guest's may be."""
    lxd = SimulatedLxd()
    image = lxd.add_image("one", behaviour=converted(starts_after_seconds=30))
    lxd.launch("web", image)
    assert b"starting" in lxd.user.guests.read_file("web", STATE_PATH).content


# ---- what it leaves


def test_the_last_lines_of_a_failed_version_are_kept_without_secrets() -> None:
    ill = converted(
        healthcheck=CHECK, healthy=((0, 1),), log=b"starting\npassword is hunter22\nno database\n"
    )
    scene = Scene(ill)
    box = scene.lxd.user.instances.get("web")
    secret = {"environment.DB_PASSWORD": "hunter22"}
    scene.lxd.user.instances.patch("web", config=secret, etag=box.etag)
    outcome = scene.updater().update("web", scene.new, project="default")
    assert (outcome.act, outcome.blame, outcome.reason) == (
        Act.ROLLED_BACK,
        True,
        "its check fails",
    )
    assert outcome.evidence[0] == "starting"
    assert outcome.evidence[-2:] == ("no database", "the check says no")
    assert not [line for line in outcome.evidence if "hunter22" in line]
    assert scene.journal.entries[-1].evidence == outcome.evidence


def test_a_foreign_version_leaves_its_console() -> None:
    outcome = Scene(Behaviour(ends_after_seconds=1, console=b"panic: no init\r\n")).update()
    assert (outcome.act, outcome.evidence) == (Act.ROLLED_BACK, ("panic: no init",))


@pytest.mark.parametrize(
    ("behaviour", "act", "blame"),
    [
        (converted(starts_after_seconds=3, healthcheck=CHECK), Act.COMMITTED, False),
        (converted(starts_after_seconds=1e6), Act.ROLLED_BACK, False),
        (converted(restarts_at=(0, 1, 3, 7), restart_seconds=60), Act.ROLLED_BACK, True),
    ],
)
def test_updates_end_by_the_verdict(behaviour: Behaviour, act: Act, blame: bool) -> None:
    outcome = Scene(behaviour).update()
    assert (outcome.act, outcome.blame) == (act, blame)


def test_a_snapshot_during_the_gate_costs_a_good_version_nothing() -> None:
    scene = Scene(converted(healthcheck=CHECK))
    frozen: list[float] = []

    def snapshot(call: Call) -> None:
        now = scene.lxd.clock.monotonic()
        if call.name == "guests.execute" and not frozen:
            scene.lxd.user.power.freeze("web")
            frozen.append(now)
        elif call.name == "power.state" and frozen and frozen[0] + 20 < now < frozen[0] + 23:
            scene.lxd.user.power.unfreeze("web")

    scene.lxd.log.after = snapshot
    assert scene.update().act is Act.COMMITTED


# ---- with the guest's real scripts


@pytest.mark.parametrize("ready", [15.0, 1e6])
def test_the_real_scripts_of_the_guest_answer_the_gate(tmp_path: Path, ready: float) -> None:
    """Addresses take 12 s, then the command takes its time, or never gets healthy."""
    shell, network = GuestShell(tmp_path), 12.0
    check = "test -e ready || { echo not yet ready; exit 3; }"
    (shell.live / "health").write_bytes(joined([b"/bin/sh", b"-c", check.encode()]))
    (shell.live / "env").write_bytes(b"PATH=/bin\0")
    (shell.live / "ready").unlink(missing_ok=True)
    launch = joined([b"0", b"0", b"none", bytes(tmp_path), b"30"])

    def moved_on(second: float) -> None:
        if second < network:
            shell.write_state("starting")
            return
        (shell.live / "launch").write_bytes(launch)
        shell.write_state("running", mode="supervise")
        if second >= network + ready:
            (tmp_path / "ready").touch()

    def answer(command: Command, second: float) -> CommandResult | None:
        moved_on(second)
        if command.words[0] != "/.lxdocker/run":
            return None
        ran = shell.run(
            f'exec /bin/busybox sh {tmp_path}/run "$@"', *map(str.encode, command.words[1:])
        )
        return CommandResult(exit_code=ran.returncode, stdout=ran.stdout, stderr=ran.stderr)

    class Real(Supervised):
        __slots__ = ()

        def write(self, files: dict[str, GuestFile], seconds: float) -> None:
            moved_on(seconds)
            files[STATE_PATH] = GuestFile(content=(tmp_path / "state").read_bytes())

    behaviour = Behaviour(answer=answer, supervised=Real(healthcheck=CHECK))
    verdict, seconds = judged(behaviour)
    if ready < 60:
        assert verdict.judgement is HEALTHY
        assert seconds >= network + ready + 10
    else:
        assert (verdict.judgement, verdict.evidence) == (FAILED, ("not yet ready",))
