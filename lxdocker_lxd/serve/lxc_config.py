"""The ``config`` of a LXC container: an image's OCI settings as liblxc's own keys.

Pure. What is in the config was written by whoever made the image, and LXC has no way to quote it. So
each value is written natively only where that is exact and harmless, and else left to
``/.lxdocker/lxc-start`` in the root filesystem, which has all of it as data:

* A line ends at a newline, and blanks around a value are lost. lxc-create replaces words such as
  ``LXC_NAME`` in the whole file. (confile.c; the template lxc-download)
* ``lxc.init.cmd`` is split at blanks, without quotes; ``lxc.execute.cmd`` knows quotes but no
  escapes. Both end at 4096 bytes. (lxccontainer.c, string_utils.c; seen with 5.0.2)
* ``lxc.environment`` is also the environment of the hooks that liblxc runs on the host, as root,
  while the image is mounted there: with a ``PATH`` or ``LD_PRELOAD`` that leads into it, the image
  would have the host. (start.c, do_start; seen with 5.0.2 and the hook of lxcfs)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lxdocker_lxd.catalogue import Json, LxcMount, LxcSettings

START_PROGRAM = "/.lxdocker/lxc-start"
HOOK_PROGRAM = "/.lxdocker/lxc-hook"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ARCHITECTURES = frozenset({"amd64", "i386", "arm64", "armhf", "armel", "ppc64el", "s390x"})
_MOST_COMMAND_BYTES = 4000
_HOST_PATH = frozenset(DEFAULT_PATH.split(":"))
_NEEDED_PATH = frozenset({"/usr/bin", "/bin"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What changes how a program of the host runs: its loader, C library, shell, language or options.
_HOST_VARIABLES = re.compile(
    r"(LD|LXC|BASH|GLIBC|MALLOC|GCONV|LIBMOUNT|BLKID|PERL|GIT|LUA|SKIP_CGROUP)[A-Za-z0-9_]*"
    r"|(PYTHON|RUBY)(?!_)[A-Za-z0-9_]*"
    r"|ENV|IFS|PS[0-9]|GLOBIGNORE|HOSTALIASES|POSIXLY_CORRECT|OPENSSL_[A-Z_]*"
    r"|[A-Za-z0-9_]*(PATH|PRELOAD|LIBRARY|MODULES?|PLUGINS?|OPTIONS?|OPTS?|FLAGS|COMMAND|SHELL"
    r"|RSH|PAGER|EDITOR|OPEN|CLOSE|CONF|CONFIG|RC)"
)
# Where the host sees the image's files while hooks run.
_INTO_THE_IMAGE = ("rootfs", "/lxc", "/proc", "..")
_HEAD = """\
# {name}, build {build}, converted from {reference}
lxc.include = LXC_TEMPLATE_CONFIG/common.conf
"""
_USER_NAMESPACE = "lxc.include = LXC_TEMPLATE_CONFIG/userns.conf\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcContainer:
    """What a config is made from; ``oci`` has the keys of an OCI image's ``config``."""

    name: str
    build: str
    reference: str
    architecture: str
    oci: Mapping[str, Json]
    settings: LxcSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """How the container starts: what of the image is written natively.

    ``command`` is ``lxc.init.cmd``, ``execute`` ``lxc.execute.cmd``.
    """

    command: str
    execute: str
    environment: tuple[str, ...]
    directory: str


def container_config(container: LxcContainer, *, user_namespace: bool) -> str:
    """Return the text of ``config`` or, for ``user_namespace``, of ``config-user``.

    Whatever the image says, each of its values is one line under its own key or isn't there at all.
    """
    settings = container.settings
    start = _start(container.oci, settings)
    head = _HEAD.format(
        name=_comment(container.name),
        build=_comment(container.build),
        reference=_comment(container.reference),
    )
    pairs = [
        ("lxc.init.cmd", start.command),
        ("lxc.execute.cmd", start.execute),
        ("lxc.init.uid", str(settings.uid)),
        ("lxc.init.gid", str(settings.gid)),
        ("lxc.init.cwd", start.directory),
        ("lxc.signal.halt", str(settings.stop_signal)),
        *(("lxc.environment", entry) for entry in start.environment),
        ("lxc.hook.start", HOOK_PROGRAM),
        *(("lxc.mount.entry", entry) for entry in _mounts(settings.tmpfs)),
    ]
    if settings.groups:
        pairs.insert(4, ("lxc.init.groups", ",".join(map(str, settings.groups))))
    if container.architecture in _ARCHITECTURES:
        pairs.insert(0, ("lxc.arch", container.architecture))
    lines = "".join(f"{key} = {value}\n" for key, value in pairs)
    return head + _USER_NAMESPACE * user_namespace + lines


