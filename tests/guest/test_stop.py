"""Stopping, signals, exit codes, restarts and the children nobody waits for."""

import itertools
import json
import signal
import time
from pathlib import Path

import pytest

from tests.guest.lxd_guest import PROBE, Guests, image_config, small_tree
from tests.harness.processes import eventually

pytestmark = pytest.mark.lxd


def probe(guests: Guests, **config: str) -> str:
    return guests.image(small_tree({"bin/probe": PROBE}), image_config(cmd=["probe"], **config))


def stop_seconds(guests: Guests, name: str) -> float:
    began = time.monotonic()
    guests.lxd.stop(name)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("stop_signal", "got", "code"),
    [
        ("", "TERM", 7),
        ("SIGQUIT", "QUIT", 8),
        # Children of a shell without job control ignore SIGINT and SIGQUIT for ever.
        ("SIGINT", "INT", 9),
    ],
)
def test_lxc_stop_sends_the_image_s_stop_signal(
    guests: Guests, stop_signal: str, got: str, code: int
) -> None:
    name = guests.launch(probe(guests, stop_signal=stop_signal))
    guests.wait_log(name, "ready")
    assert stop_seconds(guests, name) < 4
    assert guests.log(name).endswith(f"got {got}\n")
    assert guests.lxd.console_log(name).rstrip("\n").endswith(f"got {got}")
    state = guests.state(name)
    assert (state["status"], state["exit_code"], state["restarts"]) == ("exited", code, 0)
    assert state["started_at"] <= state["finished_at"]


def test_real_time_signals_and_programs_without_handlers(guests: Guests) -> None:
    config = image_config(cmd=["sleep", "1000"], stop_signal="SIGRTMIN+3")
    name = guests.run(small_tree(), config)
    guests.process(name, "sleep 1000")
    guests.lxd.stop(name)
    assert guests.state(name)["exit_code"] == 128 + 37


def test_python_like_sigint_ends_a_program_without_handler(guests: Guests) -> None:
    """The default action of SIGINT holds: it isn't ignored as in other shells' background."""
    name = guests.run(small_tree(), image_config(cmd=["sleep", "1000"], stop_signal="SIGINT"))
    process = guests.process(name, "sleep 1000")
    status = guests.lxd.shell(name, f"grep SigIgn /proc/{process}/status")
    assert int(status.split()[1], 16) & 0b110 == 0
    guests.lxd.stop(name)
    assert guests.state(name)["exit_code"] == 130


def test_who_does_not_listen_is_killed_after_the_stop_timeout(guests: Guests) -> None:
    script = b"#!/bin/sh\ntrap '' TERM\n(trap '' TERM; while :; do sleep 1; done) &\nwhile :; do sleep 1; done\n"
    alias = guests.image(small_tree({"bin/deaf": script}), image_config(cmd=["deaf"]))
    name = guests.launch(alias, config={"user.lxdocker.stop_timeout": "2"})
    guests.process(name, "/bin/deaf")
    assert 2 <= stop_seconds(guests, name) < 6
    assert guests.state(name)["exit_code"] == 137
    assert "no end 2 s after the stop signal: killed" in guests.log(name)


def listens(guests: Guests, name: str) -> bool:
    """Whether PID 1 has set its traps; a signal before its first lines is lost in any container."""
    process = guests.lxd.state(name)["pid"]
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGPWR - 1) & 1)


def test_a_stop_at_any_moment_of_the_start_works(guests: Guests) -> None:
    """A flag set between a test and a wait was lost once: the guest slept on, the stop hung."""
    alias = probe(guests)
    name = guests.launch(alias, start=False)
    for pause in (0.0, 0.02, 0.05, 0.08, 0.12, 0.2, 0.3, 0.6):
        guests.lxd.start(name)
        eventually(lambda: listens(guests, name), timeout_seconds=5, what="PID 1 to listen")
        time.sleep(pause)
        guests.lxd.stop(name, timeout_seconds=8)
        assert guests.lxd.status(name) == "Stopped"


