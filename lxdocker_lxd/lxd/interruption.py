"""Why no answer came: from the exception of a lower layer to the failure a caller can tell apart.

What fails before a request is sent had no effect. What breaks afterwards may have had it, and is an
UnknownOutcomeError.
"""

import ssl
from collections.abc import Iterator

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import (
    ConnectionLostError,
    NoAnswerError,
    NotInstalledError,
    NotRunningError,
    PermissionRefusedError,
    ServerCertificateError,
    UnreachableError,
)
from lxdocker_lxd.lxd.place import Place, RemotePlace

# By name, so that only the door imports the libraries that define them.
_TIMEOUTS = {"ReadTimeout", "ReadTimeoutError"}
_UNSENT = {"NewConnectionError", "ConnectTimeout", "ConnectTimeoutError", "NameResolutionError"}


def interruption(
    error: BaseException, doing: str, place: Place, *, was_reached: bool = False
) -> LxdockerError:
    """Return the failure for ``error``, met while ``doing`` ("start the instance web")."""
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    said = _innermost(causes)
    message = f"could not {doing}: {place}"
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return ServerCertificateError(
            f"{message} shows a certificate that isn't the trusted one: {said}",
            hint="compare its fingerprint (`lxc info` on that host) and pin the right certificate",
        )
    if isinstance(place, RemotePlace):
        if names & _UNSENT or any(_handshake_failed(cause) for cause in causes):
            return UnreachableError(
                f"{message} can't be reached: {said}",
                hint="check the address, the firewall and LXD's core.https_address",
            )
    elif local := _local(causes, message, was_reached=was_reached):
        return local
    if names & _TIMEOUTS or any(isinstance(cause, TimeoutError) for cause in causes):
        return NoAnswerError(
            f"{message} did not answer in time",
            hint="look what it is doing (`lxc operation list`, lxd.log), then try again",
        )
    return ConnectionLostError(
        f"{message} broke the connection: {said}",
        hint="LXD may be restarting; what was asked may have happened or not",
    )


def _local(causes: list[BaseException], message: str, *, was_reached: bool) -> LxdockerError | None:
    gone = any(isinstance(cause, FileNotFoundError) for cause in causes)
    if gone and not was_reached:
        return NotInstalledError(
            f"{message} isn't there: no such socket",
            hint="install LXD (`apt install lxd` or `snap install lxd`) and start it",
        )
    if gone or any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        # One that ends takes its socket along, one that dies leaves it.
        said = "its socket is gone" if gone else "nobody listens on its socket"
        return NotRunningError(
            f"{message} isn't running: {said}",
            hint="start it (`systemctl start lxd`, or `snap start lxd`)",
        )
    if any(isinstance(cause, PermissionError) for cause in causes):
        return PermissionRefusedError(
            f"{message} refuses this user",
            hint="be root or in the group lxd: `sudo usermod -aG lxd $USER`, then log in anew",
        )
    return None


def _handshake_failed(cause: BaseException) -> bool:
    # An early end may also come after the request was sent.
    return isinstance(cause, ssl.SSLError) and not isinstance(
        cause, ssl.SSLEOFError | ssl.SSLZeroReturnError
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that lies below it: its causes, and exceptions kept as arguments.

    Only the outermost may hang by its context alone (pylxd's does); further contexts may belong to
    whatever our caller was handling.
    """
    waiting: list[BaseException] = [error]
    if type(error).__name__ == "ClientConnectionFailed" and error.__context__ is not None:
        waiting.append(error.__context__)
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        below = [cause.__cause__, getattr(cause, "reason", None), *cause.args]
        waiting += [item for item in below if isinstance(item, BaseException)]


def _innermost(causes: list[BaseException]) -> str:
    told = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    deepest = told[-1] if told else causes[-1]
    return str(getattr(deepest, "strerror", None) or deepest) or type(deepest).__name__
