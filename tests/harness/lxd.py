"""A private LXD daemon for tests: own directory, own bridge, own subnet; nothing is left behind.

Everything of one daemon lives in ``/tmp/lxt-XXXXXXXX`` (short: a unix socket's path must stay
under 108 bytes). ``owner`` there names the process that made it, ``bridges`` the bridges it made;
so a run that was killed half-way is cleaned up by the next one, or by ``python -m
tests.harness.lxd sweep``. The daemon that may already run on the machine is never spoken to.
"""

import contextlib
import ipaddress
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness.processes import (
    bridges,
    end_processes_of,
    eventually,
    links_on,
    mounts_under,
    networks_in_use,
    processes_of,
    run,
    start_time,
    unmount_under,
)

PREFIX = "lxt-"
HOME = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 20 else "/tmp")


def free_subnet() -> ipaddress.IPv4Network:
    """A random 10.x.y.0/24 that overlaps nothing this machine routes."""
    used = [ipaddress.ip_network(text, strict=False) for text in networks_in_use()]
    while True:
        subnet = ipaddress.IPv4Network(
            f"10.{random.randint(64, 250)}.{random.randint(0, 255)}.0/24"
        )
        if not any(subnet.overlaps(other) for other in used if other.version == 4):
            return subnet


class PrivateLxd:
    """One daemon. Use as a context manager; leaving it proves that nothing is left.

    Made but not entered, it is only a place: for a program that starts a daemon itself. Then
    ``close`` cleans up what that left, with the bridges of ``reserve_bridge``.

    ``network`` (``eth0`` of the default profile) is a bridge with DHCP; the pool is a ``dir``.
    Every method raises AssertionError with the client's output when LXD refuses.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=HOME))
        # The guests' mapped root has to pass through.
        self.home.chmod(0o711)
        self.directory = self.home / "lxd"
        self.directory.mkdir(mode=0o711)
        (self.home / "client").mkdir()
        (self.home / "owner").write_text(f"{os.getpid()} {start_time(os.getpid())}")
        (self.home / "bridges").touch()
        self.subnet = free_subnet()
        self.network = ""
        self._consoles: dict[str, str] = {}
        self._daemon: subprocess.Popen[bytes] | None = None

    # ---- the daemon

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``lxc`` (and what starts it) speaks to this daemon."""
        return os.environ | {
            "LXD_DIR": str(self.directory),
            "LXD_CONF": str(self.home / "client"),
        }

    @property
    def socket(self) -> Path:
        """The daemon's unix socket."""
        return self.directory / "unix.socket"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._run_daemon()
        self.lxc("storage", "create", "default", "dir")
        self.network = self.add_network(subnet=self.subnet)
        self.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
        self.lxc(
            *("profile", "device", "add", "default", "eth0"),
            *("nic", f"network={self.network}", "name=eth0"),
        )

    def restart(self, *, away_seconds: float = 0.0) -> None:
        """End the daemon alone, as an upgrade does, and start it again; instances go on."""
        assert self._daemon is not None
        self._daemon.terminate()
        self._daemon.wait(timeout=30)
        time.sleep(away_seconds)
        self._run_daemon()

    def crash(self) -> None:
        """Kill the daemon alone in the middle of whatever it does, and start it again."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait(timeout=30)
        self._run_daemon()

    def _run_daemon(self) -> None:
        log = self.home / "lxd.log"
        with (self.home / "lxd.out").open("wb") as output:
            self._daemon = subprocess.Popen(
                ["lxd", "--group", "root", "--logfile", str(log)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        run("lxd", "waitready", "--timeout=60", env=self.environment, timeout_seconds=90)

    def close(self) -> None:
        """End the daemon and all it made; AssertionError when something is left."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self._leave_politely()
        _remove(self.home)
        if self._daemon is not None:
            self._daemon.wait(timeout=10)

    def _leave_politely(self) -> None:
        if self._daemon is None or self._daemon.poll() is not None:
            return
        names = self.instances()
        if names:
            self.lxc("delete", "--force", *names, check=False)
        for kind in ("eth0", "root"):
            self.lxc("profile", "device", "remove", "default", kind, check=False)
        for name in (self.home / "bridges").read_text().split():
            self.lxc("network", "delete", name, check=False)
        run("lxd", "shutdown", "--timeout=20", env=self.environment, check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._daemon.wait(timeout=15)

    # ---- the client

    def lxc(
        self,
        *arguments: str | Path,
        check: bool = True,
        text_input: str | None = None,
        timeout_seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run the ``lxc`` client against this daemon."""
        return run(
            *("lxc", *arguments),
            env=self.environment,
            check=check,
            text_input=text_input,
            timeout_seconds=timeout_seconds,
        )

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the ``lxc`` client, to be watched at work."""
        return subprocess.Popen(
            ["lxc", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def query(self, method: str, path: str, body: object = None) -> Any:
        """Send one API request, wait for its operation, and return the decoded answer."""
        given = [] if body is None else ["--data", json.dumps(body)]
        answer = self.lxc("query", "--wait", "--request", method, *given, path).stdout.strip()
        return json.loads(answer) if answer else None

    # ---- networks and images

    def reserve_bridge(self) -> str:
        """A name for a bridge that cleaning up will find, whoever makes it."""
        name = f"lxt{secrets.token_hex(5)}"
        with (self.home / "bridges").open("a") as made:
            made.write(f"{name}\n")
        return name

    def add_network(
        self,
        *,
        dhcp: bool = True,
        subnet: ipaddress.IPv4Network | None = None,
        ipv6: str = "none",
    ) -> str:
        """Make one more bridge and return its name; ``dhcp=False`` gives one without a server."""
        name = self.reserve_bridge()
        address = "none"
        if dhcp:
            subnet = subnet or free_subnet()
            address = f"{subnet[1]}/{subnet.prefixlen}"
        self.lxc(
            *("network", "create", name, f"ipv4.address={address}"),
            *("ipv4.nat=false", f"ipv6.address={ipv6}"),
        )
        return name

    def import_split(self, metadata: Path, rootfs: Path, alias: str) -> str:
        """Import a split image under ``alias``, replacing its holder; return the fingerprint."""
        self.lxc("image", "delete", alias, check=False)
        self.lxc("image", "import", metadata, rootfs, "--alias", alias, timeout_seconds=300)
        fingerprint: str = self.query("GET", f"/1.0/images/aliases/{alias}")["target"]
        return fingerprint

    # ---- instances

    def launch(
        self,
        alias: str,
        name: str | None = None,
        *,
        config: Mapping[str, str] | None = None,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        start: bool = True,
    ) -> str:
        """Create an instance with this config and these devices, start it, return its name.

        ``devices={"eth0": {"type": "none"}}`` leaves it without a network interface.
        """
        name = name or f"t{secrets.token_hex(4)}"
        body = {
            "name": name,
            "source": {"type": "image", "alias": alias},
            "config": dict(config or {}),
            "devices": {key: dict(value) for key, value in (devices or {}).items()},
        }
        self.query("POST", "/1.0/instances", body)
        if start:
            self.start(name)
        return name

    def start(self, name: str) -> None:
        """Start an instance; the console log is shown when that fails."""
        started = self.lxc("start", name, check=False)
        if started.returncode != 0:
            self._drop_links_of(name)
            raise AssertionError(f"{started.stderr}\n{self.console_log(name)}")

    def _drop_links_of(self, name: str) -> None:
        """Delete the veth pairs LXD 5.0.2 forgets on the host when a start fails early."""
        config = self.query("GET", f"/1.0/instances/{name}")["config"]
        addresses = {value for key, value in config.items() if key.endswith(".hwaddr")}
        for link in json.loads(run("ip", "-j", "link", "show", "type", "veth").stdout or "[]"):
            if link["address"] in addresses:
                run("ip", "link", "delete", link["ifname"], check=False)

    def stop(self, name: str, *, timeout_seconds: int = 20, force: bool = False) -> None:
        """Stop an instance as ``lxc stop`` does; a guest that ignores it fails the test."""
        how = ["--force"] if force else ["--timeout", str(timeout_seconds)]
        self.lxc("stop", name, *how)

    def delete(self, *names: str) -> None:
        """Delete instances, running or not."""
        self.lxc("delete", "--force", *names)

    def instances(self) -> list[str]:
        """Names of all instances."""
        listed = json.loads(self.lxc("list", "--format", "json").stdout)
        return [instance["name"] for instance in listed]

    def set_config(self, name: str, config: Mapping[str, str]) -> None:
        """Set instance keys; an empty value removes a key."""
        for key, value in config.items():
            self.query("PATCH", f"/1.0/instances/{name}", {"config": {key: value}})

    def state(self, name: str) -> dict[str, Any]:
        """The instance's state as the API gives it."""
        state: dict[str, Any] = self.query("GET", f"/1.0/instances/{name}/state")
        return state

    def status(self, name: str) -> str:
        """``Running``, ``Stopped``..."""
        return str(self.state(name)["status"])

    def wait_status(self, name: str, status: str, *, timeout_seconds: float = 20) -> None:
        """Wait until the instance has this status."""
        try:
            eventually(
                lambda: self.status(name) == status,
                timeout_seconds=timeout_seconds,
                what=f"{name} to be {status}",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\nconsole:\n{self.console_log(name)}") from None

    def address(self, name: str, *, nic: str = "eth0", timeout_seconds: float = 20) -> str:
        """The instance's first global IPv4 address on ``nic``, waited for."""

        def look() -> str:
            networks = self.state(name)["network"] or {}
            addresses = networks.get(nic, {}).get("addresses", [])
            found = (
                a["address"] for a in addresses if (a["family"], a["scope"]) == ("inet", "global")
            )
            return next(found, "")

        try:
            return eventually(look, timeout_seconds=timeout_seconds, what=f"{name}'s address")
        except AssertionError as error:
            raise AssertionError(f"{error}\nconsole:\n{self.console_log(name)}") from None

    def exec(
        self,
        name: str,
        *command: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; ``/busybox-lxd APPLET`` works in every converted image."""
        given = [f"--env={key}={value}" for key, value in (env or {}).items()]
        return self.lxc(
            *("exec", "-T", name, *given, "--", *command),
            check=check,
            timeout_seconds=timeout_seconds,
        )

    def shell(self, name: str, script: str, *, check: bool = True) -> str:
        """Run a script in busybox inside the instance and return what it printed."""
        return self.exec(name, "/busybox-lxd", "sh", "-c", script, check=check).stdout

    def console_log(self, name: str) -> str:
        """All that reached the console since the instance was made; empty when nothing did.

        Reading empties the ring buffer of a running instance (seen with LXD 5.0.2), so what was
        read before is kept here. A stopped one leaves the rest in a file.
        """
        running = self.status(name) == "Running"
        shown = self.lxc("console", name, "--show-log", check=False)
        text = shown.stdout if shown.returncode == 0 else ""
        text = text.removeprefix("\nConsole log:\n\n").removesuffix("\n").replace("\r\n", "\n")
        before = self._consoles.get(name, "")
        if running:
            self._consoles[name] = before + text
        return before + text

    def wait_console(self, name: str, text: str, *, timeout_seconds: float = 20) -> str:
        """Wait until ``text`` is in the console log, and return the log."""
        try:
            eventually(
                lambda: text in self.console_log(name),
                timeout_seconds=timeout_seconds,
                what=f"{text!r} on {name}'s console",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\nconsole:\n{self.console_log(name)}") from None
        return self.console_log(name)

    def file_pull(self, name: str, path: str) -> bytes | None:
        """Content of a file of the instance (running or stopped); None when it isn't there."""
        with tempfile.TemporaryDirectory(dir=self.home) as directory:
            target = Path(directory, "file")
            pulled = self.lxc("file", "pull", f"{name}{path}", target, check=False)
            if pulled.returncode != 0:
                assert "not found" in pulled.stderr.lower() or "no such" in pulled.stderr.lower(), (
                    pulled.stderr
                )
                return None
            return target.read_bytes()

    def file_push(self, name: str, path: str, content: bytes, *, mode: str = "0644") -> None:
        """Write a file into the instance, as its root."""
        with tempfile.NamedTemporaryFile(dir=self.home) as source:
            source.write(content)
            source.flush()
            self.lxc("file", "push", f"--mode={mode}", source.name, f"{name}{path}")


# ---- cleaning up, also after runs that were killed


def _drop_firewall(bridge: str) -> None:
    """Drop the nftables chains LXD made for a bridge it can no longer delete itself."""
    if shutil.which("nft") is None:
        return
    for family in ("inet", "ip", "ip6", "bridge"):
        listed = run("nft", "-j", "list", "chains", family, check=False)
        if listed.returncode != 0:
            continue
        for item in json.loads(listed.stdout).get("nftables", []):
            chain = item.get("chain", {})
            if chain.get("table") == "lxd" and str(chain.get("name")).endswith(f".{bridge}"):
                run("nft", "delete", "chain", family, "lxd", chain["name"], check=False)


def _remove(home: Path) -> None:
    """Remove a daemon's directory with its processes, mounts and bridges; prove that it is gone."""
    names = (home / "bridges").read_text().split() if (home / "bridges").exists() else []
    # A container that ends gives its interface back to a daemon that may be gone by then.
    links = links_on(names)
    end_processes_of(home)
    unmount_under(home)
    for name in (*links, *(set(names) & bridges())):
        run("ip", "link", "delete", name, check=False)
    for name in names:
        _drop_firewall(name)
    left = [f"process {process_id}" for process_id in processes_of(home)]
    left += [f"mount {point}" for point in mounts_under(home)]
    left += [f"bridge {name}" for name in set(names) & bridges()]
    # The directory goes last: as long as it is there, a later sweep can finish this work.
    if not left:
        run("rm", "-rf", "--one-file-system", home, check=False)
    assert not left, f"left behind by the private LXD in {home}: {', '.join(left)}"
    assert not home.exists(), f"{home} could not be removed"


def abandoned() -> Iterable[Path]:
    """Directories of private daemons whose test run is gone."""
    for home in HOME.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            process_id, began = (home / "owner").read_text().split()
            if start_time(int(process_id)) != began:
                yield home


def sweep() -> list[Path]:
    """Remove what killed runs left; return what was removed."""
    homes = list(abandoned())
    for home in homes:
        _remove(home)
    return homes


if __name__ == "__main__":
    for removed in sweep():
        sys.stderr.write(f"removed what a killed test run left in {removed}\n")
