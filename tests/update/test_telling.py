"""Rounds, told to real receivers: a command's file, a web server, Prometheus."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lxdocker_lxd.lxd.failures import NotRunningError
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.settings import AddressSettings, ReceiverSettings, UpdateSettings
from lxdocker_lxd.update.telling import Telling
from tests.harness.http_server import LoopbackServer, serving
from tests.update.memory_journal import MemoryJournal
from tests.update.messages import NOW, Clock, outcome, transaction

GOT: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        GOT.append((self.path, json.loads(body)["title"]))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        GOT.append((self.path, ""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
        pass


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    GOT.clear()
    with serving(Handler) as server:
        yield server


def settings(server: LoopbackServer) -> UpdateSettings:
    hook = AddressSettings(url=f"http://{server.host}/hook", timeout_seconds=5)
    return UpdateSettings(
        receivers=(ReceiverSettings(name="ops", address=hook),),
        ping=AddressSettings(url=f"http://{server.host}/ping", timeout_seconds=5),
    )


def telling(
    given: UpdateSettings, directory: Path, journal: MemoryJournal | None = None
) -> Telling:
    return Telling(given, directory, journal or MemoryJournal(), Clock(), host="h")


def test_a_good_round_is_told_and_pinged(server: LoopbackServer, tmp_path: Path) -> None:
    with telling(settings(server), tmp_path) as teller:
        teller.round(Report(outcomes=(outcome(Act.COMMITTED),)))
    assert sorted(GOT) == [("/hook", "web: updated"), ("/ping", "")]


def test_a_bad_round_is_told_and_not_pinged(server: LoopbackServer, tmp_path: Path) -> None:
    with telling(settings(server), tmp_path) as teller:
        teller.round(Report(outcomes=(outcome(Act.ROLLED_BACK, blame=True),)))
        teller.round(Report(problems=(Problem(text="the pool is full"),)))
        teller.round(Report(), ["web: after the rollback: the hook a ended with 1"])
        teller.failed_round(NotRunningError("LXD doesn't run").message)
    assert [title for _, title in GOT] == [
        "web: rolled back",
        *["the updater on h has a problem"] * 3,
    ]


def test_an_update_whose_updater_died_is_told_by_the_next(
    server: LoopbackServer, tmp_path: Path
) -> None:
    journal = MemoryJournal()
    with telling(settings(server), tmp_path, journal):
        pass
    for act, id_ in ((Act.COMMITTED, "t1"), (Act.ROLLED_BACK, "t2")):
        journal.append(
            Entry(at=NOW, event=Event.ENDED, transaction=transaction(id=id_), result=act)
        )
    for _ in range(2):
        with telling(settings(server), tmp_path, journal):
            pass
    assert [title for _, title in GOT] == ["web: updated", "web: rolled back"]


def test_a_receiver_that_is_down_gets_it_from_the_next(tmp_path: Path) -> None:
    GOT.clear()
    with serving(Handler) as server:
        given = settings(server)
    with telling(given, tmp_path) as teller:
        began = time.monotonic()
        teller.round(Report(outcomes=(outcome(Act.COMMITTED),)))
        assert time.monotonic() - began < 5
    clock = Clock(NOW + timedelta(minutes=1))
    with (
        serving(Handler) as server,
        Telling(settings(server), tmp_path, MemoryJournal(), clock, host="h"),
    ):
        deadline = time.monotonic() + 10
        while not GOT and time.monotonic() < deadline:
            time.sleep(0.02)
    assert GOT == [("/hook", "web: updated")]


def test_metrics_tell_of_rounds_and_the_outbox(server: LoopbackServer, tmp_path: Path) -> None:
    with telling(settings(server), tmp_path) as teller:
        teller.round(Report(outcomes=(outcome(Act.COMMITTED),), problems=(Problem(text="x"),)))
        families = list(text_string_to_metric_families(teller.metrics().decode()))
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["lxdocker_lxd_update_rounds_total", "bad"] == 1
    assert samples["lxdocker_lxd_update_failures_total", "problem"] == 1
    assert ("lxdocker_lxd_update_messages_waiting", "ops") in samples


def test_without_receivers_nothing_is_written(tmp_path: Path) -> None:
    with telling(UpdateSettings(), tmp_path) as teller:
        teller.round(Report(problems=(Problem(text="x"),)))
        teller.failed_round("y")
    assert list(tmp_path.iterdir()) == []


def test_a_command_is_a_receiver_too(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nprintf %s "$LXDOCKER_TITLE" > {tmp_path}/got\n')
    program.chmod(0o755)
    given = UpdateSettings(receivers=(ReceiverSettings(name="x", words=(str(program),)),))
    with telling(given, tmp_path / "state") as teller:
        teller.round(Report(outcomes=(outcome(Act.COMMITTED),)))
    assert (tmp_path / "got").read_text() == "web: updated"