def test_a_stop_while_waiting_for_the_network_or_the_next_start(guests: Guests) -> None:
    network = guests.lxd.add_network(dhcp=False)
    nic = {"eth0": {"type": "nic", "network": network, "name": "eth0"}}
    name = guests.launch(probe(guests), devices=nic)
    guests.process(name, "network.sh wait")
    assert stop_seconds(guests, name) < 4
    failing = guests.image(small_tree(), image_config(cmd=["sh", "-c", "exit 3"]), restart="always")
    name = guests.launch(failing)
    guests.wait_log(name, "start 3 in 2 s")
    assert stop_seconds(guests, name) < 2
    assert guests.state(name)["exit_code"] == 3


def test_signals_for_pid_1_reach_the_command(guests: Guests) -> None:
    """As docker kill --signal HUP does."""
    name = guests.launch(probe(guests))
    guests.wait_log(name, "ready")
    guests.lxd.shell(name, "kill -HUP 1")
    guests.wait_log(name, "got HUP")
    guests.lxd.shell(name, "kill -INT 1; kill -QUIT 1")
    time.sleep(0.5)
    assert "got INT" not in guests.log(name)
    guests.lxd.shell(name, "kill -TERM 1", check=False)
    guests.lxd.wait_status(name, "Stopped")
    assert guests.state(name)["exit_code"] == 7


@pytest.mark.parametrize("code", [0, 42])
def test_the_end_of_the_command_stops_the_instance(guests: Guests, code: int) -> None:
    name = guests.run(small_tree(), image_config(cmd=["sh", "-c", f"echo bye; exit {code}"]))
    guests.lxd.wait_status(name, "Stopped")
    assert guests.state(name)["exit_code"] == code
    assert guests.log(name).endswith("bye\n")


