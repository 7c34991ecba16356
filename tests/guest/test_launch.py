"""Environment, arguments, user and program of the command, as the guest's shell prepares them."""

import os
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.supervisor import DEFAULT_PATH
from tests.guest.guest_shell import GuestShell, items, joined
from tests.harness.processes import run

pytestmark = pytest.mark.tools

# Any bytes but NUL; those that mean something to a shell, and those ash uses for its own marks
# (0x81 to 0x88), come often.
BYTES = st.lists(
    st.sampled_from(
        [bytes([code]) for code in (*b"\"'\\$`;|&<>(){}[]*?~#=! \n\t\r-", *range(0x7F, 0x90), 0xFF)]
    )
    | st.binary(min_size=1, max_size=4).filter(lambda raw: b"\0" not in raw),
    max_size=12,
).map(b"".join)
NAME = BYTES.map(lambda raw: raw.replace(b"=", b"")).filter(bool)


def prepare(guest: GuestShell, env: bytes, argv: list[bytes]) -> None:
    (guest.live / "env").write_bytes(env)
    (guest.live / "argv").write_bytes(joined(argv))


def launch(guest: GuestShell, program: str, zeroth: bytes) -> bytes:
    done = guest.run(
        f'uid=0 gid=0 groups=none; launch "{program}" "$1"',
        zeroth,
        env={b"LEAKED": b"1", b"PATH": b"/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@given(st.dictionaries(NAME, BYTES, max_size=8))
def test_any_environment_arrives_byte_for_byte(
    shared_guest: GuestShell, env: dict[bytes, bytes]
) -> None:
    given_items = [name + b"=" + value for name, value in env.items()]
    prepare(shared_guest, joined(given_items), [b"cat", b"/proc/self/environ"])
    assert sorted(items(launch(shared_guest, "/bin/cat", b"cat"))) == sorted(given_items)


@given(BYTES, st.lists(BYTES, max_size=8))
def test_any_arguments_arrive_byte_for_byte_and_none_is_run(
    shared_guest: GuestShell, zeroth: bytes, argv: list[bytes]
) -> None:
    canary = shared_guest.directory / "canary"
    argv = [*argv, f"$(touch {canary})`touch {canary}`';touch {canary};\"".encode()]
    # The reporter ignores its arguments and shows them as the kernel has them.
    prepare(shared_guest, b"", [zeroth, *argv])
    reporter = shared_guest.directory / "reporter"
    if not reporter.exists():
        reporter.symlink_to(_arguments_reporter(shared_guest))
    shown = launch(shared_guest, str(reporter), zeroth)
    assert items(shown) == [zeroth, *argv]
    assert not canary.exists()


def _arguments_reporter(guest: GuestShell) -> Path:
    """A program that writes its own command line; it must not care what its arguments are."""
    source = guest.directory / "reporter.c"
    source.write_text(
        "#include <stdio.h>\n#include <string.h>\n"
        "int main(int c, char **v) { for (int i = 0; i < c; i++)"
        " fwrite(v[i], 1, strlen(v[i]) + 1, stdout); return 0; }\n"
    )
    program = guest.directory / "reporter.bin"
    run("gcc", "-o", program, source)
    return program


def test_of_one_name_the_last_value_counts(guest: GuestShell) -> None:
    prepare(
        guest, joined([b"A=1", b"PATH=/x", b"A=2", b"PATH=/y"]), [b"cat", b"/proc/self/environ"]
    )
    assert sorted(items(launch(guest, "/bin/cat", b"cat"))) == [b"A=2", b"PATH=/y"]


# ---- the environment, put together


def build(guest: GuestShell, image: list[bytes], *, mode: str = "supervise") -> dict[bytes, bytes]:
    (guest.directory / "image" / "env").write_bytes(joined(image))
    # PID 1's environment is this process's here; `say` is init's.
    done = guest.run(
        f'say() {{ echo "$*" >&2; }}; user=""; mode={mode}; build_environment;'
        " read_env_file; echo $found_user"
    )
    assert done.stdout == b"0\n", done.stderr
    pairs = [item.partition(b"=") for item in items((guest.live / "env").read_bytes())]
    return {name: value for name, _, value in pairs}


@pytest.fixture
def instance(guest: GuestShell) -> Path:
    """The file that stands for /proc/1/environ: what LXD gave the instance."""
    environ = guest.directory / "environ"
    environ.write_bytes(b"container=lxc\0")
    script = guest.directory / "prepare.sh"
    script.write_bytes(script.read_bytes().replace(b"/proc/1/environ", bytes(environ)))
    return environ


@pytest.mark.usefixtures("instance")
def test_docker_s_defaults_are_the_weakest(guest: GuestShell) -> None:
    (guest.etc / "passwd").write_bytes(b"root:x:0:0:root:/rootly:/bin/sh\n")
    built = build(guest, [])
    assert built[b"PATH"] == DEFAULT_PATH.encode()
    assert built[b"HOME"] == b"/rootly"
    assert built[b"HOSTNAME"] == os.uname().nodename.encode()
    assert set(built) == {b"PATH", b"HOME", b"HOSTNAME"}
    built = build(guest, [b"PATH=/opt/bin", b"HOME=/data", b"HOSTNAME=fixed"])
    assert built == {b"PATH": b"/opt/bin", b"HOME": b"/data", b"HOSTNAME": b"fixed"}


def test_image_then_envfile_then_instance(guest: GuestShell, instance: Path) -> None:
    envfile = guest.directory / "envfile"
    envfile.write_bytes(b"A=file\nB=file\nPATH=/file\n")
    image = [b"A=image", b"B=image", b"C=image", b"D.E=image", b"LXDOCKER_ENVFILE=/none"]
    instance.write_bytes(
        joined([b"container=lxc", b"A=instance", b"LXDOCKER_ENVFILE=" + bytes(envfile)])
    )
    built = build(guest, image)
    assert (built[b"A"], built[b"B"], built[b"C"]) == (b"instance", b"file", b"image")
    assert built[b"D.E"] == b"image"
    assert built[b"PATH"] == b"/file"
    assert b"container" not in built


def test_the_instance_s_path_wins_over_all(guest: GuestShell, instance: Path) -> None:
    instance.write_bytes(joined([b"PATH=/instance:/bin"]))
    assert build(guest, [b"PATH=/image"])[b"PATH"] == b"/instance:/bin"


@pytest.mark.usefixtures("instance")
def test_an_init_of_the_image_learns_that_it_runs_in_lxc(guest: GuestShell) -> None:
    assert build(guest, [], mode="exec")[b"container"] == b"lxc"


# ---- the program


def find_program(guest: GuestShell, name: str, cwd: str, path: str) -> tuple[int, str]:
    done = guest.run(
        'find_program "$1" "$2" "$3"; echo "$?:$program"',
        name.encode(),
        cwd.encode(),
        path.encode(),
    )
    code, _, program = done.stdout.decode().removesuffix("\n").partition(":")
    return int(code), program


def test_programs_are_found_where_the_kernel_would(guest: GuestShell, tmp_path: Path) -> None:
    for name in ("one", "two", "two dirs/deep"):
        program = tmp_path / name / "id"
        program.parent.mkdir(parents=True)
        program.write_bytes(b"#!/bin/sh\n")
        program.chmod(0o755)
    (tmp_path / "one" / "id").chmod(0o644)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    # Never a bare name: busybox would take its own applet for it.
    assert find_program(guest, "id", "/", f"{one}:{two}") == (0, f"{two}/id")
    assert find_program(guest, "id", two, "relative::/nowhere") == (0, f"{two}/id")
    assert find_program(guest, f"{two}/id", "/", "") == (0, f"{two}/id")
    assert find_program(guest, "deep/id", f"{tmp_path}/two dirs", "") == (
        0,
        f"{tmp_path}/two dirs/deep/id",
    )
    assert find_program(guest, "id", "/", one) == (126, "")
    assert find_program(guest, "sh", "/", "/nowhere") == (127, "")
    assert find_program(guest, "", "/", two) == (127, "")
    assert find_program(guest, f"{one}/id", "/", "") == (126, "")
    assert find_program(guest, one, "/", "") == (126, "")


# ---- the user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
web:x:101:102:Web::/bin/sh
101x:x:7:8::/seven:
broken line
twin:x:101:50::/twin:/bin/sh
1000:x:2000:3000::/thousand:/bin/sh
"""
GROUP = b"""root:x:0:
web:x:102:
log:x:200:web,other
adm:x:4:twin
600:x:700:
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0:0:/root:none"),
        ("root", "0:0:/root:none"),
        ("0", "0:0:/root:none"),
        ("web", "101:102::all"),
        ("101", "101:102::all"),
        ("101x", "7:8:/seven:none"),
        ("1000", "2000:3000:/thousand:none"),
        ("4711", "4711:0::none"),
        ("4711:4712", "4711:4712::none"),
        ("web:log", "101:200::none"),
        ("web:999", "101:999::none"),
        ("web:600", "101:700::none"),
        (":log", "0:200:/root:none"),
        # A second name of a uid: its groups can't be had, so it gets none rather than another's.
        ("twin", "101:50:/twin:none"),
    ],
)
def test_users_are_resolved_as_docker_does(guest: GuestShell, user: str, expected: str) -> None:
    (guest.etc / "passwd").write_bytes(PASSWD)
    (guest.etc / "group").write_bytes(GROUP)
    done = guest.run('find_user "$1" && echo "$uid:$gid:$user_home:$groups"', user.encode())
    assert done.stdout.decode() == f"{expected}\n", done.stderr


