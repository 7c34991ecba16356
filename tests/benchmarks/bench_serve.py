"""Measures the image server beside nginx on the same machine, over TLS 1.3, in one run.

    python -m tests.benchmarks.bench_serve --work DIR [--only PART…] [--rounds N]

Needs nginx, curl and ab (Debian: nginx-light, curl, apache2-utils). nginx runs from a directory of its
own with a configuration of its own, one worker, sendfile, and serves what ``export`` wrote. Both log every
request to a file, both use the same certificate. Each table has ours, nginx and the ratio:

* ``files``: one file of 300 MB, 1 and 4 clients, rounds taken in turns: MB/s and CPU seconds a GB;
* ``documents``: index and list for 20 and for 10,000 versions: one client on one connection (latency),
  eight clients (requests a second), and a new connection each time, as LXD does;
* ``memory``: what 50 clients that take 20 kB/s cost.
"""

import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lxdocker_lxd.catalogue import Product
from tests.serve.running import RunningServer, many
from tests.serve.shelf import Shelf
from tests.unit.catalogues import product, version

PARTS = ("files", "documents", "memory")
FILE_MB = 300
SLOW_CLIENTS = 50
VERSIONS_EACH = 10
_MB = 1_000_000
_TLS = ("-f", "TLS1.3")

NGINX = """\
daemon off;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log {place}/access.log;
    default_type application/octet-stream;
    types {{ application/json json; }}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    gzip_static on;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        root {root};
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A server under load: where it answers, and which processes it is made of."""

    name: str
    port: int
    processes: tuple[int, ...]

    @property
    def cpu_seconds(self) -> float:
        """The processor time it took so far."""
        ticks = 0
        for process in self.processes:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    @property
    def resident_mib(self) -> float:
        """Its memory."""
        kib = 0
        for process in self.processes:
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
            kib += int(found[1]) if found else 0
        return kib / 1024

    def url(self, path: str) -> str:
        """Where ``path`` is."""
        return f"https://127.0.0.1:{self.port}/{path}"


@contextlib.contextmanager
def contenders(shelf: Shelf, place: Path) -> Iterator[tuple[RunningServer, Contender, Contender]]:
    """Yield our server, and both as contenders, over the same images."""
    place.mkdir(parents=True, exist_ok=True)
    server = RunningServer(shelf, place, "--metrics", "local")
    root = place / "exported"
    command = [sys.executable, "-m", "lxdocker_lxd", "export", str(root)]
    subprocess.run([*command, "--lxdimages", str(shelf.directory)], check=True, capture_output=True)
    with RunningServer.free_port() as port:
        pass
    text = NGINX.format(place=place, port=port, cert=server.cert, key=server.key, root=root)
    (place / "nginx.conf").write_text("user root;\n" + text if os.getuid() == 0 else text)
    nginx = subprocess.Popen(["nginx", "-p", str(place), "-c", str(place / "nginx.conf")])
    try:
        server.start()
        time.sleep(0.5)
        workers = Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()
        yield (
            server,
            Contender(name="ours", port=server.port, processes=(server.process.pid,)),
            Contender(name="nginx", port=port, processes=(nginx.pid, *map(int, workers))),
        )
    finally:
        server.stop()
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(10)


def row(what: str, values: Sequence[float], unit: str) -> None:
    """Print a line of a table: ours, nginx's, and the ratio."""
    ours, other = values
    ratio = f"{ours / other:.2f}" if other else "-"
    print(f"{what:58} {ours:10.2f} {other:10.2f} {unit:9} {ratio:>6}", flush=True)


def head(title: str) -> None:
    """Print the top of a table."""
    print(f"\n{title:58} {'ours':>10} {'nginx':>10} {'':9} {'ratio':>6}", flush=True)


def fetched(contender: Contender, path: str, clients: int) -> tuple[float, float]:
    """Return MB/s of all clients together, and CPU seconds a GB."""
    before, began = contender.cpu_seconds, time.monotonic()
    running = [
        subprocess.Popen(["curl", "-sSk", "--tlsv1.3", "-o", "/dev/null", contender.url(path)])
        for _ in range(clients)
    ]
    assert [one.wait() for one in running] == [0] * clients
    seconds = time.monotonic() - began
    total_bytes = clients * FILE_MB * _MB
    return (
        total_bytes / _MB / seconds,
        (contender.cpu_seconds - before) / (total_bytes / 1e9),
    )


def files(work: Path, rounds: int) -> None:
    """Compare downloads of one large file."""
    shelf = Shelf(work / "files" / "images")
    block = os.urandom(_MB)
    path = shelf.publish("large", block * FILE_MB).path
    head(f"file of {FILE_MB} MB, median of {rounds} rounds")
    with contenders(shelf, work / "files") as (_, ours, nginx):
        for clients in (1, 4):
            found = [
                (fetched(ours, path, clients), fetched(nginx, path, clients))
                for _ in range(rounds + 1)
            ][1:]
            speeds = [statistics.median(one[side][0] for one in found) for side in (0, 1)]
            costs = [statistics.median(one[side][1] for one in found) for side in (0, 1)]
            row(f"{clients} client(s)", speeds, "MB/s")
            row(f"{clients} client(s), processor", costs, "CPU-s/GB")


