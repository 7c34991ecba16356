"""Between protocol and app: stalls end, bodies are thrown away, every request is counted and told."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lxdocker_lxd.serve.exchange import SCOPE_KEY, Exchange
from lxdocker_lxd.serve.guard import App, Guard, Receive, Scope, Send
from lxdocker_lxd.serve.metrics import Metrics
from lxdocker_lxd.serve.peer import Places
from lxdocker_lxd.serve.server_log import ServerLog
from tests.serve.shelf import receive_nothing, scope

Message = MutableMapping[str, Any]


class Bench:
    """A guard around an app, with its log and counters."""

    def __init__(self, app: App, *, stall_seconds: float = 0.1) -> None:
        self.lines: list[str] = []
        self.metrics = Metrics()
        self.downloads: Places[Exchange] = Places(3)
        self.guard = Guard(
            app,
            downloads=self.downloads,
            stall_seconds=stall_seconds,
            metrics=self.metrics,
            log=ServerLog(self.lines.append, now=lambda: None, journal=True),  # type: ignore[arg-type, return-value]  # no time is shown
        )

    def ask(self, receive: Receive = receive_nothing, send: Send | None = None) -> None:
        async def swallow(_: Message) -> None:
            return

        asyncio.run(self.guard(scope("GET", "/x"), receive, send or swallow))


async def three_blocks(scope: Scope, receive: Receive, send: Send) -> None:
    exchange: Exchange = scope[SCOPE_KEY]
    exchange.kind = "file"
    assert exchange.begins_download()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(3):
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def test_a_whole_answer_is_complete() -> None:
    bench = Bench(three_blocks)
    bench.ask()
    assert "200 15 bytes" in bench.lines[0]
    assert "complete" in bench.lines[0]
    assert bench.downloads.count == 0


def test_a_client_that_takes_nothing_is_given_up() -> None:
    """Stalled readers were held for ever."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if len(sent) == 2:
            await asyncio.Event().wait()
        sent.append(message)

    bench = Bench(three_blocks)
    bench.ask(send=send)
    assert "200 5 bytes" in bench.lines[0]
    assert "stalled" in bench.lines[0]
    assert bench.downloads.count == 0


def test_a_slow_client_that_moves_is_not() -> None:
    async def send(_: Message) -> None:
        await asyncio.sleep(0.06)

    bench = Bench(three_blocks)
    bench.ask(send=send)
    assert "complete" in bench.lines[0]


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokenPipeError()])
def test_a_broken_connection_ends_quietly(error: OSError) -> None:
    async def send(message: Message) -> None:
        if message.get("body"):
            raise error

    bench = Bench(three_blocks)
    bench.ask(send=send)
    assert "200 0 bytes" in bench.lines[0]
    assert "aborted" in bench.lines[0]


def test_a_client_that_goes_away_stops_the_app() -> None:
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def endless(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            gone.set()
            await asyncio.sleep(0)

    bench = Bench(endless)
    bench.ask(receive=receive)
    assert "aborted" in bench.lines[0]


def test_an_app_that_waits_learns_of_the_end() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    heard: list[str] = []

    async def waiting(_: Scope, receive: Receive, send: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    Bench(waiting).ask(receive=receive)
    assert heard == ["http.request", "http.disconnect"]


def test_the_body_of_a_request_is_thrown_away_as_it_comes() -> None:
    left = 1000

    async def receive() -> Message:
        nonlocal left
        if left:
            left -= 1
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        assert (await receive()) == {"type": "http.request", "body": b"", "more_body": False}
        while left:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0)
        await three_blocks(_, receive, send)

    bench = Bench(app)
    bench.ask(receive=receive)
    assert "complete" in bench.lines[0]


def test_a_bug_is_counted_and_places_are_given_back() -> None:
    async def bug(scope: Scope, receive: Receive, send: Send) -> None:
        scope[SCOPE_KEY].begins_download()
        raise KeyError

    bench = Bench(bug)
    with pytest.raises(KeyError):
        bench.ask()
    assert bench.downloads.count == 0
    assert "failed" in bench.lines[0]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_only_http_is_spoken(kind: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    asyncio.run(Bench(app).guard({"type": kind}, receive_nothing, send))
    assert sent == ([{"type": "websocket.close"}] if kind == "websocket" else [])


def test_prometheus_reads_the_counters() -> None:
    bench = Bench(three_blocks)
    bench.ask()
    bench.ask()
    bench.metrics.happened("accepted")
    bench.metrics.gauge("ready", "Whether.", lambda: True)
    document = Exchange(client="x", files_only=False, downloads=bench.downloads)
    document.kind, document.status, document.outcome = "document", 200, "complete"
    for seconds in (0.001, 0.003, 1.0, 99.0):
        bench.metrics.ended(document, seconds)
    families = {
        family.name: family
        for family in text_string_to_metric_families(bench.metrics.text().decode())
    }
    values = {
        (sample.name.removeprefix("lxdocker_lxd_"), *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["requests_total", "200", "file"] == 2
    assert values["responses_total", "complete", "file"] == 2
    assert values["sent_bytes_total", "file"] == 30
    assert values["connections_total", "accepted"] == 1
    assert values["ready",] == 1
    assert values["document_seconds_count",] == 4
    assert values["document_seconds_bucket", "0.005"] == 2
    assert values["document_seconds_bucket", "2.5"] == 3
    assert values["document_seconds_bucket", "+Inf"] == 4
    assert families["lxdocker_lxd_document_seconds"].type == "histogram"
    assert families["lxdocker_lxd_requests"].type == "counter"
    assert all(family.documentation for family in families.values())
    assert all(family.type != "unknown" for family in families.values())
