"""What an instance's own configuration changes: keys, script, environment file, names."""

import json

import pytest

from tests.guest.lxd_guest import PROBE, Guests, image_config, small_tree
from tests.harness.processes import eventually

pytestmark = pytest.mark.lxd

SHOW = b'#!/bin/sh\nfor a in "$0" "$@"; do echo "<$a>"; done\nid -u\npwd\n'


def show_image(guests: Guests, **how: str) -> str:
    tree = small_tree({"bin/show": SHOW, "bin/probe": PROBE})
    return guests.image(tree, image_config(entrypoint=["show"], cmd=["image"], **how))


def shown(guests: Guests, alias: str, config: dict[str, str]) -> list[str]:
    name = guests.launch(alias, config=config)
    guests.lxd.wait_status(name, "Stopped")
    lines = guests.log(name).splitlines()
    return [line for line in lines if not line.startswith("lxdocker: eth0")]


def test_cmd_and_entrypoint(guests: Guests) -> None:
    alias = show_image(guests)
    awkward = 'it\'s "q" $(touch /x) `id` %41+\nline two\t{{ 1+1 }} é☃'
    assert shown(guests, alias, {})[1:] == ["<image>", "0", "/"]
    config = {"user.lxdocker.cmd": json.dumps(["a b", awkward, ""])}
    printed = "\n".join(shown(guests, alias, config))
    assert f"<a b>\n<{awkward}>\n<>\n0\n/" in printed
    config = {"user.lxdocker.cmd": "one 'two three' \"$four\""}
    assert shown(guests, alias, config)[1:-2] == ["<one>", "<two three>", "<$four>"]
    # As in Docker, another entrypoint has no use for the image's cmd.
    config = {"user.lxdocker.entrypoint": "/bin/show own"}
    assert shown(guests, alias, config)[1:-2] == ["<own>"]
    config |= {"user.lxdocker.cmd": "more"}
    assert shown(guests, alias, config)[1:-2] == ["<own>", "<more>"]


def test_user_and_directory(guests: Guests) -> None:
    config = {"user.lxdocker.user": "1234:5678", "user.lxdocker.working_dir": "/else where"}
    assert shown(guests, show_image(guests), config)[-2:] == ["1234", "/else where"]


def test_a_command_that_can_t_be_read_does_not_start(guests: Guests) -> None:
    name = guests.launch(show_image(guests), config={"user.lxdocker.cmd": "'open"})
    guests.lxd.wait_status(name, "Stopped")
    assert "user.lxdocker.cmd: a quote isn't closed" in guests.log(name)
    assert guests.state(name)["exit_code"] == 126


def test_other_values_that_are_none_are_told_and_left_out(guests: Guests) -> None:
    config = {
        "user.lxdocker.restart": "sometimes",
        "user.lxdocker.stop_signal": "SIGNONE",
        "user.lxdocker.stop_timeout": "soon",
        "user.lxdocker.log_size": "1G",
        "user.lxdocker.network_wait": "08",
        "user.lxdocker.supervisor": "maybe",
        "user.lxdocker.working_dir": "relative",
        "user.lxdocker.health": "'",
    }
    name = guests.launch(show_image(guests), config=config)
    guests.lxd.wait_status(name, "Stopped")
    log = guests.log(name)
    console = guests.lxd.console_log(name)
    for key, value in config.items():
        assert f"{key}: '{value}' is no value for it, left out" in log + console
    assert guests.state(name)["exit_code"] == 0


def test_restart_and_stop_signal(guests: Guests) -> None:
    config = {
        "user.lxdocker.entrypoint": "probe",
        "user.lxdocker.stop_signal": "sigquit",
        "user.lxdocker.restart": "always",
    }
    name = guests.launch(show_image(guests), config=config)
    guests.wait_log(name, "ready")
    guests.lxd.shell(name, f"kill -TERM {guests.process(name, '/bin/probe')}")
    guests.wait_log(name, "ended with code 7; start 2 in 1 s")
    eventually(
        lambda: guests.log(name).count("ready") == 2, timeout_seconds=10, what="the second start"
    )
    guests.lxd.stop(name)
    assert guests.log(name).endswith("got QUIT\n")


def test_health_of_the_instance(guests: Guests) -> None:
    config = {"user.lxdocker.entrypoint": "probe", "user.lxdocker.health": "test -e '/a b'"}
    name = guests.launch(show_image(guests), config=config)
    guests.wait_log(name, "ready")
    assert guests.lxd.exec(name, "/.lxdocker/run", "--health", check=False).returncode == 1
    guests.lxd.shell(name, "touch '/a b'")
    assert guests.lxd.exec(name, "/.lxdocker/run", "--health").returncode == 0


