"""Mounts, kernel settings and rights inside, and the log file's size."""

from pathlib import Path

import pytest

from tests.guest.lxd_guest import PROBE, Guests, host_file, image_config, put_program, small_tree
from tests.harness.processes import eventually

pytestmark = pytest.mark.lxd


def running(guests: Guests, **files: bytes) -> str:
    tree = small_tree({"bin/probe": PROBE, **files})
    name = guests.run(tree, image_config(cmd=["probe"]))
    guests.wait_log(name, "ready")
    return name


def mounts(guests: Guests, name: str) -> dict[str, tuple[str, str]]:
    lines = guests.lxd.shell(name, "cat /proc/mounts").splitlines()
    return {line.split()[1]: (line.split()[2], line.split()[3]) for line in lines}


def test_what_docker_mounts_is_there(guests: Guests) -> None:
    found = mounts(guests, running(guests))
    assert found["/dev/shm"][0] == "tmpfs"
    assert found["/dev/mqueue"][0] == "mqueue"
    for point in ("/dev/shm", "/dev/mqueue", "/tmp", "/run"):
        assert {"nosuid", "nodev"} <= set(found[point][1].split(",")), point
    assert any(point.startswith("/sys/fs/cgroup") for point in found)


def test_shared_memory_is_for_all(guests: Guests) -> None:
    name = running(guests)
    listed = guests.lxd.shell(name, "stat -c %a /dev/shm /tmp /run; df -k /dev/shm | tail -n 1")
    assert listed.split()[:3] == ["1777", "1777", "755"]
    # More than the 492 KiB of /dev itself.
    assert int(listed.split()[4]) > 100_000


def test_a_tmpfs_hides_nothing_of_the_image(guests: Guests) -> None:
    tree = small_tree({"bin/probe": PROBE})
    tree.put_directory(b"tmp", mode=0o700, uid=5, gid=6)
    tree.put_file(b"run/nginx/keep", b"kept", mode=0o644)
    name = guests.run(tree, image_config(cmd=["probe"]))
    guests.wait_log(name, "ready")
    found = mounts(guests, name)
    assert "/run" not in found
    assert guests.lxd.shell(name, "cat /run/nginx/keep") == "kept"
    assert found["/tmp"][0] == "tmpfs"
    assert guests.lxd.shell(name, "stat -c %a:%u:%g /tmp") == "700:5:6\n"


def test_the_spec_s_own_list_of_tmpfs(guests: Guests) -> None:
    tree = small_tree({"bin/probe": PROBE})
    tree.put_directory(b"var/cache/my app", mode=0o770, uid=7, gid=8)
    config = image_config(cmd=["probe"])
    name = guests.run(tree, config, tmpfs=("/var/cache/my app", "/scratch"))
    guests.wait_log(name, "ready")
    found = mounts(guests, name)
    assert "/tmp" not in found
    assert "/scratch" in found
    assert guests.lxd.shell(name, "stat -c %a:%u:%g '/var/cache/my app'") == "770:7:8\n"


def test_what_the_operator_mounted_stays_visible(guests: Guests, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "given").write_text("given")
    tree = small_tree({"bin/probe": PROBE})
    alias = guests.image(tree, image_config(cmd=["probe"]))
    disk = {"type": "disk", "source": str(tmp_path), "path": "/run/given"}
    name = guests.launch(alias, devices={"given": disk})
    guests.wait_log(name, "ready")
    assert guests.lxd.shell(name, "cat /run/given/given") == "given"


def test_forwarding_is_off_and_ports_are_free(guests: Guests) -> None:
    name = running(guests)
    settings = "ipv4/ip_forward ipv6/conf/all/forwarding ipv4/ip_unprivileged_port_start"
    shown = guests.lxd.shell(name, f"cd /proc/sys/net; cat {settings} ipv4/ping_group_range")
    assert shown.split()[:4] == ["0", "0", "0", "0"]
    assert int(shown.split()[4]) > 65535


def test_a_user_on_port_80(guests: Guests) -> None:
    script = b"#!/bin/sh\necho hello >/tmp/index.html\nexec httpd -f -p 80 -h /tmp\n"
    name = guests.run(small_tree({"bin/web": script}), image_config(cmd=["web"], user="1000"))
    address = guests.lxd.address(name)
    eventually(
        lambda: "hello" in guests.lxd.shell(name, f"wget -qO- http://{address}/", check=False),
        timeout_seconds=10,
        what="an answer",
    )
    process = guests.process(name, "httpd -f")
    assert guests.lxd.shell(name, f"stat -c %u /proc/{process}") == "1000\n"


