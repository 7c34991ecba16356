"""Proof that a run of all tests leaves no process, bridge, network link or mount behind.

``python -m tests.harness.leaks begin DIR`` notes what the machine has; ``end DIR`` sweeps what
killed tests left, compares, and fails with a list. Another run that goes on at the same time is
left alone: what belongs to the private daemons of living runs is not counted.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.harness.lxd import HOME, PREFIX, abandoned, sweep
from tests.harness.processes import bridges, end_processes_of, mounts_under, processes_of, run


def _others() -> Iterator[Path]:
    """Private daemons' directories of runs that are still alive."""
    gone = set(abandoned())
    return (home for home in HOME.glob(f"{PREFIX}*") if home not in gone)


def _links() -> set[str]:
    listed = json.loads(run("ip", "-j", "link", "show", "type", "veth", check=False).stdout or "[]")
    return {link["ifname"] for link in listed}


def _firewall() -> set[str]:
    listed = run("nft", "list", "chains", check=False).stdout.splitlines()
    return {line.strip() for line in listed if line.strip().startswith("chain ")}


def snapshot() -> set[str]:
    """Bridges, links, mounts and LXD's firewall chains of this machine, as lines."""
    others = list(_others())
    foreign: set[str] = set()
    for home in others:
        with contextlib.suppress(OSError):
            foreign |= set((home / "bridges").read_text().split())
    seen = {f"bridge {name}" for name in bridges() - foreign}
    seen |= {f"firewall {chain}" for chain in _firewall() if not any(b in chain for b in foreign)}
    seen |= {
        f"mount {point}"
        for point in mounts_under(Path("/"))
        if not any(point.startswith(f"{home}/") for home in others)
    }
    return seen | {f"link {name}" for name in _links()}


def leftovers(before: set[str], scratch: Path) -> list[str]:
    """What this run left: processes that carry its name, and whatever was not there before."""
    processes = []
    for process_id in processes_of(scratch):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" ")
            processes.append(f"process {process_id} {words.decode(errors='replace').strip()}")
    # The links of another run's containers have names that tell nothing.
    unclear = "link " if any(_others()) else "\0"
    found = (line for line in snapshot() - before if not line.startswith(unclear))
    return processes + sorted(found)


def main(action: str, scratch: Path) -> int:
    """Note the state (``begin``), or compare with it (``end``); return the exit code."""
    noted = scratch / "before.json"
    for home in sweep():
        sys.stdout.write(f"removed what a killed test run left in {home}\n")
    if action == "begin":
        noted.write_text(json.dumps(sorted(snapshot())))
        return 0
    left = leftovers(set(json.loads(noted.read_text())), scratch)
    if not left:
        sys.stdout.write(
            "\nnothing left behind: no process, bridge, link, firewall rule or mount\n"
        )
        return 0
    sys.stdout.write("\nleft behind by this run:\n" + "".join(f"  {line}\n" for line in left))
    end_processes_of(scratch)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
