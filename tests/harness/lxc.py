"""Plain LXC for tests: own container path, own cache, own bridge with DHCP; nothing is left behind.

/etc/lxc and /var/cache/lxc of the machine are neither read nor written. What a killed run leaves is
swept with the private LXDs, whose kind of directory this one has.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run


class PlainLxc:
    """One path of containers on one bridge. Use as a context manager.

    ``server`` is the image server's ``HOST:PORT``, ``authority`` the file with the CA that the
    download template's wget shall trust.
    """

    def __init__(self, server: str, authority: Path) -> None:
        self._place = PrivateLxd()
        self.home = self._place.home
        self.server = server
        self.authority = authority
        self._containers = self.home / "containers"
        self._containers.mkdir(mode=0o711)
        (self.home / "cache").mkdir(mode=0o755)
        self._names: list[str] = []
        self._dnsmasq: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._start_network()
        except BaseException:
            self._place.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in self._names:
            self.lxc("lxc-stop", name, "--kill", check=False)
            self.lxc("lxc-destroy", name, check=False)
        if self._dnsmasq is not None:
            self._dnsmasq.terminate()
            self._dnsmasq.wait(timeout=10)
        # LXC never removes its lock files.
        shutil.rmtree(Path("/run/lxc/lock", *self.home.parts[1:]), ignore_errors=True)
        self._place.close()

    def _start_network(self) -> None:
        self.bridge = self._place.reserve_bridge()
        subnet = self._place.subnet
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        self._dnsmasq = subprocess.Popen(
            [
                *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts"),
                *("--no-resolv", "--port=0", "--bind-interfaces", f"--interface={self.bridge}"),
                *(
                    f"--dhcp-range={subnet[100]},{subnet[200]},1h",
                    "--dhcp-authoritative",
                    "--no-ping",
                ),
                *(f"--dhcp-option=option:dns-server,{subnet[1]}", "--dhcp-no-override"),
                f"--dhcp-leasefile={self.home}/leases",
                f"--pid-file={self.home}/dnsmasq.pid",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually((self.home / "leases").exists, timeout_seconds=10, what="dnsmasq")

    @property
    def environment(self) -> dict[str, str]:
        """What the LXC commands run with; without this machine's proxies."""
        wgetrc = self.home / "wgetrc"
        wgetrc.write_text(f"ca_certificate = {self.authority}\nuse_proxy = off\n")
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "WGETRC": str(wgetrc),
            "LXC_CACHE_PATH": str(self.home / "cache"),
        }

    def lxc(
        self, program: str, name: str, *arguments: str | Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of LXC's programs on a container of this path."""
        path = ("-P", self._containers)
        return run(program, *path, "-n", name, *arguments, check=check, env=self.environment)

    def template(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the download template alone, as ``lxc-create -t download`` starts it."""
        template = "/usr/share/lxc/templates/lxc-download"
        given = ("--server", self.server, *arguments)
        return run("sh", template, *given, check=False, env=self.environment)

    def create(
        self, name: str, image: str, *, settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Create a container from the server; ``settings`` go into its own configuration."""
        pairs = {
            "lxc.net.0.type": "veth",
            "lxc.net.0.link": self.bridge,
            "lxc.net.0.flags": "up",
            "lxc.apparmor.profile": "unconfined",
            **(settings or {}),
        }
        config = self.home / f"{name}.conf"
        config.write_text("".join(f"{key} = {value}\n" for key, value in pairs.items()))
        self._names.append(name)
        choice = ("--dist", image, "--release", "current", "--arch", "amd64")
        return self.lxc(
            *("lxc-create", name, "-f", config, "-t", "download", "--"),
            *("--server", self.server, *choice),
        )

    def start(self, name: str) -> None:
        """Start a container; AssertionError with LXC's log when that fails."""
        log = self.home / f"{name}.log"
        console = self.console_file(name)
        given = ("-d", "-L", console, "-o", log, "-l", "DEBUG")
        started = self.lxc("lxc-start", name, *given, check=False)
        if started.returncode != 0:
            raise AssertionError(f"{started.stderr}\n{log.read_text()}")

    def stop(self, name: str, *, timeout_seconds: int = 10) -> None:
        """Stop a container as the image wants it; it is killed after the time."""
        self.lxc("lxc-stop", name, "-t", str(timeout_seconds))

    def rootfs(self, name: str) -> Path:
        """Where the container's files are."""
        return self._containers / name / "rootfs"

    def config(self, name: str) -> str:
        """The container's configuration."""
        return (self._containers / name / "config").read_text()

    def console_file(self, name: str) -> Path:
        """Where the console's output goes."""
        return self.home / f"{name}.console"

    def wait_console(self, name: str, text: str, *, timeout_seconds: float = 20) -> str:
        """Wait until ``text`` came on the console; return all that came."""
        file = self.console_file(name)

        def look() -> str:
            said = file.read_text(errors="replace").replace("\r\n", "\n") if file.exists() else ""
            return said if text in said else ""

        try:
            return eventually(look, timeout_seconds=timeout_seconds, what=f"{text!r} of {name}")
        except AssertionError as error:
            said = file.read_text(errors="replace") if file.exists() else "(no console)"
            raise AssertionError(f"{error}\nconsole:\n{said}") from None

    def address(self, name: str, *, timeout_seconds: float = 20) -> str:
        """The container's IPv4 address, waited for."""

        def look() -> str:
            return self.lxc("lxc-info", name, "-iH", check=False).stdout.strip().partition("\n")[0]

        return eventually(look, timeout_seconds=timeout_seconds, what=f"{name}'s address")

    def state(self, name: str) -> str:
        """``RUNNING``, ``STOPPED`` …"""
        return self.lxc("lxc-info", name, "-sH", check=False).stdout.strip()