def test_restart_on_failure_backs_off_and_gives_up(guests: Guests) -> None:
    script = b'#!/bin/sh\nread up _ </proc/uptime\necho "start at $up"\nexit 4\n'
    tree = small_tree({"bin/app": script})
    name = guests.run(tree, image_config(cmd=["app"]), restart="on-failure:2")
    guests.lxd.wait_status(name, "Stopped")
    log = guests.log(name)
    starts = [float(line.split()[-1]) for line in log.splitlines() if line.startswith("start at")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert len(gaps) == 2
    assert 1 <= gaps[0] < 1.8
    assert 2 <= gaps[1] < 2.8
    state = guests.state(name)
    assert (state["exit_code"], state["restarts"]) == (4, 2)


def test_restart_on_failure_lets_success_end(guests: Guests) -> None:
    name = guests.run(small_tree(), image_config(cmd=["sh", "-c", "exit 0"]), restart="on-failure")
    guests.lxd.wait_status(name, "Stopped")
    assert guests.state(name)["restarts"] == 0


def test_restart_always_also_after_success_until_stopped(guests: Guests) -> None:
    name = guests.run(small_tree(), image_config(cmd=["sh", "-c", "exit 0"]), restart="always")
    guests.wait_log(name, "start 3")
    assert guests.lxd.status(name) == "Running"
    assert guests.state(name)["restarts"] >= 1
    guests.lxd.stop(name)


def test_a_command_that_ends_at_once_is_noticed(guests: Guests) -> None:
    """It was reaped before PID 1 began to wait for it, and the instance ran on with nothing in it."""
    alias = guests.image(small_tree(), image_config(cmd=["sh", "-c", "exit 0"]))
    name = guests.launch(alias, start=False)
    for _ in range(6):
        # LXD's own bookkeeping of the last end takes a moment longer than the status shows.
        eventually(
            lambda: guests.lxd.lxc("start", name, check=False).returncode == 0,
            timeout_seconds=8,
            what="LXD to start it",
        )
        guests.lxd.wait_status(name, "Stopped", timeout_seconds=8)


def test_orphans_are_reaped(guests: Guests) -> None:
    script = b"""#!/bin/sh
i=0
while [ $i -lt 100 ]; do (sleep 0.1 &) ; i=$((i + 1)); done
echo made
exec sleep 1000
"""
    name = guests.run(small_tree({"bin/app": script}), image_config(cmd=["app"]))
    guests.wait_log(name, "made")

    def clean() -> bool:
        return guests.lxd.shell(name, "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l") == "0\n"

    eventually(clean, timeout_seconds=5, what="all orphans to be reaped")


def test_a_dead_logger_is_replaced(guests: Guests) -> None:
    script = b'#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo "line $i"; sleep 0.2; done\n'
    name = guests.run(small_tree({"bin/app": script}), image_config(cmd=["app"]))
    guests.wait_log(name, "line 3")
    first = guests.process(name, "logger.sh")
    guests.lxd.shell(name, f"kill -KILL {first}; killall -KILL dd tee 2>/dev/null", check=False)
    seen = len(guests.log(name).splitlines())
    eventually(
        lambda: len(guests.log(name).splitlines()) > seen + 3, timeout_seconds=10, what="new lines"
    )


def test_what_was_written_last_is_in_the_log(guests: Guests) -> None:
    script = b'#!/bin/sh\ni=0\nwhile [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i"; done\n'
    name = guests.run(small_tree({"bin/app": script}), image_config(cmd=["app"]))
    guests.lxd.wait_status(name, "Stopped")
    lines = guests.log(name).splitlines()
    assert lines[-3000:] == [f"line {number}" for number in range(1, 3001)]


def test_one_that_stays_behind_does_not_hold_up_the_end(guests: Guests) -> None:
    script = b"#!/bin/sh\nsleep 1000 &\necho gone\n"
    name = guests.run(small_tree({"bin/app": script}), image_config(cmd=["app"]))
    began = time.monotonic()
    guests.lxd.wait_status(name, "Stopped", timeout_seconds=6)
    assert time.monotonic() - began < 5
    assert guests.log(name).endswith("gone\n")


def test_the_state_is_json_that_a_stopped_instance_still_has(guests: Guests) -> None:
    name = guests.run(small_tree(), image_config(cmd=['no "such\\ program']))
    guests.lxd.wait_status(name, "Stopped")
    raw = guests.lxd.file_pull(name, "/.lxdocker/state")
    assert raw is not None
    state = json.loads(raw)
    assert sorted(state) == [
        *("exit_code", "finished_at", "prelaunch_exit_code", "problem", "restarts"),
        *("started_at", "status", "stop_requested", "supervisor"),
    ]
    assert state["problem"].startswith('no "such\\ program: not found')


def test_the_state_tells_of_this_start_from_its_first_moment_on(guests: Guests) -> None:
    prelaunch = {"user.lxdocker_init_script": "sleep 1000"}
    alias = guests.image(small_tree({"bin/app": b"#!/bin/sh\nexit 3\n"}), image_config(cmd=["app"]))
    name = guests.launch(alias)
    guests.lxd.wait_status(name, "Stopped")
    ended = guests.state(name)
    assert (ended["status"], ended["exit_code"], ended["stop_requested"]) == ("exited", 3, False)
    guests.lxd.set_config(name, prelaunch)
    guests.lxd.start(name)

    def starting() -> bool:
        return bool(guests.state(name)["status"] == "starting")

    eventually(starting, timeout_seconds=10, what="the state of the second start")
    assert guests.lxd.exec(name, "/.lxdocker/run", "--health", check=False).returncode == 125
    guests.lxd.stop(name)
    stopped = guests.state(name)
    assert (stopped["status"], stopped["stop_requested"]) == ("exited", True)


def test_the_state_tells_a_stop_that_was_asked_for(guests: Guests) -> None:
    name = guests.run(small_tree({"bin/probe": PROBE}), image_config(cmd=["probe"]))
    guests.lxd.wait_console(name, "ready")
    assert guests.state(name)["status"] == "running"
    assert guests.lxd.exec(name, "/.lxdocker/run", "--health", check=False).returncode == 124
    guests.lxd.stop(name)
    stopped = guests.state(name)
    assert (stopped["exit_code"], stopped["stop_requested"]) == (7, True)
