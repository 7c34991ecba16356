"""The config of a LXC container: exact where it is native, and never more than it should be."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import Json, LxcMount, LxcSettings
from lxdocker_lxd.serve.lxc_config import (
    DEFAULT_PATH,
    START_PROGRAM,
    LxcContainer,
    container_config,
)
from tests.serve.lxc_reader import created, parsed, split_blanks, split_quoted, values

ONCE = {
    "lxc.arch",
    "lxc.init.cmd",
    "lxc.execute.cmd",
    "lxc.init.uid",
    "lxc.init.gid",
    "lxc.init.cwd",
    "lxc.signal.halt",
    "lxc.hook.start",
}
OWN_PLACE = "nosuid,nodev,noexec,mode=0700,size=4m,optional"
COVERING = "nosuid,nodev,mode=1777,uid=0,gid=5,optional,create=dir"
OTHERS = {"lxc.include", "lxc.environment", "lxc.mount.entry", "lxc.init.groups"}


def config(
    oci: dict[str, Json],
    *,
    home: str = "/root",
    groups: tuple[int, ...] = (),
    tmpfs: tuple[str, ...] = (),
    user_namespace: bool = False,
    name: str = "web",
) -> str:
    settings = LxcSettings(
        uid=33,
        gid=330,
        groups=groups,
        home=home,
        stop_signal=3,
        tmpfs=tuple(LxcMount(path=path, mode=0o1777, uid=0, gid=5) for path in tmpfs),
    )
    container = LxcContainer(
        name=name,
        build="20260301_120000",
        reference="docker.io/library/web:1",
        architecture="amd64",
        oci=oci,
        settings=settings,
    )
    return container_config(container, user_namespace=user_namespace)


def read(oci: dict[str, Json], **how: object) -> list[tuple[str, str]]:
    return parsed(created(config(oci, **how)))  # type: ignore[arg-type]  # the function's own


def test_an_ordinary_image_is_native_throughout() -> None:
    oci: dict[str, Json] = {
        "Entrypoint": ["/entry.sh"],
        "Cmd": ["serve", "--port=80"],
        "Env": ["GREETING=hello  world", "EMPTY=", "URL=http://x/?a=1&b=#2"],
        "WorkingDir": "/srv/web",
    }
    text = config(oci, groups=(50, 60), tmpfs=("/run", "/a b\\c"))
    assert text.splitlines() == [
        "# web, build 20260301_120000, converted from docker.io/library/web:1",
        "lxc.include = LXC_TEMPLATE_CONFIG/common.conf",
        "lxc.arch = amd64",
        "lxc.init.cmd = /entry.sh serve --port=80",
        "lxc.execute.cmd = /entry.sh serve --port=80",
        "lxc.init.uid = 33",
        "lxc.init.gid = 330",
        "lxc.init.groups = 50,60",
        "lxc.init.cwd = /srv/web",
        "lxc.signal.halt = 3",
        f"lxc.environment = PATH={DEFAULT_PATH}",
        "lxc.environment = HOSTNAME=LXC_NAME",
        "lxc.environment = HOME=/root",
        "lxc.environment = GREETING=hello  world",
        "lxc.environment = EMPTY=",
        "lxc.environment = URL=http://x/?a=1&b=#2",
        "lxc.hook.start = /.lxdocker/lxc-hook",
        "lxc.mount.entry = shm dev/shm tmpfs nosuid,nodev,mode=1777,create=dir 0 0",
        "lxc.mount.entry = mqueue dev/mqueue mqueue nosuid,nodev,noexec,optional,create=dir 0 0",
        f"lxc.mount.entry = lxdocker .lxdocker/live tmpfs {OWN_PLACE} 0 0",
        f"lxc.mount.entry = tmpfs run tmpfs {COVERING} 0 0",
        f"lxc.mount.entry = tmpfs a\\040b\\134c tmpfs {COVERING} 0 0",
    ]


def test_a_user_namespace_includes_lxc_s_settings_for_it() -> None:
    assert values(read({"Cmd": ["x"]}, user_namespace=True), "lxc.include") == [
        "/usr/share/lxc/config/common.conf",
        "/usr/share/lxc/config/userns.conf",
    ]


@pytest.mark.parametrize(
    ("command", "execute"),
    [
        (["nginx", "-g", "daemon off;"], 'nginx -g "daemon off;"'),
        (["/bin/sh", "-c", 'echo "a b"'], "/bin/sh -c 'echo \"a b\"'"),
        (["a", ""], 'a ""'),
        (["'a'", "b"], "\"'a'\" b"),
        (["a b", "c d"], '"a b" "c d"'),
    ],
)
def test_words_with_blanks_are_native_for_lxc_execute(command: list[Json], execute: str) -> None:
    """lxc.init.cmd of LXC 5 splits at every blank, whatever quotes say."""
    pairs = read({"Cmd": command})
    assert values(pairs, "lxc.init.cmd") == [START_PROGRAM]
    assert values(pairs, "lxc.execute.cmd") == [execute]


@pytest.mark.parametrize(
    "word", ["", "a\nb", "a\tb", "\u00a0", "LXC_ROOTFS", "'\" x", "\udc80", "a" * 5000]
)
def test_words_that_lxc_can_t_hold_go_by_the_start_program(word: str) -> None:
    pairs = read({"Entrypoint": ["/app"], "Cmd": [word]})
    assert values(pairs, "lxc.init.cmd") == [START_PROGRAM]


@pytest.mark.parametrize(
    "variable",
    [
        "PATH=/opt/app:/usr/bin:/bin",
        "PATH=/usr/local/bin",
        "PATH=",
        "PATH=/bin:/usr/bin:.",
        "LD_PRELOAD=/x.so",
        "LD_LIBRARY_PATH=/x",
        "LXC_ROOTFS_MOUNT=/",
        "BASH_ENV=/x",
        "BASH_FUNC_ls%%=() { id; }",
        "PS4=$(id)",
        "IFS=/",
        "ENV=/x",
        "PYTHONPATH=/x",
        "PERL5OPT=-Mx",
        "NODE_OPTIONS=--require=/x",
        "JAVA_TOOL_OPTIONS=-javaagent:/x",
        "TAR_OPTIONS=--checkpoint-action=exec=id",
        "GLIBC_TUNABLES=x",
        "GIT_SSH_COMMAND=id",
        "OPENSSL_CONF=/x",
        "SHELLOPTS=xtrace",
        "PAGER=id",
        "PLACE=/usr/lib/x86_64-linux-gnu/lxc/rootfs/x",
        "PLACE=/var/lib/lxc/c1/rootfs/x",
        "PLACE=../x",
        "PLACE=/proc/self/cwd/x",
        "PLACE=LXC_PATH",
        "A.B=1",
        "TRAIL=x ",
        "TWO=a\nlxc.init.uid = 0",
        "TWO=a\rlxc.init.uid = 0",
        "CUT=a\0b",
        "BYTES=\udcff",
    ],
)
def test_variables_that_reach_too_far_go_by_the_start_program(variable: str) -> None:
    """liblxc's hooks on the host have lxc.environment too, and the image is mounted there."""
    pairs = read({"Cmd": ["/app"], "Env": [variable, "PLAIN=1"]})
    name = variable.partition("=")[0]
    native = values(pairs, "lxc.environment")
    assert not [entry for entry in native if entry.startswith(f"{name}=")]
    assert "PLAIN=1" in native
    assert values(pairs, "lxc.init.cmd") == [START_PROGRAM]
    assert values(pairs, "lxc.execute.cmd") == [START_PROGRAM]
    assert values(pairs, "lxc.init.uid") == ["33"]


