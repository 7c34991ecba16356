"""The hands for our own program, and the server set up with it, inside the container.

The program comes from the host, where it runs already: see ``payload``. The server is set up by the program
itself, ``setup --no-lxd``: it has its own plan and its own state file there.
"""

import contextlib
import json
from functools import cache
from ipaddress import ip_interface
from pathlib import Path

from lxdocker_lxd.errors import LxdockerError, ToolError, VerificationError
from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.certificate import CertificateError
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.setup import payload as source
from lxdocker_lxd.setup.contained import DATA, SETTINGS
from lxdocker_lxd.setup.container_hands import keep_volumes
from lxdocker_lxd.setup.files import read_text, remove, sweep, write_text
from lxdocker_lxd.setup.inside import Inside
from lxdocker_lxd.setup.item import DAMAGE, Value
from lxdocker_lxd.setup.wish import SERVER_USER, USER

PLACE = "/opt/lxdocker-lxd"
PROGRAM = f"{PLACE}/bin/lxdocker-lxd"
_MARKER = f"{PLACE}/installed"
_LOCKED = f"{PLACE}/lib/lxdocker_lxd/setup/requirements.txt"
_ARCHIVE = "/root/.lxdocker-lxd.tar.gz"
_AWAY = {DAMAGE: "the container doesn't run"}
_APT_SECONDS = 900.0
_SETUP_SECONDS = 300.0
# Seconds that a package server without an answer costs.
_APT = "apt-get -q -o Acquire::Retries=0 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10"

_INSTALL = f"""
command -v apt-get >/dev/null || {{ echo "the image lacks $* and apt-get" >&2; exit 1; }}
{_APT} update && {_APT} -y --no-install-recommends install "$@"
"""
_UNPACK = """
import os, shutil, sys, tarfile
archive, place, program = sys.argv[1:]
fresh, old = place + ".new", place + ".old"
for path in (fresh, old):
    shutil.rmtree(path, ignore_errors=True)
with tarfile.open(archive) as tar:
    tar.extractall(fresh)
os.remove(archive)
os.mkdir(fresh + "/bin")
with open(fresh + "/bin/lxdocker-lxd", "w") as file:
    file.write(program)
os.chmod(fresh + "/bin/lxdocker-lxd", 0o755)
if os.path.isdir(place):
    os.rename(place, old)
os.rename(fresh, place)
shutil.rmtree(old, ignore_errors=True)
"""
_PROGRAM = f"""import sys
sys.path.insert(0, "{PLACE}/lib")
from lxdocker_lxd.cli import entry
entry()
"""
_TRY = f"""
import sys
sys.path.insert(0, "{PLACE}/lib")
import lxdocker_lxd.verbs.setup, lxdocker_lxd.verbs.serve, lxdocker_lxd.verbs.convert
"""
# Who owns images, and who reads the certificate, keep their numbers in a volume that outlived its container;
# a link makes the program one of the usual path; a server that runs already takes the new program.
_AFTERWARDS = f"""
mkdir -p /usr/local/bin && ln -sf {PROGRAM} /usr/local/bin/lxdocker-lxd
[ -e /bin/busybox ] || [ -e /usr/bin/busybox ] || [ ! -e {PLACE}/busybox ] ||
  install -m 755 {PLACE}/busybox /usr/bin/busybox
owner=$(stat -c %u {DATA}/images 2>/dev/null) group=$(stat -c %g {DATA}/images 2>/dev/null)
readers=$(stat -c %g {DATA}/tls 2>/dev/null)
if [ "${{owner:-0}}" != 0 ] && ! id {USER} >/dev/null 2>&1; then
  groupadd --system --gid "$group" {USER} && useradd --system --uid "$owner" --gid "$group" \\
    --no-create-home --home-dir {DATA} --shell /usr/sbin/nologin {USER}
fi
if [ "${{readers:-0}}" != 0 ] && [ "$readers" != "$group" ] && ! id {SERVER_USER} >/dev/null 2>&1; then
  groupadd --system --gid "$readers" {SERVER_USER} && useradd --system --gid "$readers" \\
    --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin {SERVER_USER}
fi
systemctl try-restart lxdocker-lxd-serve.service 2>/dev/null
exit 0
"""
_KEPT = (
    f"find {SETTINGS}/specs {DATA}/images -type f -size +0 ! -name '*.example' ! -name '*.lock'"
    " 2>/dev/null | wc -l"
)