def test_a_changed_key_counts_from_the_next_start(guests: Guests) -> None:
    alias = show_image(guests)
    name = guests.launch(alias, config={"user.lxdocker.cmd": "first"})
    guests.lxd.wait_status(name, "Stopped")
    # LXD's own bookkeeping of the end takes a moment longer than the status shows.
    for command in (("config", "set", name, "user.lxdocker.cmd", "second"), ("start", name)):
        eventually(
            lambda command=command: guests.lxd.lxc(*command, check=False).returncode == 0,  # type: ignore[misc]  # bound default
            timeout_seconds=8,
            what=" ".join(command),
        )
    guests.wait_log(name, "<second>")
    guests.lxd.wait_status(name, "Stopped")


def test_the_script_before_the_command(guests: Guests) -> None:
    script = """echo "script as $(id -u) in $PWD with $FROM_IMAGE"
mkdir -p /made; echo 'FROM_FILE="by $script"' >/made/env
exit 3
"""
    tree = small_tree({"bin/app": b'#!/bin/sh\necho "app with $FROM_FILE"\n'})
    config = image_config(
        cmd=["app"], env=["FROM_IMAGE=image", "LXDOCKER_ENVFILE=/made/env"], user="1000"
    )
    alias = guests.image(tree, config)
    name = guests.launch(alias, config={"user.lxdocker_init_script": script})
    guests.lxd.wait_status(name, "Stopped")
    log = guests.log(name)
    assert "script as 0 in / with image\n" in log
    assert "/lxd-prelaunch ended with code 3" in log
    # Read after the script, as data: nothing in it is replaced.
    assert "app with by $script\n" in log
    assert guests.state(name)["prelaunch_exit_code"] == 3


def test_a_script_may_name_its_interpreter(guests: Guests) -> None:
    tree = small_tree(
        {"opt/own": b"#!/bin/sh\necho own interpreter of $1; shift\nexec /bin/sh -c 'echo done'\n"}
    )
    alias = guests.image(tree, image_config(cmd=["sh", "-c", "echo app"]))
    name = guests.launch(alias, config={"user.lxdocker_init_script": "#!/opt/own\nanything\n"})
    guests.lxd.wait_status(name, "Stopped")
    assert "own interpreter of /lxd-prelaunch\ndone\napp\n" in guests.log(name)


def test_without_a_script_nothing_runs(guests: Guests) -> None:
    name = guests.launch(show_image(guests))
    guests.lxd.wait_status(name, "Stopped")
    assert guests.state(name)["prelaunch_exit_code"] is None


def test_an_environment_file_that_is_missing_is_told(guests: Guests) -> None:
    name = guests.launch(show_image(guests), config={"environment.LXDOCKER_ENVFILE": "/nowhere"})
    guests.lxd.wait_status(name, "Stopped")
    assert "/nowhere: no such file (LXDOCKER_ENVFILE)" in guests.log(name)


def test_the_instance_s_path_wins(guests: Guests) -> None:
    tree = small_tree({"own/hello": b"#!/bin/sh\necho own $PATH\n"})
    alias = guests.image(tree, image_config(cmd=["hello"], env=["PATH=/bin"]))
    # LXD's own hooks need the system's directories in it.
    path = "/own:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    name = guests.launch(alias, config={"environment.PATH": path})
    guests.lxd.wait_status(name, "Stopped")
    assert f"own {path}\n" in guests.log(name)


@pytest.mark.parametrize(
    "etc",
    [
        "",
        "absolute link",
        *(
            pytest.param(kind, marks=pytest.mark.full)
            for kind in ("directory", "relative link", "linked file")
        ),
    ],
)
def test_hostname_and_hosts(guests: Guests, etc: str) -> None:
    """A template that meets an absolute link keeps an instance from starting."""
    tree = small_tree({"bin/probe": PROBE})
    if etc == "directory":
        tree.put_file(b"etc/hosts", b"image's own\n", mode=0o644)
    elif etc == "absolute link":
        tree.put_directory(b"real/etc", mode=0o755)
        tree.put_symlink(b"etc", b"/real/etc")
    elif etc == "relative link":
        tree.put_directory(b"real/etc", mode=0o755)
        tree.put_symlink(b"etc", b"real/etc")
    elif etc == "linked file":
        tree.put_symlink(b"etc/hosts", b"/nowhere/hosts")
    name = guests.run(tree, image_config(cmd=["probe"]))
    guests.wait_log(name, "ready")
    assert guests.lxd.shell(name, "cat /etc/hostname") == f"{name}\n"
    assert f"127.0.1.1\t{name}\n" in guests.lxd.shell(name, "cat /etc/hosts")
    guests.lxd.shell(name, "echo '10.0.0.1 mine' >>/etc/hosts")
    guests.lxd.stop(name)
    guests.lxd.start(name)
    assert "10.0.0.1 mine" in guests.lxd.shell(name, "cat /etc/hosts")
    guests.lxd.stop(name)
    renamed = f"{name}x"
    guests.lxd.lxc("rename", name, renamed)
    guests.lxd.start(renamed)
    try:
        eventually(
            lambda: guests.lxd.shell(renamed, "cat /etc/hostname") == f"{renamed}\n",
            timeout_seconds=10,
            what="the new name",
        )
    finally:
        guests.lxd.delete(renamed)
