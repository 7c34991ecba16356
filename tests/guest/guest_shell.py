"""The guest's own scripts in a real busybox shell on this machine, in a directory of their own."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lxdocker_lxd.convert.guest_scripts import load_guest_scripts

BUSYBOX = b"/bin/busybox"


class GuestShell:
    """Scripts whose fixed paths (/.lxdocker, /etc, /busybox-lxd) lead into ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.live = directory / "live"
        self.etc = directory / "etc"
        for made in (self.live, self.etc, directory / "image", directory / "in"):
            made.mkdir(exist_ok=True)
        scripts = load_guest_scripts()
        for name in (
            "launch",
            "words",
            "prepare",
            "run",
            "lxc_start",
            "lxc_hook",
            "init",
            "udhcpc",
        ):
            (directory / f"{name}.sh").write_bytes(self._moved(getattr(scripts, name)))
        (directory / "run").symlink_to("run.sh")

    def _moved(self, text: bytes) -> bytes:
        text = text.replace(b"/.lxdocker", bytes(self.directory)).replace(b"/busybox-lxd", BUSYBOX)
        text = text.replace(b"/etc/", bytes(self.etc) + b"/")
        return text.replace(b"/dev/console", bytes(self.directory) + b"/console")

    def head(self, name: str, *, before: str) -> str:
        """The beginning of a script, up to a line that would change the machine."""
        text = (self.directory / f"{name}.sh").read_text()
        return text[: text.index(f"\n{before}") + 1]

    def run(
        self,
        script: str,
        *arguments: bytes,
        env: Mapping[bytes, bytes] | None = None,
        given: bytes = b"",
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``script`` after the guest's functions were read; ``$1`` … are the arguments."""
        read = "".join(f". {self.directory}/{name}.sh\n" for name in ("launch", "words", "prepare"))
        return subprocess.run(
            [BUSYBOX, b"sh", b"-c", (read + script).encode(), b"guest", *arguments],
            check=False,
            capture_output=True,
            input=given,
            env=dict(env or {}),
            cwd=self.directory,
            timeout=60,
        )

    def write_state(self, status: str, **known: str) -> bytes:
        """Write the state as init does, with what it knows as its variables; return it."""
        init = load_guest_scripts().init.decode()
        functions = init[init.index("json_text() {") : init.index("# The fifo takes")]
        variables = {
            "problem": "",
            "last_code": "null",
            "prelaunch_code": "null",
            "restarts": "0",
            **known,
        }
        given = "".join(f"{name}='{value}'\n" for name, value in variables.items())
        self.run(f"{given}{functions}write_state {status}")
        return (self.directory / "state").read_bytes()


def items(raw: bytes) -> list[bytes]:
    """The items of NUL-separated data."""
    assert not raw or raw.endswith(b"\0"), raw
    return raw.split(b"\0")[:-1]


def joined(texts: Sequence[bytes]) -> bytes:
    """Items as NUL-separated data."""
    return b"".join(text + b"\0" for text in texts)