def _start(oci: Mapping[str, Json], settings: LxcSettings) -> _Start:
    command = (*texts(oci, "Entrypoint"), *texts(oci, "Cmd"))
    given = [entry.partition("=") for entry in texts(oci, "Env")]
    # HOSTNAME's value is one of the words that lxc-create replaces.
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": "LXC_NAME", "HOME": settings.home}
    variables |= {name: value for name, equals, value in given if name and equals}
    # LXC has its own word for this one.
    variables.pop("container", None)
    environment = tuple(
        f"{name}={value}"
        for name, value in variables.items()
        if _is_native_variable(name, value) or (name, value) == ("HOSTNAME", "LXC_NAME")
    )
    directory = oci.get("WorkingDir")
    directory = directory if isinstance(directory, str) and directory else "/"
    plain_directory = directory.startswith("/") and _is_native(directory)
    # The catalogue doesn't tell what looks like a secret; the root filesystem has it.
    told = all(equals for _, equals, _ in given)
    settled = plain_directory and told and len(environment) == len(variables)
    words = " ".join(command)
    plain_words = bool(command) and all(map(_is_plain_word, command)) and _fits(words)
    quoted = " ".join(map(_quoted, command))
    quotable = bool(command) and all(map(_is_quotable, command)) and _fits(quoted)
    return _Start(
        command=words if settled and plain_words else START_PROGRAM,
        execute=_outer_quotes(quoted) if settled and quotable else START_PROGRAM,
        environment=environment,
        directory=directory if plain_directory else "/",
    )


def texts(oci: Mapping[str, Json], key: str) -> tuple[str, ...]:
    """Return a list of texts of an OCI config; what is no text isn't there."""
    values = oci.get(key)
    return tuple(v for v in values if isinstance(v, str)) if isinstance(values, list) else ()


def _is_native(text: str) -> bool:
    """Whether a line of the file holds ``text`` as it is."""
    return text.isprintable() and text == text.strip() and "LXC_" not in text


def _is_native_variable(name: str, value: str) -> bool:
    entry = f"{name}={value}"
    if not _VARIABLE.fullmatch(name) or not _is_native(entry):
        return False
    if name == "PATH":
        places = set(value.split(":"))
        return _NEEDED_PATH <= places <= _HOST_PATH
    if _HOST_VARIABLES.fullmatch(name):
        return False
    return not any(part in value for part in _INTO_THE_IMAGE)


def _is_plain_word(word: str) -> bool:
    """Whether splitting at blanks, with or without quotes, leaves ``word`` as it is."""
    return _is_native(word) and bool(word) and " " not in word and word[0] not in "\"'"


def _is_quotable(word: str) -> bool:
    within = word.isprintable() and "LXC_" not in word
    return within and (_is_plain_word(word) or "'" not in word or '"' not in word)


def _quoted(word: str) -> str:
    if _is_plain_word(word):
        return word
    return f"'{word}'" if '"' in word else f'"{word}"'


def _outer_quotes(line: str) -> str:
    # A value that begins and ends with the same quote loses both.
    return f'"{line}"' if line[0] in "\"'" and line[-1] == line[0] else line


def _fits(line: str) -> bool:
    return len(line.encode("utf-8", "surrogatepass")) <= _MOST_COMMAND_BYTES


def _mounts(tmpfs: tuple[LxcMount, ...]) -> tuple[str, ...]:
    """Return what Docker mounts, our own place, and where the image leaves /run and /tmp empty."""
    fixed = (
        "shm dev/shm tmpfs nosuid,nodev,mode=1777,create=dir 0 0",
        "mqueue dev/mqueue mqueue nosuid,nodev,noexec,optional,create=dir 0 0",
        "lxdocker .lxdocker/live tmpfs nosuid,nodev,noexec,mode=0700,size=4m,optional 0 0",
    )
    wanted = (
        f"tmpfs {path} tmpfs nosuid,nodev,mode={mount.mode & 0o7777:04o},uid={mount.uid},"
        f"gid={mount.gid},optional,create=dir 0 0"
        for mount in tmpfs
        if (path := _mount_path(mount.path))
    )
    return (*fixed, *wanted)


def _mount_path(path: str) -> str:
    """Return a path as a line of a fstab holds it, or nothing for one it can't (fstab(5))."""
    inner = path.strip("/")
    if not inner or not inner.isprintable() or "LXC_" in inner or ".." in inner.split("/"):
        return ""
    return inner.replace("\\", "\\134").replace(" ", "\\040")


def _comment(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
