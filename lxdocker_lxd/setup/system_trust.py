"""Debian's store of trusted authorities, told of a new one. The one door to ``update-ca-certificates``."""

import subprocess
from pathlib import Path

from lxdocker_lxd.errors import ToolError

STORE = Path("/usr/local/share/ca-certificates")
_SECONDS = 120


def refresh(added: bool) -> None:
    """Rebuild the store after a certificate was ``added`` or removed; raise ToolError."""
    words = ("update-ca-certificates",) if added else ("update-ca-certificates", "--fresh")
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(
            f"run update-ca-certificates: {error}",
            hint="Debian's package ca-certificates has it",
        ) from error
    if done.returncode:
        raise ToolError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
