"""The command starts as in Docker: arguments, environment, user, directory, output."""

import re

import pytest

from lxdocker_lxd.convert.supervisor import DEFAULT_PATH
from tests.guest.lxd_guest import PROBE, Guests, bare_tree, image_config, small_tree
from tests.harness.processes import eventually, run

pytestmark = pytest.mark.lxd

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/sh\n"
GROUP = b"root:x:0:\nweb:x:102:\nlog:x:200:web\nmedia:x:300:other,web\n"


def accounts(tree: object) -> None:
    tree.put_file(b"etc/passwd", PASSWD, mode=0o644)  # type: ignore[attr-defined]  # a Tree
    tree.put_file(b"etc/group", GROUP, mode=0o644)  # type: ignore[attr-defined]  # a Tree


def test_arguments_environment_and_directory(guests: Guests) -> None:
    awkward = "'\"$(touch /canary)`touch /canary`\\ \n*;é"
    tree = small_tree({"bin/probe": PROBE})
    alias = guests.image(
        tree,
        image_config(
            entrypoint=["probe"],
            cmd=["a b", "", awkward],
            env=["PLAIN=image", "BOTH=image", f"AWKWARD={awkward}", "odd.name-1=x"],
            working_dir="/made/for it",
        ),
    )
    name = guests.launch(alias, config={"environment.BOTH": "instance", "environment.NEW": "1"})
    guests.wait_log(name, "ready")
    process = guests.process(name, "/bin/probe")
    raw = guests.lxd.exec(name, "/busybox-lxd", "cat", f"/proc/{process}/cmdline").stdout
    # The kernel puts the interpreter of a script and its path first.
    assert raw.split("\0")[-4:] == ["a b", "", awkward, ""]
    env = guests.environ(name, process)
    assert env.pop("HOSTNAME") == name
    assert env == {
        "PATH": DEFAULT_PATH,
        "HOME": "/",
        "PLAIN": "image",
        "BOTH": "instance",
        "NEW": "1",
        "AWKWARD": awkward,
        "odd.name-1": "x",
    }
    assert guests.lxd.shell(name, f"readlink /proc/{process}/cwd") == "/made/for it\n"
    assert guests.lxd.shell(name, "ls /canary 2>/dev/null", check=False) == ""


def test_the_program_sees_the_name_it_was_called_by(guests: Guests) -> None:
    # /proc/PID/cmdline of a program that is no script starts with argv[0].
    name = guests.run(small_tree(), image_config(entrypoint=["sleep", "1000"]))
    process = guests.process(name, "1000")
    raw = guests.lxd.exec(name, "/busybox-lxd", "cat", f"/proc/{process}/cmdline").stdout
    assert raw == "sleep\0" + "1000\0"


def test_the_guest_s_applets_never_stand_in_for_the_image_s_programs(guests: Guests) -> None:
    """busybox runs its own applet for any bare name, whatever PATH says."""
    tree = small_tree({"opt/bin/id": b"#!/bin/sh\necho the image has its own id\n"})
    name = guests.run(tree, image_config(entrypoint=["id"], env=["PATH=/opt/bin:/bin"]))
    guests.lxd.wait_status(name, "Stopped")
    assert "the image has its own id" in guests.log(name)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("web", "uid=101(web) gid=102(web) groups=102(web),200(log),300(media) /srv/web"),
        ("101", "uid=101(web) gid=102(web) groups=102(web),200(log),300(media) /srv/web"),
        ("web:log", "uid=101(web) gid=200(log) groups=200(log) /srv/web"),
        ("4711:4712", "uid=4711 gid=4712 groups=4712 /"),
    ],
)
def test_user_and_groups(guests: Guests, user: str, expected: str) -> None:
    tree = small_tree()
    accounts(tree)
    tree.put_symlink(b"etc/passwd-link", b"passwd")
    config = image_config(entrypoint=["/bin/sh", "-c", "echo $(id) $HOME"], user=user)
    name = guests.run(tree, config)
    guests.lxd.wait_status(name, "Stopped")
    # id lists the primary group among the supplementary ones only where they were set.
    shown = re.sub(r"(gid=(\d+)(\([a-z]+\))?) /", r"\1 groups=\2\3 /", guests.log(name))
    assert expected in shown