@cache
def _payload() -> source.Payload:
    return source.payload()


def installed_digest() -> str:
    """Return what tells the program that runs here from another one; raise LxdockerError."""
    return _payload().digest


class Installations:
    """Implements :class:`Hand` for our program; a name is the container's."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return the digest of what is installed."""
        inside = Inside(self._lxd, name)
        if (state := inside.state()) != "running":
            return None if state == "absent" else _AWAY
        found = inside.text("cat", _MARKER)
        return {**wanted, "digest": found} if found else None

    def make(self, name: str, wanted: Value) -> None:
        """Install what runs here, with Python and mksquashfs where the image lacks them."""
        inside = Inside(self._lxd, name)
        python = _python(inside)
        fitting = source.fits(python)
        # Of the image's own packages nothing is taken: others may write to where they are.
        words = (_ARCHIVE, PLACE, f"#!{python.splitlines()[1]} -IS\n{_PROGRAM}")
        self._send(name, _payload().archive(own_only=not fitting))
        inside.must("unpack this program", "python3", "-c", _UNPACK, *words, seconds=_SETUP_SECONDS)
        if not fitting:
            _from_index(inside)
        inside.must("start this program", "python3", "-c", _TRY)
        inside.run("sh", "-c", _AFTERWARDS)
        if inside.run("sh", "-c", "command -v mksquashfs").exit_code:
            # Without it, images are tarballs.
            inside.run("sh", "-c", _INSTALL, "sh", "squashfs-tools", seconds=_APT_SECONDS)
        marker = GuestFile(content=wanted["digest"].encode())
        self._lxd.guests.write_file(name, _MARKER, marker)

    def _send(self, name: str, archive: bytes) -> None:
        self._lxd.guests.write_file(name, _ARCHIVE, GuestFile(content=archive, mode=0o600))

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Nothing: it goes with the container."""
        return ""


def _python(inside: Inside) -> str:
    """Return the container's Python as it describes itself; install one where there is none."""
    found = inside.text("python3", "-c", source.PROBE)
    if not found:
        doing = "install python3"
        inside.must(doing, "sh", "-c", _INSTALL, "sh", "python3", seconds=_APT_SECONDS, hint=_HINT)
        found = inside.must("start python3", "python3", "-c", source.PROBE)
    if not source.new_enough(found):
        raise ToolError(f"the container {inside.name} has a Python before 3.11", hint=_HINT)
    return found


_HINT = (
    "let the container reach its distribution's package server, or give an image with Python 3.11 or"
    " later: --container-image"
)


def _from_index(inside: Inside) -> None:
    """Let pip fetch what the lock file names, built for the container's Python.

    Only wheels: what would build one is in no lock file, and runs as root.
    """
    if inside.run("python3", "-m", "pip", "--version").exit_code:
        words = ("sh", "-c", _INSTALL, "sh", "python3-pip")
        inside.must("install pip", *words, seconds=_APT_SECONDS, hint=_HINT)
    inside.must(
        "install what this program needs",
        *("python3", "-m", "pip", "install", "--quiet", "--target", f"{PLACE}/lib"),
        *("--require-hashes", "--only-binary", ":all:", "--requirement", _LOCKED),
        seconds=_APT_SECONDS,
        hint="its Python is another one than here, so pip must reach a package index; or give an"
        " image with the Python of this machine: --container-image",
    )


