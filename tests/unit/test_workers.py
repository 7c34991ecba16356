"""How the tests are shared out among workers."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import workers
from tests.harness.image_server import free_port

ROOT = Path(__file__).parents[2]


def test_files_with_the_same_dear_fixture_stay_together() -> None:
    for fixture in set(workers.TOGETHER.values()):
        users = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "tests").rglob("test_*.py")
            if path != Path(__file__) and fixture in path.read_text()
        }
        assert users == {file for file, shared in workers.TOGETHER.items() if shared == fixture}


@dataclass(frozen=True)
class Item:
    nodeid: str
    markers: tuple[str, ...] = ()

    def get_closest_marker(self, name: str) -> object:
        return name if name in self.markers else None


def test_long_files_come_first_and_whole() -> None:
    short = [Item("a.py::test_1"), Item("a.py::test_2")]
    real = [Item("b.py::test_1"), Item("b.py::test_2", ("tools", "lxd"))]
    many = [Item(f"c.py::test_{number}") for number in range(9)]
    mixed = [short[0], real[0], *many, real[1], short[1]]
    assert workers.longest_first(mixed) == [*real, *many, *short]


def test_no_two_workers_are_given_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        ports.append({free_port() for _ in range(20)})
    assert not ports[0] & ports[1]
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert max(ports[0] | ports[1]) < int(ephemeral[0])