def test_a_value_that_isn_t_told_comes_from_the_root_filesystem() -> None:
    pairs = read({"Cmd": ["/app"], "Env": ["DB_PASSWORD", "PLAIN=1"]})
    assert not [entry for entry in values(pairs, "lxc.environment") if "DB_PASSWORD" in entry]
    assert "PLAIN=1" in values(pairs, "lxc.environment")
    assert values(pairs, "lxc.init.cmd") == [START_PROGRAM]
    assert values(pairs, "lxc.execute.cmd") == [START_PROGRAM]


def test_common_variables_stay_native() -> None:
    entries: list[Json] = [
        "NGINX_VERSION=1.27.1",
        "NODE_VERSION=22.1.0",
        "PYTHON_VERSION=3.12.1",
        "JAVA_VERSION=jdk-21",
        "LANG=C.UTF-8",
        "TZ=Europe/Zürich",
        "DEBIAN_FRONTEND=noninteractive",
        'JSON={"a": "b"}',
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    pairs = read({"Cmd": ["/app"], "Env": entries})
    assert set(values(pairs, "lxc.environment")) >= set(entries)
    assert values(pairs, "lxc.init.cmd") == ["/app"]


@pytest.mark.parametrize("directory", ["a", "/a ", "/a\nlxc.init.uid = 0", "/LXC_NAME", 7, None])
def test_a_directory_that_lxc_can_t_hold(directory: Json) -> None:
    pairs = read({"Cmd": ["/app"], "WorkingDir": directory})
    assert values(pairs, "lxc.init.cwd") == ["/"]
    is_text = isinstance(directory, str)
    assert values(pairs, "lxc.init.cmd") == [START_PROGRAM if is_text else "/app"]


def test_an_image_without_a_command_says_so_when_it_starts() -> None:
    assert values(read({}), "lxc.init.cmd") == [START_PROGRAM]


@pytest.mark.parametrize(
    "path", ["/", "", "/a/../b", "/a\nlxc.init.uid = 0", "/LXC_NAME", "/\udc80"]
)
def test_no_mount_where_a_line_can_t_name_it(path: str) -> None:
    assert len(values(read({"Cmd": ["x"]}, tmpfs=(path,)), "lxc.mount.entry")) == 3


HOSTILE = st.sampled_from(
    [
        *(
            "\n",
            "\r",
            "\0",
            "\x0b",
            "\x0c",
            "\x1c",
            "\x85",
            "\u2028",
            "\udc80",
            "\ud800",
            " ",
            "\t",
        ),
        *("lxc.init.uid = 0", "\nlxc.hook.pre-start = /bin/id\n", "lxc.include=/x", "#", "="),
        *(
            "'",
            '"',
            "\\",
            "$(id)",
            "`id`",
            ";",
            "LXC_NAME",
            "LXC_ROOTFS",
            "LXC_",
            "NAME",
            "..",
            "/",
        ),
        *(
            "PATH",
            "LD_PRELOAD",
            "HOME",
            "HOSTNAME",
            "container",
            "rootfs",
            "é",
            "a",
            "Bc",
            "%",
            "{}",
        ),
    ]
)
TEXT = st.one_of(st.lists(HOSTILE, max_size=5).map("".join), st.text(max_size=8))
VARIABLE = st.builds("{}={}".format, TEXT, TEXT)
ODD = st.one_of(st.none(), st.integers(), TEXT, st.lists(st.integers(), max_size=2))


@given(
    command=st.lists(TEXT, max_size=4),
    environment=st.lists(VARIABLE, max_size=5),
    directory=st.one_of(TEXT, TEXT.map("/{}".format)),
    home=TEXT,
    name=TEXT,
    tmpfs=st.lists(TEXT.map("/{}".format), max_size=2),
)
@example(command=['"a', 'b"'], environment=[], directory="/", home="/", name="x", tmpfs=[])
@example(command=["'", "'"], environment=[], directory="/", home="/", name="x", tmpfs=[])
def test_no_image_adds_a_line_and_what_is_native_is_exact(
    command: list[str],
    environment: list[str],
    directory: str,
    home: str,
    name: str,
    tmpfs: list[str],
) -> None:
    oci: dict[str, Json] = {
        "Entrypoint": list(command[:1]),
        "Cmd": list(command[1:]),
        "Env": list(environment),
        "WorkingDir": directory,
    }
    text = config(oci, home=home, name=name, tmpfs=tuple(tmpfs))
    assert text.encode().decode() == text
    pairs = parsed(created(text))
    keys = Counter(key for key, _ in pairs)
    assert set(keys) <= ONCE | OTHERS
    assert {key: keys[key] for key in ONCE} == dict.fromkeys(ONCE, 1)
    assert values(pairs, "lxc.include") == ["/usr/share/lxc/config/common.conf"]
    assert values(pairs, "lxc.hook.start") == ["/.lxdocker/lxc-hook"]
    assert values(pairs, "lxc.init.uid") == ["33"]
    wanted = {"PATH": DEFAULT_PATH, "HOSTNAME": "c1", "HOME": home}
    wanted |= {
        key: value
        for key, equals, value in (e.partition("=") for e in environment)
        if key and equals
    }
    wanted.pop("container", None)
    native = [entry.partition("=") for entry in values(pairs, "lxc.environment")]
    if wanted["HOSTNAME"] == "LXC_NAME":
        wanted["HOSTNAME"] = "c1"
    assert all(wanted[key] == value for key, _, value in native)
    assert len(native) == len({key for key, _, _ in native})
    (init,) = values(pairs, "lxc.init.cmd")
    (execute,) = values(pairs, "lxc.execute.cmd")
    (where,) = values(pairs, "lxc.init.cwd")
    assert where in {directory, "/"}
    if init != START_PROGRAM:
        assert split_blanks(init) == split_quoted(init) == command
    if execute != START_PROGRAM:
        assert split_quoted(execute) == command
    if START_PROGRAM not in {init, execute}:
        assert len(native) == len(wanted)
        assert where == (directory or "/")
    for entry in values(pairs, "lxc.mount.entry"):
        assert len(entry.split()) == 6


@given(odd=st.fixed_dictionaries(dict.fromkeys(("Entrypoint", "Cmd", "Env", "WorkingDir"), ODD)))
def test_fields_of_another_kind_are_left_out(odd: dict[str, Json]) -> None:
    assert values(read(odd), "lxc.init.uid") == ["33"]