class Servers:
    """Implements :class:`Hand` for the server inside; a name is the container's."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Ask the program inside whether all is as it wants it."""
        inside = Inside(self._lxd, name)
        if (state := inside.state()) != "running":
            return None if state == "absent" else _AWAY
        if inside.text("cat", _MARKER) != wanted.get("digest", ""):
            # What that version wants, this one may want differently.
            return {DAMAGE: "set up by another version"}
        said = inside.text(*_setup(wanted, "--dry-run", "--format", "json"))
        if not said:
            return None
        try:
            actions = {step["action"] for step in json.loads(said)["steps"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            return {DAMAGE: "it can't be asked"}
        return wanted if actions <= {"already", "leave"} else {DAMAGE: "incomplete"}

    def make(self, name: str, wanted: Value) -> None:
        """Let the program inside set up user, CA, certificate, settings and units."""
        inside = Inside(self._lxd, name)
        # Whoever deletes the container by hand leaves volumes that nobody can look into.
        keep_volumes(self._lxd, name, "what the server kept")
        words = _setup(wanted, "--yes")
        inside.must("set the server up", *words, seconds=_SETUP_SECONDS)
        if inside.run("sh", "-c", "command -v mksquashfs").exit_code:
            line = "imageformat: gzip"
            script = f"grep -q ^imageformat: {SETTINGS}/config.yaml || echo '{line}' >>{SETTINGS}/config.yaml"
            inside.must("choose images without squashfs", "sh", "-c", script)

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """See what in the volumes is somebody's own: they are kept then."""
        inside = Inside(self._lxd, name)
        if inside.state() == "absent":
            return ""
        kept = "what can't be seen while the container doesn't start"
        with contextlib.suppress(LxdockerError):
            inside.start("")
            count = inside.must("look for images", "sh", "-c", _KEPT)
            kept = "" if count == "0" else f"{count} files of images and specifications"
        keep_volumes(self._lxd, name, kept)
        return f"the volumes stay, with {kept}" if kept else ""


def _setup(wanted: Value, *words: str) -> tuple[str, ...]:
    names = [word for name in wanted["names"].split(",") for word in ("--name", name)]
    place = ("--address", wanted["address"], "--url", wanted["url"])
    return (PROGRAM, "setup", "--no-lxd", *place, *names, *words)


class ContainerAuthorities:
    """Implements :class:`Hand` for the CA's certificate of the container, on this machine."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return what is wanted if it is the container's, as far as that can be asked."""
        content = read_text(Path(name))
        if content is None:
            return None
        theirs = self._inside(wanted["of"])
        try:
            here = _confined(content.encode("utf-8", "surrogateescape"), wanted)
            same = not theirs or here == _confined(theirs, wanted)
        except CertificateError:
            same = False
        return wanted if same else {DAMAGE: "of another CA"}

    def make(self, name: str, wanted: Value) -> None:
        """Copy it, written anew; raise ToolError when the container has none.

        The container faces the network, and what is copied here the whole host may come to trust: one
        that could vouch for others, or has another key than the copy that is there, is a
        VerificationError.
        """
        content = self._inside(wanted["of"])
        if not content:
            raise ToolError(
                f"read the CA's certificate in the container {wanted['of']}: there is none",
                hint="run setup again",
            )
        try:
            authority = _confined(content, wanted)
        except CertificateError as error:
            raise VerificationError(
                f"trust the CA of the container {wanted['of']}: {error.message}",
                hint="find out who changed it: this program makes none like that",
            ) from error
        _expect_same_key(Path(name), authority, wanted["of"])
        sweep(Path(name).parent)
        write_text(Path(name), authority.decode(), int(wanted["mode"], 8))

    def _inside(self, container: str) -> bytes:
        if Inside(self._lxd, container).state() != "running":
            return b""
        try:
            found = self._lxd.guests.read_file(container, f"{DATA}/tls/ca.crt")
        except AbsentError:
            return b""
        return found.content

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Remove the copy."""
        remove(Path(name))
        return ""


def _confined(certificate: bytes, wanted: Value) -> bytes:
    """Return the container's authority if it stays within its names and the bridge's addresses."""
    names = ServerNames.of(map(parse, filter(None, wanted.get("names", "").split(","))))
    networks = filter(None, wanted.get("networks", "").split(","))
    return x509.confined(certificate, names, [ip_interface(one).network for one in networks])


def _expect_same_key(copy: Path, authority: bytes, container: str) -> None:
    content = read_text(copy)
    if content is None:
        return
    with contextlib.suppress(CertificateError):
        trusted = x509.facts(content.encode("utf-8", "surrogateescape"))
        if trusted.public_key == x509.facts(authority).public_key:
            return
    raise VerificationError(
        f"trust the CA of the container {container}: it has another key than the one that"
        f" {copy} has",
        hint="if you made the container, or its CA, anew: remove that file and run setup again;"
        " if not, find out who did",
    )
