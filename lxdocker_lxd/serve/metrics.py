"""Counters of the server in Prometheus' text format (exposition format 0.0.4).

A few counters need no library; a test reads the text with Prometheus' own parser.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lxdocker_lxd.serve.exchange import Exchange

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "lxdocker_lxd_"
_BUCKETS_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A value that is looked at when somebody asks."""

    name: str
    meaning: str
    read: Callable[[], float]


class Metrics:
    """What happened since the server started. For one event loop."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._sent_bytes: Counter[str] = Counter()
        self._seconds: Counter[float] = Counter()
        self._seconds_sum = 0.0
        self._gauges: list[Gauge] = []
        self._events: Counter[str] = Counter()

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Add a value to the text."""
        self._gauges.append(Gauge(name=name, meaning=meaning, read=read))

    def happened(self, event: str) -> None:
        """Count an event of a connection."""
        self._events[event] += 1

    def ended(self, exchange: Exchange, seconds: float) -> None:
        """Count a finished exchange."""
        kind = exchange.kind
        self._requests[kind, exchange.status] += 1
        self._outcomes[kind, exchange.outcome] += 1
        self._sent_bytes[kind] += exchange.sent_bytes
        if kind == "document":
            self._seconds_sum += seconds
            bucket = next((limit for limit in _BUCKETS_SECONDS if seconds <= limit), float("inf"))
            self._seconds[bucket] += 1

    def text(self) -> bytes:
        """Return all of it, in a fixed order."""
        return "".join(f"{line}\n" for line in self._lines()).encode()

    def _lines(self) -> Iterator[str]:
        yield from _family("requests_total", "counter", "Finished requests by what was asked for.")
        for (kind, status), count in sorted(self._requests.items()):
            yield f'{_PREFIX}requests_total{{kind="{kind}",status="{status}"}} {count}'
        yield from _family("responses_total", "counter", "Finished requests by how they ended.")
        for (kind, outcome), count in sorted(self._outcomes.items()):
            yield f'{_PREFIX}responses_total{{kind="{kind}",outcome="{outcome}"}} {count}'
        yield from _family("sent_bytes_total", "counter", "Bytes of bodies that were sent.")
        for kind, count in sorted(self._sent_bytes.items()):
            yield f'{_PREFIX}sent_bytes_total{{kind="{kind}"}} {count}'
        yield from _family("connections_total", "counter", "Connections by what became of them.")
        for event, count in sorted(self._events.items()):
            yield f'{_PREFIX}connections_total{{event="{event}"}} {count}'
        yield from self._histogram()
        for gauge in self._gauges:
            yield from _family(gauge.name, "gauge", gauge.meaning)
            yield f"{_PREFIX}{gauge.name} {gauge.read():.10g}"

    def _histogram(self) -> Iterator[str]:
        name = "document_seconds"
        yield from _family(name, "histogram", "How long documents took, from request to last byte.")
        count = 0
        for limit in (*_BUCKETS_SECONDS, float("inf")):
            count += self._seconds[limit]
            shown = "+Inf" if limit == float("inf") else f"{limit:g}"
            yield f'{_PREFIX}{name}_bucket{{le="{shown}"}} {count}'
        yield f"{_PREFIX}{name}_sum {self._seconds_sum:.6f}"
        yield f"{_PREFIX}{name}_count {count}"


def _family(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {meaning}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
