"""Announced is done, on the real LXD: `update plan` against what then goes over LXD's socket."""

import json
import secrets
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
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.rounds import Report, Rounds
from lxdocker_lxd.update.updater import Updater
from tests.harness.lxd import PrivateLxd
from tests.lxd.update_stage import Stage
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
    report = Rounds(daemon, updater, journal, means.clock).run(frozenset({name}), by_hand=True)
    return api.sent, report


def planned(stage: Stage, state: Path, name: str) -> tuple[list[Call], dict[str, object]]:
    words = ("--dry-run", "--no-refresh", "--format=json", name)
    document = json.loads(stage.update(state, "now", *words).stdout)
    return [Call(**{**one, "changes": ()}) for one in document["calls"]], document


def comparable(calls: list[Call], macs: set[str]) -> list[object]:
    """As ``essence``, without busy objects' repeats."""
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
