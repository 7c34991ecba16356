"""Announced is done, on the real LXD: `update plan` against what then goes over LXD's socket."""

import contextlib
import json
import os
import pty
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.api import Answer, Api
from lxdocker_lxd.lxd.daemon import LxdDaemon
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.update.call import Call, call_of
from lxdocker_lxd.update.claim import Claim
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.rounds import Report, Rounds
from lxdocker_lxd.update.updater import Updater
from tests.harness.lxd import PrivateLxd
from tests.lxd.update_stage import CHECKOUT, Stage
from tests.update.memory_journal import MemoryJournal
from tests.update.test_rehearsal import essence

pytestmark = pytest.mark.lxd


class ListeningApi(Api):
    """Notes what it sends."""

    def __init__(self, place: SocketPlace) -> None:
        self.sent: list[Request] = []
        super().__init__(place)

    def send(self, request: Request) -> Answer:
        self.sent.append(request)
        return super().send(request)


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=("one", "two"))
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()


def round_heard(lxd: PrivateLxd, name: str) -> tuple[list[Request], Report]:
    """Do a round by hand, and note all that is sent."""
    api = ListeningApi(SocketPlace(socket=lxd.socket))
    daemon, journal = LxdDaemon(api), MemoryJournal()
    means = Means(
        gate=HealthGate(daemon, clock=time.monotonic, pause=time.sleep),
        clock=lambda: datetime.now(UTC),
        pause=time.sleep,
        draw_id=lambda: secrets.token_hex(4),
    )
    updater = Updater(daemon, journal, means)
    claim = Claim(lambda: daemon.server, "a test", means.clock)
    claim.take()
    report = Rounds(daemon, updater, journal, means.clock).run(frozenset({name}), by_hand=True)
    claim.release()
    return api.sent, report


def planned(stage: Stage, state: Path, name: str) -> tuple[list[Call], dict[str, object]]:
    words = ("--dry-run", "--no-refresh", "--format=json", name)
    document = json.loads(stage.update(state, "now", *words).stdout)
    return [Call(**{**one, "changes": ()}) for one in document["calls"]], document


def comparable(calls: list[Call], macs: set[str]) -> list[object]:
    """As ``essence``, without busy objects' repeats, and without who claims LXD when."""
    calls = [replace(one, body={}) if one.path == "/1.0" else one for one in calls]
    found: list[object] = []
    for item in essence(calls, macs):
        if not found or found[-1] != item:
            found.append(item)
    return found


@pytest.mark.parametrize(
    "kind",
    [
        "running",
        pytest.param("stopped", marks=pytest.mark.full),
        pytest.param("privileged", marks=pytest.mark.full),
    ],
)
def test_the_calls_of_a_plan_are_those_then_made(stage: Stage, tmp_path: Path, kind: str) -> None:
    lxd = stage.lxd
    stage.follow("app", "one")
    keys = {"security.privileged": "true"} if kind == "privileged" else {"environment.PW": "s3cr"}
    name = stage.launch(config=keys, start=kind != "stopped")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    stage.follow("app", "two")
    before = lxd.query("GET", f"/1.0/instances/{name}")
    text = stage.update(tmp_path, "plan", name).stdout
    assert f"POST /1.0/instances/{name}?project=default" in text
    assert "s3cr" not in text
    print(text)
    said, document = planned(stage, tmp_path, name)
    assert lxd.query("GET", f"/1.0/instances/{name}")["config"] == before["config"]
    macs = {value for key, value in before["config"].items() if key.endswith(".hwaddr")}
    sent, report = round_heard(lxd, name)
    assert [str(one.act) for one in report.outcomes] == ["committed"]
    made = [call_of(request, None, None, name="", step="") for request in sent]
    without = [replace(call, changes=()) for call in made]
    assert comparable(said, macs) == comparable(without, macs)
    differences = document["differences"]
    assert isinstance(differences, list)
    assert [one for one in differences if not one["allowed"]] == []
    after = lxd.query("GET", f"/1.0/instances/{name}")["config"]
    for one in differences:
        key = str(one["what"]).removeprefix("config ")
        assert after.get(key) != before["config"].get(key), one
    assert "s3cr" not in json.dumps(document)


def on_a_terminal(stage: Stage, state: Path, action: str, *words: str) -> tuple[str, str]:
    """Run it with a terminal for its remarks; return its results, and what was drawn."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        stage.command(state, action, *words),
        cwd=CHECKOUT,
        env=stage.lxd.environment | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        drawn = []
        with contextlib.suppress(OSError):
            while piece := os.read(master, 1 << 16):
                drawn.append(piece)
        os.close(master)
        assert process.stdout is not None
        results = process.stdout.read()
    assert process.returncode == 0
    return results, b"".join(drawn).decode()


def test_what_is_there_and_what_would_be_done_is_shown(stage: Stage, tmp_path: Path) -> None:
    def told(*words: str) -> dict[str, list[dict[str, object]]]:
        answer = json.loads(stage.update(tmp_path, *words, "--format=json").stdout)
        assert isinstance(answer, dict)
        return answer

    stage.follow("app", "one")
    name = stage.launch()
    stage.update(tmp_path, "enable", name, "--image=local|app")
    old = stage.base_image(name)
    stage.follow("app", "two")
    (row,) = told("status")["instances"]
    assert (row["status"], row["health"], row["update"]) == ("running", "none", "available")
    assert (row["last"], row["window"], row["breaker"]) == (None, "always", "closed")
    results, drawn = on_a_terminal(stage, tmp_path, "now", name, "--no-refresh")
    assert "committed" in results
    assert "\x1b[" in drawn
    assert all(word in drawn for word in (name, "stage", "gate", "committed"))
    status = told("status")
    assert [one["last"] for one in status["instances"]] == ["committed"]
    assert [one["kind"] for one in status["copies"]] == ["kept copy"]
    before = stage.lxd.instances()

    rollback = told("rollback", name, "--dry-run")
    assert str(rollback["rollbacks"][0]["to"]).endswith(old[:12])
    assert rollback["rollbacks"][0]["result"] == "rolled back"
    assert any(call["method"] == "POST" for call in rollback["calls"])
    assert told("recover", "--dry-run")["recoveries"] == []
    waiting = told("reap", "--dry-run")
    assert (waiting["calls"], waiting["copies"][0]["result"]) == ([], "kept")
    named = told("reap", name, "--dry-run")
    assert [call["method"] for call in named["calls"]] == ["PATCH", "DELETE", "PATCH"]
    assert told("now", name, "--dry-run")["calls"] == []
    assert stage.lxd.instances() == before

    assert "removed" in stage.update(tmp_path, "reap", name).stdout
    assert stage.lxd.instances() == [one for one in before if "-old-" not in one]
    assert stage.update(tmp_path, "reap", name, check=False).returncode != 0
    words = (sys.executable, "-m", "lxdocker_lxd", "ps", "--format=json")
    listed = subprocess.run(
        words, cwd=CHECKOUT, env=stage.lxd.environment, capture_output=True, check=True, timeout=60
    )
    instances = json.loads(listed.stdout)["instances"]
    (mine,) = [one for one in instances if one["name"] == name]
    assert (mine["update"], mine["health"]) == ("current", "none")
