"""The hand for the local CA: its key where only root reaches it, what the server needs where that reads.

Two directories. The CA's has everything and mode 0700. The served one has copies of the CA's certificate
and of the server's pair, belongs to root and is readable by the server's group. A CA that a server
made for itself in the served directory, before setup, is adopted: clients may trust it already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.certificate import CertificateError
from lxdocker_lxd.serve.certificate_directory import (
    AUTHORITY_KEY_NAME,
    AUTHORITY_NAME,
    SERVER_KEY_NAME,
    SERVER_NAME,
    CertificateDirectory,
)
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.files import mode_of, read_text, remove, sweep, write_text
from lxdocker_lxd.setup.item import DAMAGE, Value

_SERVED = ((AUTHORITY_NAME, "0644"), (SERVER_NAME, "0644"), (SERVER_KEY_NAME, "0640"))
_ALL = (SERVER_NAME, SERVER_KEY_NAME, AUTHORITY_NAME, AUTHORITY_KEY_NAME, ".lock")


@dataclass(frozen=True, slots=True)
class Authorities:
    """Implements :class:`Hand`; a name is the CA's directory, ``served`` in a value the other one."""

    accounts: Accounts
    now: Callable[[], datetime]
    host_names: Callable[[], ServerNames]

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return ``wanted`` when all is whole, fresh and in its place; else what is wrong with it."""
        made, served = Path(name), Path(wanted["served"])
        if read_text(made / AUTHORITY_KEY_NAME) is None:
            adopted = read_text(served / AUTHORITY_KEY_NAME) is not None
            return {DAMAGE: "made by the server itself"} if adopted else None
        problem = self._problem(made, served, wanted)
        return {DAMAGE: problem} if problem else wanted

    def _problem(self, made: Path, served: Path, wanted: Value) -> str:
        authority, certificate = (
            (read_text(made / one) or "").encode() for one in (AUTHORITY_NAME, SERVER_NAME)
        )
        try:
            of_authority, of_server = x509.facts(authority), x509.facts(certificate)
            whole = x509.issued(authority, certificate)
        except CertificateError:
            return "incomplete"
        now = self.now()
        if not whole or of_authority.due(now) or of_server.due(now):
            return "due for renewal"
        if set(_names(wanted).all()) - set(of_server.names.all()):
            return "without a name that is wanted"
        group = self.accounts.owner(served.stat()).partition(":")[2]
        for file, mode in _SERVED:
            path = served / file
            if read_text(path) != read_text(made / file) or mode_of(path) != mode:
                return "not in its place"
            if self.accounts.owner(path.stat()) != wanted["owner"] and group:
                return "not the server's to read"
        return "" if read_text(served / AUTHORITY_KEY_NAME) is None else "within the server's reach"

    def make(self, name: str, wanted: Value) -> None:
        """Make or renew what is due and put the copies in their place; the CA's key never changes."""
        made, served = Path(name), Path(wanted["served"])
        sweep(made)
        sweep(served)
        if read_text(made / AUTHORITY_KEY_NAME) is None:
            self._adopt(made, served, wanted)
        CertificateDirectory(made).held(_names(wanted), self.host_names(), at=self.now())
        owner = self.accounts.ids(wanted["owner"])
        # The key before the certificate that needs it, as a server reads both.
        for file, mode in reversed(_SERVED):
            write_text(served / file, read_text(made / file) or "", int(mode, 8), owner)
        remove(served / AUTHORITY_KEY_NAME)

    def _adopt(self, made: Path, served: Path, wanted: Value) -> None:
        # What the server could write may be anybody's, and clients and the host would trust it.
        authority = read_text(served / AUTHORITY_NAME)
        if authority is not None:
            self._expect_confined(served / AUTHORITY_NAME, authority, wanted)
        # The CA's key last: while it is missing, this begins again.
        for file in (SERVER_KEY_NAME, SERVER_NAME, AUTHORITY_NAME, AUTHORITY_KEY_NAME):
            content = read_text(served / file)
            if content is not None:
                write_text(made / file, content, 0o600 if file.endswith(".key") else 0o644)

    def _expect_confined(self, file: Path, authority: str, wanted: Value) -> None:
        names = ServerNames.of({*_names(wanted).all(), *self.host_names().all()})
        try:
            x509.confined(authority.encode("utf-8", "surrogateescape"), names)
        except CertificateError as error:
            raise VerificationError(
                f"take over the CA {file}: {error.message}",
                hint="give --name for a name that is this host's; or remove it and its key: a new CA is"
                " made, which every client must trust anew",
            ) from error

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove CA, key and certificates; an adopted CA goes back to the server's directory."""
        made, served = Path(name), Path(after["served"])
        sweep(made)
        sweep(served)
        if before is not None:
            key = read_text(made / AUTHORITY_KEY_NAME)
            if key is not None:
                owner = served.stat()
                write_text(served / AUTHORITY_KEY_NAME, key, 0o600, (owner.st_uid, owner.st_gid))
        else:
            for file, _ in _SERVED:
                remove(served / file)
            # Of a server that looked for its certificate meanwhile.
            remove(served / ".lock")
        for file in _ALL:
            remove(made / file)
        return ""


def _names(wanted: Value) -> ServerNames:
    return ServerNames.of(map(parse, wanted["names"].split(", ")))
