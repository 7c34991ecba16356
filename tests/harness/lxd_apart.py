"""A private LXD that has an /etc of its own: what a program writes into hosts, the daemon finds."""

import shutil
import subprocess
from pathlib import Path

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run


class LxdApart(PrivateLxd):
    """Daemon and client live in a mount namespace with ``root/etc`` as their /etc."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.home / "root"
        self.root.mkdir()
        shutil.copytree("/etc", self.root / "etc", symlinks=True)

    def _start(self) -> None:
        super()._start()
        # No way out, told at once: a package server is unreachable, not silent.
        self.lxc("network", "set", self.network, "raw.dnsmasq", "dhcp-option=3")

    def _run_daemon(self) -> None:
        script = 'mount --bind "$1" /etc && exec lxd --group root --logfile "$2"'
        with (self.home / "lxd.out").open("wb") as output:
            self._daemon = subprocess.Popen(
                [
                    *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"),
                    *(str(self.root / "etc"), str(self.home / "lxd.log")),
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        run("lxd", "waitready", "--timeout=60", env=self.environment, timeout_seconds=90)

    @property
    def inside_words(self) -> tuple[str, ...]:
        """What to put before a command so that it runs where the daemon lives."""
        assert self._daemon is not None
        namespace = f"--mount=/proc/{self._daemon.pid}/ns/mnt"
        return ("nsenter", namespace, f"--wd={Path.cwd()}", "--")

    def inside(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command where the daemon lives."""
        return run(
            *self.inside_words, *words, env=self.environment, check=check, timeout_seconds=300
        )
