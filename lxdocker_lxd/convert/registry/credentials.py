"""Finds a registry's credentials: credential files in their order, and helper programs.

Helpers follow docker-credential-helpers: ``docker-credential-NAME get`` reads the server's address
and answers ``{"ServerURL", "Username", "Secret"}``. They run from an argument list, never
through a shell. The first file that knows the registry wins; a file that can't be read or a
helper that is missing is an error, because pulling anonymously instead would hide it.
"""

import errno
import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.convert.json_document import InvalidDocumentError, JsonObject
from lxdocker_lxd.convert.registry.credential_file import (
    CredentialEntries,
    Secret,
    make_secret,
    parse_credentials,
    server_address,
)
from lxdocker_lxd.convert.registry.settings import CredentialFile
from lxdocker_lxd.errors import ToolError

_FILE_LIMIT_BYTES = 4 << 20
_HELPER_TIMEOUT_SECONDS = 60
# The protocol's only way to say "none", printed by every helper.
_NOT_FOUND = "credentials not found in native keychain"
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})

_log = logging.getLogger(__name__)


class CredentialHelperError(ToolError):
    """A credential helper is missing, failed, or answered what isn't its protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A secret and the file or helper it came from, for messages."""

    secret: Secret
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperAnswer:
    """What a helper program printed and how it ended."""

    exit_status: int
    output: bytes
    errors: str


HelperRunner = Callable[[Sequence[str], bytes], HelperAnswer]


def run_helper(arguments: Sequence[str], given: bytes) -> HelperAnswer:
    """Run a helper. Raises FileNotFoundError, OSError or subprocess.TimeoutExpired."""
    completed = subprocess.run(
        list(arguments),
        input=given,
        capture_output=True,
        check=False,
        timeout=_HELPER_TIMEOUT_SECONDS,
    )
    return HelperAnswer(
        exit_status=completed.returncode,
        output=completed.stdout,
        errors=completed.stderr.decode("utf-8", "replace"),
    )


class Keychain:
    """Looks credentials up; files and helpers are read once per run. Safe for threads."""

    def __init__(
        self, files: Sequence[CredentialFile], *, helper_runner: HelperRunner = run_helper
    ) -> None:
        self._files = files
        self._run = helper_runner
        self._lock = threading.Lock()
        self._entries: dict[str, CredentialEntries | None] = {}
        self._helped: dict[tuple[str, str], Secret | None] = {}

    def find(self, registry: str, repository: str) -> Credentials | None:
        """Return the credentials for a repository, None for an anonymous pull.

        ``registry`` is the name a reference or mirror uses, with its port. Raises
        CredentialHelperError, StorageError, InvalidDocumentError.
        """
        with self._lock:
            for file in self._files:
                entries = self._read(file)
                if entries is None:
                    continue
                if found := self._look(file, entries, registry, repository):
                    _log.debug("credentials of %s are from %s", registry, found.origin)
                    return found
        return None

    def _look(
        self, file: CredentialFile, entries: CredentialEntries, registry: str, repository: str
    ) -> Credentials | None:
        if helper := entries.helper(registry):
            key = (helper, server_address(registry))
            if key not in self._helped:
                self._helped[key] = self._ask(*key, file.path)
            secret = self._helped[key]
            if secret is not None:
                return Credentials(secret=secret, origin=f"docker-credential-{helper}")
        secret = entries.secret(registry, repository)
        return None if secret is None else Credentials(secret=secret, origin=file.path)

    def _read(self, file: CredentialFile) -> CredentialEntries | None:
        if file.path not in self._entries:
            self._entries[file.path] = _read_file(file)
        return self._entries[file.path]

    def _ask(self, helper: str, server: str, file: str) -> Secret | None:
        program = f"docker-credential-{helper}"
        command = f"{program} get (for {server}, named in {file})"
        try:
            answer = self._run((program, "get"), server.encode() + b"\n")
        except FileNotFoundError as error:
            raise CredentialHelperError(
                f"{command}: the program is not installed",
                hint=f"install {program}, or remove it from {file} and log in again",
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = "no answer" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
            raise CredentialHelperError(f"{command}: {reason}") from error
        if answer.exit_status != 0:
            if _NOT_FOUND in answer.output.decode("utf-8", "replace") + " " + answer.errors:
                return None
            # Neither of its outputs is shown: a helper may have printed the secret before it failed.
            raise CredentialHelperError(
                f"{command}: it ended with exit code {answer.exit_status}",
                hint=f"run it by hand: echo {server} | {program} get",
            )
        return _parse_answer(answer.output, command)


def _parse_answer(output: bytes, command: str) -> Secret | None:
    try:
        document = JsonObject.parse(output, what=command)
        return make_secret(document.text("Username"), document.text("Secret"))
    except InvalidDocumentError as error:
        # The cause may quote the output, which holds the secret.
        raise CredentialHelperError(
            f"{command}: expected JSON with Username and Secret", hint=error.hint
        ) from None


def _read_file(file: CredentialFile) -> CredentialEntries | None:
    path = Path(file.path)
    try:
        with path.open("rb") as opened:
            raw = opened.read(_FILE_LIMIT_BYTES + 1)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise storage_error("read credentials from", path, error) from error
    if len(raw) > _FILE_LIMIT_BYTES:
        raise InvalidDocumentError(
            file.path, f"more than {_FILE_LIMIT_BYTES} bytes, not a credential file"
        )
    if not raw.strip():
        return None
    return parse_credentials(raw, form=file.form, what=f"credentials in {file.path}")