def test_file_capabilities_work(guests: Guests) -> None:
    """CAP_CHOWN on a file lets a user give files away; without it, the same program can't."""
    tree = small_tree()
    # struct vfs_cap_data: revision 2 with the effective flag, CAP_CHOWN (bit 0) permitted.
    value = bytes.fromhex("01000002" + "01000000" + "00000000" + "00000000" + "00000000")
    tree.put_file(
        b"bin/busybox-cap",
        host_file("/bin/busybox"),
        mode=0o755,
        xattrs=((b"security.capability", value),),
    )
    script = "echo x >/tmp/f; /bin/busybox chown 5:5 /tmp/f; /bin/busybox-cap chown 5:5 /tmp/f; ls -n /tmp"
    name = guests.run(tree, image_config(cmd=["sh", "-c", script], user="1000:1000"))
    guests.lxd.wait_status(name, "Stopped")
    log = guests.log(name)
    assert "Operation not permitted" in log
    assert " 5 " in log.splitlines()[-1]


def test_a_volume_the_image_lacks_is_made(guests: Guests) -> None:
    tree = small_tree({"bin/probe": PROBE})
    name = guests.run(tree, image_config(cmd=["probe"], volumes=["/data/here"]))
    guests.wait_log(name, "ready")
    assert guests.lxd.shell(name, "stat -c %F /data/here") == "directory\n"


def test_the_log_file_rotates_without_losing_a_line(guests: Guests) -> None:
    script = b'#!/bin/sh\ni=0\nwhile [ $i -lt 40000 ]; do i=$((i+1)); echo "line number $i"; done\n'
    alias = guests.image(small_tree({"bin/app": script}), image_config(cmd=["app"]))
    name = guests.launch(alias, config={"user.lxdocker.log_size": "256K"})
    guests.lxd.wait_status(name, "Stopped", timeout_seconds=60)
    older = guests.lxd.file_pull(name, "/.lxdocker/log.1") or b""
    newer = guests.lxd.file_pull(name, "/.lxdocker/log") or b""
    assert 262_144 <= len(older) < 262_144 + (1 << 20) + 4096
    assert len(newer) < 262_144 + (1 << 20) + 4096
    lines = (older + newer).decode().splitlines()
    numbers = [int(line.split()[-1]) for line in lines if line.startswith("line number")]
    # From some line on, every one up to the last, each once.
    assert numbers == list(range(numbers[0], 40001))


def test_a_log_size_of_zero_writes_no_file(guests: Guests) -> None:
    alias = guests.image(small_tree({"bin/probe": PROBE}), image_config(cmd=["probe"]))
    name = guests.launch(alias, config={"user.lxdocker.log_size": "0"})
    guests.lxd.wait_console(name, "ready")
    assert guests.lxd.file_pull(name, "/.lxdocker/log") is None
    guests.lxd.stop(name)
    assert "got TERM" in guests.lxd.console_log(name)


def test_a_full_disk_holds_up_nobody(guests: Guests) -> None:
    script = b"""#!/bin/sh
i=0
while [ $i -lt 20000 ]; do i=$((i+1)); echo "line number $i"; done
echo all written
: >/small/freed
rm /small/fill
echo after the disk has room again
"""
    prelaunch = "mkdir /small; mount -t tmpfs -o size=96k tmpfs /small; ln -s /small/log /.lxdocker/log.new;"
    prelaunch += (
        " dd if=/dev/zero of=/small/fill bs=1k count=40; mv -f /.lxdocker/log.new /.lxdocker/log"
    )
    alias = guests.image(
        small_tree({"bin/app": script, "bin/rm": b"#!/bin/sh\nexec /bin/busybox rm $1\n"}),
        image_config(cmd=["app"]),
    )
    name = guests.launch(alias, config={"user.lxdocker_init_script": prelaunch})
    guests.lxd.wait_status(name, "Stopped", timeout_seconds=30)
    console = guests.lxd.console_log(name)
    assert "line number 20000\nall written\nafter the disk has room again\n" in console
    assert guests.state(name)["exit_code"] == 0


def test_a_real_program_with_libraries(guests: Guests) -> None:
    tree = small_tree()
    put_program(tree, "/usr/bin/env")
    name = guests.run(tree, image_config(cmd=["/usr/bin/env"], env=["A.b=c d"]))
    guests.lxd.wait_status(name, "Stopped")
    assert "A.b=c d\n" in guests.log(name)