@pytest.mark.parametrize("user", ["nobody", "web:nogroup", "4711:nogroup", "-1", "99999999999"])
def test_who_is_not_there_is_an_error(guest: GuestShell, user: str) -> None:
    (guest.etc / "passwd").write_bytes(PASSWD)
    (guest.etc / "group").write_bytes(GROUP)
    done = guest.run('find_user "$1"; echo "$?:$problem"', user.encode())
    code, _, problem = done.stdout.decode().partition(":")
    assert code == "126"
    assert "not in the image's /" in problem


def test_numbers_need_no_passwd(guest: GuestShell) -> None:
    done = guest.run('find_user 1000:1001 && echo "$uid:$gid:$groups"')
    assert done.stdout == b"1000:1001:none\n"


def test_a_passwd_line_is_data(guest: GuestShell) -> None:
    canary = guest.directory / "canary"
    home = f"/$(touch {canary})`touch {canary}`".encode()
    (guest.etc / "passwd").write_bytes(b"web:x:5:6:;touch x;:" + home + b":/bin/sh\n")
    done = guest.run('find_user web && printf "%s" "$user_home"')
    assert done.stdout == home
    assert not canary.exists()


# ---- numbers and settings of people


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_any_value_of_a_key_arrives_as_lxd_renders_it(shared_guest: GuestShell, text: str) -> None:
    """LXD's template encodes as a query; it strips line ends, as the shell does."""
    text = text.rstrip("\r\n")
    rendered = f"restart=\nuser={quote_plus(text)}\nunknown=x\n"
    (shared_guest.directory / "in" / "settings").write_text(rendered)
    (shared_guest.directory / "image" / "settings").write_bytes(b"user=image\0")
    done = shared_guest.run('read_settings; printf "%s" "$user"')
    assert done.stdout.decode() == (text or "image"), done.stderr


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("SIGTERM", 15), ("term", 15), ("QUIT", 3), ("3", 3), ("SIGWINCH", 28), ("PWR", 30)),
        *(("SIGRTMIN+3", 37), ("RTMIN", 34), ("RTMAX-4", 60), ("RTMAX", 64), ("64", 64)),
        *(("65", None), ("0", None), ("FOO", None), ("", None), ("RTMIN+99", None), ("08", None)),
        *(("1; touch x", None), ("RTMIN+3+4", None), ("-9", None)),
    ],
)
def test_signals_by_name_and_number(guest: GuestShell, text: str, number: int | None) -> None:
    done = guest.run('signal_number "$1" && echo "$number"', text.encode())
    assert (done.stdout.decode().strip() or None) == (None if number is None else str(number))


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("512K", 524288), ("10M", 10485760), ("5m", 5242880)]
    + [(bad, None) for bad in ("", "K", "1G", "-1", "1.5M", "08", "99999999M")],
)
def test_sizes(guest: GuestShell, text: str, size: int | None) -> None:
    done = guest.run('size_bytes "$1" && echo "$number"', text.encode())
    assert (done.stdout.decode().strip() or None) == (None if size is None else str(size))
