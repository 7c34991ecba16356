"""Images with an init of their own: it becomes PID 1, and ``lxc stop`` ends it as it can."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lxdocker_lxd.convert.layer.tree import Tree
from tests.guest.lxd_guest import (
    PROBE,
    Guests,
    host_file,
    image_config,
    import_guest,
    put_program,
    small_tree,
)
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually

pytestmark = pytest.mark.lxd


def tree_with(*programs: str, **files: bytes) -> Tree:
    tree = small_tree({"bin/probe": PROBE, **files})
    for program in programs:
        put_program(tree, program)
    return tree


def s6_tree(**files: bytes) -> Tree:
    programs = [f"/usr/bin/{name}" for name in ("s6-svscan", "s6-supervise", "s6-svscanctl")]
    service = b"#!/bin/sh\nexec /bin/probe\n"
    return tree_with(*programs, **{"svc/app/run": service, **files})


def s6_overlay_tree() -> Tree:
    """Its shape: /init makes a directory of services and becomes s6-svscan there."""
    init = b"""#!/bin/sh
/busybox-lxd sleep 1
/busybox-lxd mkdir -p /run/service
/busybox-lxd cp -r /svc/app /run/service/app
exec s6-svscan /run/service
"""
    return s6_tree(**{"init": init, "etc/s6-overlay/config/global_path": b"/bin"})


def runit_tree() -> Tree:
    files = {
        "etc/runit/1": b"#!/bin/sh\n",
        "etc/runit/2": b"#!/bin/sh\nexec /usr/bin/runsvdir /svc\n",
        "etc/runit/3": b"#!/bin/sh\n/usr/bin/sv -w5 force-stop /svc/app\n",
        "svc/app/run": b"#!/bin/sh\nexec /bin/probe\n",
    }
    programs = ("/usr/sbin/runit", "/usr/bin/runsvdir", "/usr/bin/runsv", "/usr/bin/sv")
    return tree_with(*programs, **files)


def busybox_init_tree() -> Tree:
    tree = small_tree({"bin/probe": PROBE})
    tree.put_symlink(b"sbin/init", b"../bin/busybox")
    tree.put_file(b"etc/inittab", b"::respawn:/bin/probe\n::shutdown:/bin/echo down\n", mode=0o644)
    return tree


def systemd_tree() -> Tree:
    """systemd with one service, out of this machine's own files."""
    tree = small_tree({"bin/probe": PROBE})
    for root in ("/usr/lib/systemd", "/lib/systemd", "/usr/lib/x86_64-linux-gnu/systemd"):
        for path in Path(root).rglob("*"):
            name = os.fsencode(path)
            if path.is_symlink():
                tree.put_symlink(name, os.fsencode(path.readlink()))
            elif path.is_file():
                tree.put_file(name, host_file(path), mode=path.stat().st_mode & 0o7777)
    for program in ("systemd/systemd", "systemd/systemd-shutdown", "systemd/systemd-journald"):
        put_program(tree, f"/lib/{program}")
    put_program(tree, "/bin/systemctl")
    tree.put_symlink(b"sbin/init", b"/lib/systemd/systemd")
    unit = b"[Service]\nExecStart=/bin/probe\nStandardOutput=journal+console\n"
    tree.put_file(b"etc/systemd/system/app.service", unit, mode=0o644)
    target = b"[Unit]\nWants=app.service\n"
    tree.put_file(b"etc/systemd/system/default.target", target, mode=0o644)
    tree.put_file(b"etc/machine-id", b"", mode=0o644)
    tree.put_file(b"etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
    tree.put_file(b"etc/group", b"root:x:0:\n", mode=0o644)
    return tree


ENDS_CLEANLY: list[tuple[str, Callable[[], Tree], list[str]]] = [
    ("s6", s6_tree, ["s6-svscan", "/svc"]),
    ("s6-overlay", s6_overlay_tree, ["/init"]),
    ("dumb-init", lambda: tree_with("/usr/bin/dumb-init"), ["dumb-init", "--", "probe", "a b"]),
    ("runit", runit_tree, ["/usr/sbin/runit"]),
    ("init", busybox_init_tree, ["/sbin/init"]),
    ("systemd", systemd_tree, ["/sbin/init"]),
]


@pytest.mark.parametrize(("init", "make", "command"), ENDS_CLEANLY)
def test_lxc_stop_ends_an_init_cleanly(
    guests: Guests,
    private_lxd: PrivateLxd,
    tmp_path: Path,
    init: str,
    make: Callable[[], Tree],
    command: list[str],
) -> None:
    alias, report = import_guest(private_lxd, tmp_path, make(), image_config(entrypoint=command))
    choice = report.supervisor
    assert (choice.mode, choice.init, choice.halt_signal) == ("exec", init, None)
    name = guests.launch(alias)
    guests.lxd.wait_console(name, "ready")
    # It is PID 1 itself, and knows where it runs.
    process = guests.lxd.shell(name, "tr '\\0' ' ' </proc/1/cmdline")
    assert "/.lxdocker" not in process
    assert "/busybox-lxd" not in process
    assert guests.environ(name, 1)["container"] == "lxc"
    if init == "s6-overlay":
        handler = "test -x /run/service/.s6-svscan/SIGPWR && echo there"
        eventually(
            lambda: guests.lxd.shell(name, handler, check=False),
            timeout_seconds=5,
            what="what makes s6 listen",
        )
    guests.lxd.stop(name)
    assert "got TERM" in guests.lxd.console_log(name)
    assert guests.state(name)["supervisor"] is False


def test_s6_of_another_user_in_a_directory_of_its_own_ends_cleanly(guests: Guests) -> None:
    tree = s6_tree()
    for path in (b"svc", b"svc/app"):
        tree.put_directory(path, mode=0o755, uid=1000, gid=1000)
    alias = guests.image(tree, image_config(entrypoint=["s6-svscan", "/svc"], user="1000:1000"))
    name = guests.launch(alias)
    guests.lxd.wait_console(name, "ready")
    assert guests.lxd.shell(name, "stat -c %u /svc/.s6-svscan/SIGPWR") == "1000\n"
    guests.lxd.stop(name)
    assert "got TERM" in guests.lxd.console_log(name)


@pytest.mark.parametrize("init", ["tini", "catatonit"])
def test_what_only_forwards_ends_cleanly_with_the_setting_that_is_named(
    guests: Guests, private_lxd: PrivateLxd, tmp_path: Path, init: str
) -> None:
    tree = tree_with(f"/usr/bin/{init}")
    config = image_config(entrypoint=[init, "--", "probe"], stop_signal="SIGQUIT")
    alias, report = import_guest(private_lxd, tmp_path, tree, config)
    choice = report.supervisor
    assert (choice.mode, choice.init) == ("exec", init)
    assert choice.halt_hint == "raw.lxc: lxc.signal.halt=3"
    name = guests.launch(alias, config={"raw.lxc": "lxc.signal.halt=3"})
    log = guests.wait_log(name, "ready")
    assert "set on this instance: raw.lxc=lxc.signal.halt=3" in log
    guests.lxd.stop(name)
    assert guests.lxd.console_log(name).rstrip().endswith("got QUIT")


def test_without_the_setting_tini_still_ends(guests: Guests) -> None:
    name = guests.run(
        tree_with("/usr/bin/tini"), image_config(entrypoint=["tini", "--", "sleep", "1000"])
    )
    guests.process(name, "sleep 1000")
    guests.lxd.stop(name)


def test_the_supervisor_can_be_forced(guests: Guests) -> None:
    tree = tree_with("/usr/bin/tini")
    config = image_config(entrypoint=["tini", "--", "probe"])
    name = guests.run(tree, config, disable_supervisor=False)
    guests.wait_log(name, "ready")
    assert "/sbin/init" in guests.lxd.shell(name, "tr '\\0' ' ' </proc/1/cmdline")
    guests.lxd.stop(name)
    assert guests.log(name).endswith("got TERM\n")


def test_the_supervisor_can_be_left_out(guests: Guests) -> None:
    # With PID 1 the kernel ends all others, the logger too, and what it hasn't read yet is lost.
    probe = PROBE.replace(b"echo got TERM;", b"echo got TERM; sleep 1;")
    tree = small_tree({"bin/probe": probe})
    tree.put_file(b"etc/passwd", b"web:x:101:102::/srv:/bin/sh\n", mode=0o644)
    tree.put_file(b"etc/group", b"web:x:102:\nlog:x:200:web\n", mode=0o644)
    config = image_config(cmd=["probe", "x y"], user="web", env=["A=b"], working_dir="/srv/w")
    alias = guests.image(tree, config, disable_supervisor=True)
    name = guests.launch(alias, config={"raw.lxc": "lxc.signal.halt=15"})
    log = guests.wait_log(name, "ready")
    assert "probe 1 1: x y\n" in log
    status = guests.lxd.shell(name, "grep -E 'Uid|Gid|Groups' /proc/1/status; readlink /proc/1/cwd")
    assert status.split() == [
        *("Uid:", "101", "101", "101", "101", "Gid:", "102", "102", "102", "102"),
        *("Groups:", "102", "200", "/srv/w"),
    ]
    assert guests.environ(name, 1)["A"] == "b"
    assert "inet " in guests.lxd.shell(name, "ip -4 addr show eth0")
    guests.lxd.stop(name)
    assert guests.log(name).endswith("got TERM\n")


def test_the_instance_decides_too(guests: Guests) -> None:
    tree = tree_with("/usr/bin/tini")
    alias = guests.image(tree, image_config(entrypoint=["tini", "--", "probe"]))
    name = guests.launch(alias, config={"user.lxdocker.supervisor": "true"})
    guests.wait_log(name, "ready")
    guests.lxd.stop(name)
    assert guests.log(name).endswith("got TERM\n")
    # Another entrypoint is no init, so the guest supervises it.
    name = guests.launch(alias, config={"user.lxdocker.entrypoint": "probe"})
    guests.wait_log(name, "ready")
    guests.lxd.stop(name)
    assert guests.log(name).endswith("got TERM\n")
