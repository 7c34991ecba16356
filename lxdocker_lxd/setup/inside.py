"""Commands in the server's container, and waiting until it has booted."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from lxdocker_lxd.errors import ToolError
from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.lxd.failures import AbsentError, StartFailedError, WrongStateError
from lxdocker_lxd.lxd.ports import Lxd

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_BOOT_SECONDS = 120.0
_POLL_SECONDS = 0.5
# An init that isn't systemd has no such states; whoever needs systemd says so.
_BOOTED = (
    '[ "$(cat /proc/1/comm)" = systemd ] || exit 0;'
    ' case "$(systemctl is-system-running)" in running|degraded) exit 0;; *) exit 1;; esac'
)


@dataclass(frozen=True, slots=True)
class Inside:
    """The inside of one instance of one LXD."""

    lxd: Lxd
    name: str
    pause: Callable[[float], None] = time.sleep

    def state(self) -> str:
        """Return ``absent``, ``running`` or ``stopped``."""
        try:
            found = self.lxd.instances.get(self.name)
        except AbsentError:
            return "absent"
        return "running" if found.running else "stopped"

    def start(self, address: str) -> None:
        """Start the instance if needed; wait until it has booted and has ``address``.

        Raises StartFailedError when it doesn't come so far.
        """
        if self.state() != "running":
            # Somebody may be faster.
            with contextlib.suppress(WrongStateError):
                self.lxd.power.start(self.name)
        until = time.monotonic() + _BOOT_SECONDS
        while not (self._booted() and (not address or address in self._addresses())):
            if time.monotonic() > until:
                raise StartFailedError(
                    f"the container {self.name} runs and isn't ready after {_BOOT_SECONDS:g} s:"
                    f" expected systemd up and the address {address}, got {self._addresses()}",
                    hint=f"look into it: lxc exec {self.name} -- systemctl --failed;"
                    " its image must take its address by DHCP",
                )
            self.pause(_POLL_SECONDS)

    def _booted(self) -> bool:
        return self.run("sh", "-c", _BOOTED).exit_code == 0

    def _addresses(self) -> list[str]:
        return [one.address for one in self.lxd.power.state(self.name).addresses]

    def run(self, *words: str, seconds: float = 60.0) -> CommandResult:
        """Run a command as root and wait, whatever its exit code. Raises LxdockerError."""
        command = Command(
            words=words,
            environment=_ENVIRONMENT,
            directory="/root",
            timeout_seconds=seconds,
            output_bytes=1 << 20,
        )
        return self.lxd.guests.execute(self.name, command)

    def text(self, *words: str) -> str:
        """Return what a command prints; empty when it fails."""
        done = self.run(*words)
        return done.stdout.decode("utf-8", "replace") if done.exit_code == 0 else ""

    def must(self, doing: str, *words: str, seconds: float = 60.0, hint: str = "") -> str:
        """Return what a command prints; raise ToolError with its last words when it fails."""
        done = self.run(*words, seconds=seconds)
        out, err = (text.decode("utf-8", "replace").strip() for text in (done.stdout, done.stderr))
        if done.exit_code:
            last = " ".join((err or out).splitlines()[-2:]) or f"it ended with {done.exit_code}"
            raise ToolError(f"{doing} in the container {self.name}: {last}", hint=hint)
        return out