def test_numbers_need_no_passwd_at_all(guests: Guests) -> None:
    name = guests.run(small_tree(), image_config(entrypoint=["id"], user="1000:1000"))
    guests.lxd.wait_status(name, "Stopped")
    assert "uid=1000 gid=1000" in guests.log(name)


def test_an_unknown_user_is_told_and_kept(guests: Guests) -> None:
    name = guests.run(small_tree({"bin/probe": PROBE}), image_config(cmd=["probe"], user="nobody"))
    guests.lxd.wait_status(name, "Stopped")
    problem = "user nobody: not in the image's /etc/passwd"
    assert problem in guests.log(name)
    state = guests.state(name)
    assert (state["exit_code"], state["problem"]) == (126, problem)


def test_a_missing_program_is_told_and_kept(guests: Guests) -> None:
    name = guests.run(small_tree(), image_config(cmd=["no-such-program"]))
    guests.lxd.wait_status(name, "Stopped")
    assert "no-such-program: not found in PATH=/usr/local/sbin" in guests.lxd.console_log(name)
    assert guests.state(name)["exit_code"] == 127


def test_output_is_on_the_console_and_in_the_log_file(guests: Guests) -> None:
    script = b"#!/bin/sh\necho to stdout\necho to stderr >&2\n[ -t 1 ] || echo no terminal\n"
    name = guests.run(small_tree({"bin/app": script}), image_config(cmd=["app"]))
    guests.lxd.wait_status(name, "Stopped")
    for shown in (guests.log(name), guests.lxd.console_log(name)):
        assert "to stdout\nto stderr\nno terminal\n" in shown


def test_any_user_can_open_stdout_by_path(guests: Guests) -> None:
    """A console or plain pipe refuses this: nginx's access log is a link to /dev/stdout."""
    script = b"""#!/bin/sh
echo by path >/dev/stdout
echo err by path >/dev/stderr
echo by number >/proc/self/fd/1
echo by link >/var/log/access.log
"""
    tree = small_tree({"bin/app": script})
    tree.put_symlink(b"var/log/access.log", b"/dev/stdout")
    name = guests.run(tree, image_config(cmd=["app"], user="1000:1000"))
    guests.lxd.wait_status(name, "Stopped")
    assert "by path\nerr by path\nby number\nby link\n" in guests.log(name)


@pytest.fixture(scope="module")
def static_program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("static")
    (directory / "hello.c").write_text(
        "#include <stdio.h>\n#include <unistd.h>\n"
        'int main(void) { printf("hello from %d as %d\\n", getpid() > 1, getuid()); return 5; }\n'
    )
    run("gcc", "-static", "-o", directory / "hello", directory / "hello.c")
    return (directory / "hello").read_bytes()


def test_one_static_program_on_an_empty_root(guests: Guests, static_program: bytes) -> None:
    """No shell, no /etc, no /sbin."""
    name = guests.run(
        bare_tree({"hello": static_program}), image_config(entrypoint=["/hello"], user="65532")
    )
    guests.lxd.wait_status(name, "Stopped")
    assert "hello from 1 as 65532" in guests.log(name)
    assert guests.state(name)["exit_code"] == 5


@pytest.mark.parametrize("target", [b"usr/sbin", b"/usr/sbin", b"../usr/sbin"])
def test_a_symlinked_sbin(guests: Guests, target: bytes) -> None:
    tree = small_tree({"bin/probe": PROBE, "usr/sbin/init": b"#!/bin/sh\necho own init\n"})
    tree.put_symlink(b"sbin", target)
    tree.put_symlink(b"usr/sbin/busy", b"../../bin/busybox")
    name = guests.run(tree, image_config(cmd=["probe"]))
    guests.wait_log(name, "ready")
    # Bound back over the guest's own, for whatever looks for the image's init.
    assert guests.lxd.exec(name, "/sbin/init").stdout == "own init\n"
    guests.lxd.stop(name)


