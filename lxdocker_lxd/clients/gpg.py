"""The door to GnuPG: one run of the program, and what it says of keys and signatures.

GNUPGHOME is honoured. Nothing is ever asked on a terminal: where a passphrase is needed and the agent
doesn't hold it, the run fails at once.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from lxdocker_lxd.errors import ToolError

PROGRAM = "gpg"
_TIMEOUT_SECONDS = 600.0
_SHOWN_CHARACTERS = 500
_STATUS = "[GNUPG:] "
_HINT = "install it (Debian: apt-get install gnupg)"


class GpgMissingError(ToolError):
    """GnuPG isn't installed."""


class GpgFailedError(ToolError):
    """GnuPG ended with an error, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpgResult:
    """What a run wrote. ``status`` are its machine-readable lines, ``words`` the others."""

    code: int
    output: bytes
    status: tuple[str, ...]
    words: str

    def says(self, keyword: str) -> bool:
        """Whether a status line begins with ``keyword``."""
        return any(line.split(" ", 1)[0] == keyword for line in self.status)

    def fields(self, keyword: str) -> Iterator[list[str]]:
        """Yield the fields after ``keyword`` of each status line that begins with it."""
        for line in self.status:
            first, *rest = line.split(" ")
            if first == keyword:
                yield rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpg:
    """An installed GnuPG; with ``home`` another place than GNUPGHOME for keys."""

    path: str
    home: Path | None = None

    @classmethod
    def find(cls, home: Path | None = None) -> Self:
        """Return the gpg in PATH; raise GpgMissingError."""
        path = shutil.which(PROGRAM)
        if path is None:
            raise GpgMissingError(f"{PROGRAM} is not installed", hint=_HINT)
        return cls(path=path, home=home)

    def run(
        self,
        *arguments: str,
        content: bytes | BinaryIO = b"",
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> GpgResult:
        """Run gpg with ``content`` on standard input; raise GpgFailedError when it can't run."""
        command = [
            *(self.path, "--batch", "--no-tty", "--pinentry-mode", "loopback"),
            *("--status-fd", "2", "--no-auto-key-locate", "--no-auto-check-trustdb"),
            *arguments,
        ]
        environment = os.environ | {"LC_ALL": "C.UTF-8"}
        if self.home is not None:
            environment["GNUPGHOME"] = os.fspath(self.home)
        given, stream = (content, None) if isinstance(content, bytes) else (None, content)
        try:
            done = subprocess.run(
                command,
                check=False,
                input=given,
                stdin=stream,
                capture_output=True,
                env=environment,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise GpgFailedError(
                f"{PROGRAM} {arguments[0]} didn't end within {timeout_seconds:.0f} s",
                hint="look whether its agent or a smart card waits for somebody",
            ) from error
        except OSError as error:
            raise GpgFailedError(f"{self.path} can't be started: {error.strerror}") from error
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        return GpgResult(
            code=done.returncode,
            output=done.stdout,
            status=tuple(line[len(_STATUS) :] for line in lines if line.startswith(_STATUS)),
            words="; ".join(line for line in lines if not line.startswith(_STATUS))[
                :_SHOWN_CHARACTERS
            ],
        )
