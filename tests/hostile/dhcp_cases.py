"""What a DHCP server may say to a guest: the real script and busybox, in a network of their own."""

import os
import re
import shutil
import stat
import subprocess
from functools import partial
from pathlib import Path

from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from tests.harness.hostile_values import COMMANDS, CONTROLS
from tests.hostile.case import HostileCase
from tests.hostile.namespaces import own_network

_BUSYBOX = Path("/bin/busybox")
_LEASE = {
    "PATH": "/bin",
    "interface": "eth0",
    "ip": "192.0.2.7",
    "mask": "24",
    "broadcast": "192.0.2.255",
    "router": "192.0.2.1",
    "dns": "192.0.2.1",
    "domain": "lan",
}


def told(place: Path, said: tuple[dict[str, str], ...]) -> None:
    """Let the guest's script hear each of the answers; nothing runs, and its files stay lists."""
    root = _guest(place)
    _with_interface()
    for answer in said:
        # The kernel passes on no NUL.
        variables = {key: value.replace("\0", "") for key, value in {**_LEASE, **answer}.items()}
        for event in ("deconfig", "bound", "renew"):
            done = subprocess.run(
                ["/usr/sbin/chroot", root, "/busybox-lxd", "sh", "/script", event],
                check=False,
                env=variables,
                cwd=root,
                capture_output=True,
                timeout=30,
            )
            assert done.returncode in {0, 1, 2}, done
        assert b"not found" not in done.stderr, done
        names = (root / "etc/resolv.conf").read_text(errors="replace")
        assert re.match(r"search |nameserver |$", names), names
    assert not list(root.rglob("pwned"))


def _guest(place: Path) -> Path:
    """Make the root of a guest, as far as the script needs it."""
    root, scripts = place / "root", load_guest_scripts()
    for made in ("etc", "proc", "sys/class/net/eth0", ".lxdocker/live/dns", ".lxdocker/live/net"):
        (root / made).mkdir(parents=True)
    shutil.copy(_BUSYBOX.resolve(), root / "busybox-lxd")
    (root / "dev").mkdir()
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "bin").mkdir()
    for applet in ("ip", "cat", "rm", "mv", "mkdir", "rmdir", "usleep", "cmp", "readlink", "id"):
        (root / "bin" / applet).symlink_to("/busybox-lxd")
    (root / "script").write_bytes(scripts.udhcpc)
    (root / ".lxdocker/prepare.sh").write_bytes(scripts.prepare)
    (root / ".lxdocker/live/out").write_bytes(b"")
    (root / "sys/class/net/eth0/ifindex").write_text("2\n")
    return root


def _with_interface() -> None:
    """Leave this machine's network for one with nothing but an eth0."""
    own_network()
    for words in ("link add eth0 type veth", "link set lo up"):
        subprocess.run([_BUSYBOX, "ip", *words.split()], check=True)


def _case(name: str, *said: dict[str, str]) -> HostileCase:
    return HostileCase(
        party="DHCP", name=name, meet=partial(told, said=said), most_seconds=20, needs_root=True
    )


def _each(key: str, *values: str) -> tuple[dict[str, str], ...]:
    return tuple({key: value} for value in values)


_SOME = COMMANDS[::6]
CASES = (
    _case("domain that is a command", *_each("domain", *_SOME)),
    _case("search list that is a command", *_each("search", *_SOME)),
    _case("name servers that are commands", *_each("dns", *_SOME)),
    _case("router that is a command", *_each("router", *_SOME)),
    _case("routes that are commands and patterns", *_each("staticroutes", *_SOME, "* *", "/* /*")),
    _case("address and mask that are commands", *_each("ip", *_SOME[:3]), *_each("mask", *_SOME[:3])),
    _case("MTU of 0, 10^30 and no number", *_each("mtu", "0", "1" + "0" * 30, "-1", "9$(id>pwned)")),
    _case("domain that commands a terminal", *_each("domain", *CONTROLS[:4])),
    _case("search list of 60 kB", *_each("search", "a.example " * 6000)),
)  # fmt: skip
