"""Measures the outage of an update beside ``lxc delete`` and ``lxc launch``, as a client sees it.

    python -m tests.benchmarks.bench_update --work DIR [--files N] [--rounds N]

An instance with a fixed address serves HTTP from an image of ``N`` files (40,000); a client asks it all
the time. The outage is the time from the old version's last answer to the new one's first. On a pool of
each kind (``dir``, ``btrfs`` on a loop file), in turn in each round and in one LXD:

* ``update``: ours, to a version that the pool has never seen;
* ``delete + launch`` of a version that the pool has never seen;
* ``delete + launch`` of one that it has, on btrfs, which keeps what it has unpacked.

Printed are the times and the ratio of the best of each. Needs btrfs-progs.
"""

import argparse
import contextlib
import http.client
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.guest.lxd_guest import image_config, import_guest, small_tree
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import QUICK_GATE, Stage

POOLS = ("dir", "btrfs")
AIM = 0.25
_NAME = "web"
_APP = b"#!/bin/sh\nexec httpd -f -p 80 -h /www\n"


class Client:
    """Asks a server which version it is, several times a second, and keeps when it was told."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._last: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_always)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_how: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask_always(self) -> None:
        while not self._ended.wait(0.02):
            with contextlib.suppress(OSError, http.client.HTTPException):
                told = self._ask()
                self._last[told] = time.monotonic()
                self._first.setdefault(told, self._last[told])

    def _ask(self) -> str:
        connection = http.client.HTTPConnection(self._address, timeout=0.25)
        try:
            connection.request("GET", "/version")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def wait_for(self, version: str) -> None:
        """Return when the version has answered."""
        eventually(lambda: version in self._first, timeout_seconds=120, what=version)

    def outage(self, before: str, after: str) -> float:
        """Seconds from one version's last answer to the other's first."""
        return self._first[after] - self._last[before]


class Bench:
    """Images of many files in one LXD, and one instance that is brought from one to another."""

    def __init__(self, lxd: PrivateLxd, work: Path, *, files: int) -> None:
        self.lxd = lxd
        self.work = work
        self.stage = Stage(lxd, work, words=())
        self.address = str(lxd.subnet[77])
        self._files = files

    def publish(self, version: str) -> None:
        """Import an image of this version."""
        files = {"app": _APP, "www/version": version.encode()}
        files |= {f"srv/{i // 200:03d}/f{i:05d}": b"x" * 100 for i in range(self._files)}
        alias, _ = import_guest(
            self.lxd, self.work, small_tree(files), image_config(entrypoint=["/app"])
        )
        self.stage.fingerprints[version] = self.lxd.query("GET", f"/1.0/images/aliases/{alias}")[
            "target"
        ]
        self.lxd.lxc("image", "alias", "rename", alias, version)

    def launch(self, version: str, pool: str) -> None:
        """Make and start the instance."""
        nic = {"type": "nic", "network": self.lxd.network, "name": "eth0"}
        devices = {
            "eth0": nic | {"ipv4.address": self.address},
            "root": {"type": "disk", "path": "/", "pool": pool},
        }
        self.lxd.launch(version, _NAME, config=QUICK_GATE, devices=devices)

    def relaunched(self, before: str, after: str, pool: str) -> float:
        """Seconds of outage of removing the instance and making another."""
        with self._watched(before) as client:
            self.lxd.lxc("delete", "--force", _NAME)
            self.launch(after, pool)
            client.wait_for(after)
        return client.outage(before, after)

    def updated(self, before: str, after: str) -> float:
        """Seconds of outage of our update."""
        with tempfile.TemporaryDirectory(dir=self.work) as directory:
            state = Path(directory)
            self.stage.follow("app", after)
            self.stage.update(state, "enable", _NAME, "--image=local|app")
            with self._watched(before) as client:
                self.stage.update(state, "now", _NAME, "--no-refresh")
                client.wait_for(after)
        return client.outage(before, after)

    @contextlib.contextmanager
    def _watched(self, before: str) -> Iterator[Client]:
        os.sync()
        with Client(self.address) as client:
            client.wait_for(before)
            yield client

    def clean(self) -> None:
        """Remove the instance and what updates keep of it."""
        self.lxd.lxc("delete", "--force", *self.lxd.instances())


def measure(bench: Bench, pool: str, kind: str, rounds: int) -> None:
    """Go all ways in turn on one pool, and print each time and the ratios of the best."""
    best: dict[str, float] = {}

    def note(way: str, seconds: float) -> None:
        print(f"  {kind:6} {way:38} {seconds:7.2f} s", flush=True)
        best[way] = min(seconds, best.get(way, seconds))

    for number in range(rounds):
        first, second, third = (f"{kind}-{number}-{which}" for which in range(3))
        for version in (first, second, third):
            bench.publish(version)
        bench.launch(first, pool)
        note("update", bench.updated(first, second))
        note("delete + launch", bench.relaunched(second, third, pool))
        if kind != "dir":
            note("delete + launch, unpacked before", bench.relaunched(third, second, pool))
        bench.clean()
        for version in (first, second, third):
            bench.lxd.lxc("image", "delete", bench.stage.fingerprints[version])
    update, *others = best
    for other in others:
        print(
            f"{kind}: update / {other}  {best[update] / best[other]:.2f}  (wanted: at most {AIM})",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--files", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with PrivateLxd() as lxd:
        bench = Bench(lxd, options.work, files=options.files)
        lxd.lxc("storage", "create", "loop", "btrfs", "size=8GiB")
        for kind, pool in zip(POOLS, ("default", "loop"), strict=True):
            measure(bench, pool, kind, options.rounds)
        lxd.lxc("storage", "delete", "loop")


if __name__ == "__main__":
    main()