def test_a_linked_init_keeps_its_meaning(guests: Guests) -> None:
    tree = small_tree({"bin/probe": PROBE, "sbin/other": b"#!/bin/sh\necho other init\n"})
    tree.put_symlink(b"sbin/init", b"other")
    name = guests.run(tree, image_config(cmd=["probe"]))
    guests.wait_log(name, "ready")
    # LXD may lose what a program says that ends at once.
    eventually(
        lambda: guests.lxd.exec(name, "/sbin/init").stdout == "other init\n",
        timeout_seconds=20,
        what="the linked init to say its name",
    )


def test_run_starts_programs_as_the_entrypoint(guests: Guests) -> None:
    tree = small_tree({"bin/probe": PROBE, "bin/check": b"#!/bin/sh\n[ -e /tmp/well ]\n"})
    accounts(tree)
    config = image_config(
        entrypoint=["probe"], env=["A=image"], user="web", working_dir="/srv", health=["check"]
    )
    name = guests.run(tree, config)
    guests.wait_log(name, "ready")
    shown = guests.lxd.exec(name, "/.lxdocker/run", "sh", "-c", "id; pwd; echo $A $HOME").stdout
    assert shown.splitlines()[1:] == ["/srv", "image /srv/web"]
    assert "uid=101(web)" in shown
    assert "300(media)" in shown
    assert guests.lxd.shell(name, "ls /.lxdocker/live/run.* 2>/dev/null", check=False) == ""
    missing = guests.lxd.exec(name, "/.lxdocker/run", "nothing", check=False)
    assert (missing.returncode, "not found" in missing.stderr) == (127, True)
    assert guests.lxd.exec(name, "/.lxdocker/run", "--health", check=False).returncode == 1
    guests.lxd.shell(name, "touch /tmp/well")
    assert guests.lxd.exec(name, "/.lxdocker/run", "--health").returncode == 0


def test_a_health_check_that_hangs_counts_as_failed(guests: Guests) -> None:
    config = image_config(cmd=["probe"], health=["sleep", "100"])
    name = guests.run(small_tree({"bin/probe": PROBE}), config)
    guests.wait_log(name, "ready")
    hung = guests.lxd.exec(name, "/.lxdocker/run", "--health", check=False, timeout_seconds=10)
    assert hung.returncode == 1


def test_other_users_write_the_log_and_cannot_read_it(guests: Guests) -> None:
    """Whoever reads from the pipe would take lines of others out of the log."""
    script = b"""#!/bin/sh
echo by path >/dev/stdout
(exec 5</dev/stdout) 2>/dev/null && echo reads || echo "can't read"
(exec 5<>/dev/stdout) 2>/dev/null && echo reads || echo "can't read"
cat /.lxdocker/log 2>/dev/null || echo "can't see"
sleep 60
"""
    name = guests.run(small_tree({"bin/app": script}), image_config(cmd=["app"], user="1000:1000"))
    guests.wait_log(name, "can't see")
    assert "by path\ncan't read\ncan't read\ncan't see\n" in guests.log(name)
    modes = "stat -c '%a %n' /.lxdocker/log /.lxdocker/live/out"
    expected = "640 /.lxdocker/log\n622 /.lxdocker/live/out\n"
    assert guests.lxd.shell(name, modes) == expected
    guests.lxd.shell(name, "cp /.lxdocker/log /.lxdocker/log.1; chmod 644 /.lxdocker/log*")
    guests.lxd.stop(name, force=True)
    guests.lxd.start(name)
    guests.lxd.wait_console(name, "can't see")
    assert guests.lxd.shell(name, "stat -c %a /.lxdocker/log /.lxdocker/log.1") == "640\n640\n"
