"""The hand for systemd units: enabled, started, and back. The one door to ``systemctl``."""

import subprocess
from pathlib import Path

from lxdocker_lxd.errors import ToolError
from lxdocker_lxd.setup.item import DAMAGE, Value

RUNNING = Path("/run/systemd/system")
"""Exists where systemd is the system's manager (sd_booted(3))."""

_SECONDS = 120


class Units:
    """Implements :class:`Hand` for units by name."""

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return whether the unit is enabled and active, in systemd's words; None if unknown."""
        enabled = _asked("is-enabled", name)
        if enabled in ("", "not-found"):
            return None
        active = _asked("is-active", name)
        if active in ("activating", "reloading"):
            active = "active"
        found = {"enabled": enabled, "active": active}
        return found | {DAMAGE: "failed"} if active == "failed" else found

    def make(self, name: str, wanted: Value) -> None:  # noqa: ARG002 - of the protocol
        """Enable and start the unit; ToolError tells where to look when it doesn't start."""
        _systemctl("daemon-reload")
        _systemctl("enable", "--quiet", name)
        # One that failed too often is refused otherwise.
        _asked("reset-failed", name)
        _systemctl("start", name)

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Stop and disable the unit as far as it wasn't running and enabled before."""
        if self.look(name, after) is None:
            return ""
        if before is None or before["active"] != "active":
            _systemctl("stop", name, *_served_by(name))
        if before is None or before["enabled"] != "enabled":
            _systemctl("disable", "--quiet", name)
        _asked("reset-failed", name)
        if name.endswith(".timer"):
            # When it last ran.
            _asked("clean", "--what=state", name)
        return ""

    def changed(self, path: Path) -> None:
        """Let systemd read a unit file again that was written or removed, and what runs use it."""
        _systemctl("daemon-reload")
        unit = path.parent.name.removesuffix(".d") if path.suffix == ".conf" else path.name
        if not path.exists() and path.name == unit:
            # A run that failed would keep the unit's name in systemd's list.
            _asked("reset-failed", unit)
        elif _asked("is-active", unit) == "active":
            _restart(unit)


def _served_by(unit: str) -> tuple[str, ...]:
    """Return the service of a socket: it must not be started again by a last connection."""
    return (unit.replace(".socket", ".service"),) if unit.endswith(".socket") else ()


def _restart(unit: str) -> None:
    # systemd opens no socket while its service runs.
    for service in _served_by(unit):
        _systemctl("stop", service)
    _systemctl("restart", unit)
    for service in _served_by(unit):
        _systemctl("start", service)


def _asked(*words: str) -> str:
    """Return what systemctl says, whatever its exit code."""
    return _run(*words).stdout.strip()


def _systemctl(*words: str) -> None:
    done = _run(*words)
    if done.returncode:
        name = words[-1]
        raise ToolError(
            f"systemctl {' '.join(words)}: {done.stderr.strip() or done.returncode}",
            hint=f"see `systemctl status {name}` and `journalctl -u {name}`",
        )


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ("systemctl", *words), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"run systemctl: {error}", hint="is systemd well?") from error