def loaded(contender: Contender, path: str, *flags: str) -> tuple[float, float]:
    """Return requests a second, and the mean milliseconds of one."""
    done = subprocess.run(
        ["ab", "-q", *_TLS, "-H", "Accept-Encoding: gzip", *flags, contender.url(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rate = re.search(r"Requests per second:\s+([0-9.]+)", done)
    took = re.search(r"Time per request:\s+([0-9.]+) \[ms\] \(mean\)", done)
    failed = re.search(r"Failed requests:\s+(\d+)", done)
    assert rate, done
    assert took, done
    assert failed, done
    assert failed[1] == "0", done
    assert "Non-2xx" not in done, done
    return float(rate[1]), float(took[1])


def documents(work: Path, rounds: int) -> None:
    """Compare documents for a small and a large catalogue."""
    for count in (20, 10_000):
        shelf = Shelf(work / f"documents-{count}" / "images")
        shelf.write(*map(catalogued, range(count // VERSIONS_EACH)))
        fill(shelf)
        with contenders(shelf, work / f"documents-{count}") as (server, ours, nginx):
            head(f"documents, {count} versions, gzip, median of {rounds}")
            for path in ("streams/v1/index.json", "streams/v1/images.json"):
                size_kib = len(server.get(f"/{path}", {"Accept-Encoding": "gzip"}).body) / 1024
                number = "2000" if size_kib < 256 else "100"
                for what, flags, index, unit in (
                    ("latency, one connection", ("-k", "-c", "1", "-n", number), 1, "ms"),
                    ("8 connections", ("-k", "-c", "8", "-n", number), 0, "1/s"),
                    ("a connection each, 4 clients", ("-c", "4", "-n", "200"), 0, "1/s"),
                ):
                    pairs = [
                        (loaded(ours, path, *flags)[index], loaded(nginx, path, *flags)[index])
                        for _ in range(rounds)
                    ]
                    medians = [statistics.median(pair[side] for pair in pairs) for side in (0, 1)]
                    row(f"{path} ({size_kib:.0f} KiB), {what}", medians, unit)
            said = server.get("/metrics").body.decode()
            built = re.search(r"^lxdocker_lxd_site_build_seconds ([0-9.]+)", said, re.MULTILINE)
            print(
                f"ours: {ours.resident_mib:.0f} MiB, site made in {float(built[1]):.2f} s"
                if built
                else "",
                flush=True,
            )


def catalogued(number: int) -> Product:
    """A product with VERSIONS_EACH versions."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    versions = [
        replace(
            version(
                f"{number}-{hours}",
                serial=(start + timedelta(hours=hours)).strftime("%Y%m%d_%H%M%S"),
                at=start + timedelta(hours=hours),
            ),
            superseded_at=start + timedelta(hours=hours + 1),
        )
        for hours in range(VERSIONS_EACH)
    ]
    versions[-1] = replace(versions[-1], superseded_at=None)
    return replace(product(*versions, name=f"web{number:05d}"), aliases=())


def fill(shelf: Shelf) -> None:
    """Write the small files that ``catalogued`` speaks of."""
    for number in range(len(shelf.source.read().products)):
        for hours in range(VERSIONS_EACH):
            for file in version(f"{number}-{hours}").files:
                content = {"metadata": "meta", "rootfs": "root"}[file.role]
                (shelf.directory / file.path).write_text(f"{content} {number}-{hours}")


def memory(work: Path, _: int) -> None:
    """Compare what many slow clients cost."""
    shelf = Shelf(work / "memory" / "images")
    path = shelf.publish("large", os.urandom(_MB) * FILE_MB).path
    with contenders(shelf, work / "memory") as (server, ours, nginx):
        before = [ours.resident_mib, nginx.resident_mib]
        soon, later = [], []
        for contender in (ours, nginx):
            server.port = contender.port
            with many(
                SLOW_CLIENTS, lambda: server.asked(f"/{path}", receive_bytes=8192)
            ) as clients:
                for number in range(100):
                    for client in clients:
                        client.recv(4096)
                    time.sleep(0.2)
                    if number == 10:
                        soon.append(contender.resident_mib)
                later.append(contender.resident_mib)
        server.port = ours.port
        head(f"memory with {SLOW_CLIENTS} clients at 20 kB/s")
        row("before", before, "MiB")
        row("after 2 s", soon, "MiB")
        row("after 20 s", later, "MiB")
        row("each", [(later[i] - before[i]) / SLOW_CLIENTS for i in (0, 1)], "MiB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    parts: dict[str, Callable[[Path, int], None]] = {
        "files": files,
        "documents": documents,
        "memory": memory,
    }
    for name in options.only:
        parts[name](options.work, options.rounds)


if __name__ == "__main__":
    main()
