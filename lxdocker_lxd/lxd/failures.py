"""What can go wrong with LXD, as one leaf for each thing a caller may treat differently.

Messages name what was being done and what LXD said; hints name the next step.
"""

from lxdocker_lxd.errors import (
    AuthenticationError,
    LxdError,
    NetworkError,
    NotFoundError,
    VerificationError,
)

# ---- reaching it


class NotInstalledError(LxdError):
    """No LXD (and no Incus) was found: none of the known sockets exists."""


class NotRunningError(LxdError):
    """The socket is there and nobody listens on it."""


class PermissionRefusedError(AuthenticationError):
    """The socket's permissions, or LXD's restrictions, keep us out."""


class NotTrustedError(AuthenticationError):
    """A remote LXD answers and doesn't trust our client certificate."""


class UnreachableError(NetworkError):
    """A remote LXD can't be reached; nothing was asked of it."""


class ServerCertificateError(NetworkError):
    """A remote LXD's certificate isn't the pinned one, or isn't valid for its address."""


# ---- what became of a request


class UnknownOutcomeError(LxdError):
    """The request may have had its effect or not: read again before anything else."""


class ConnectionLostError(UnknownOutcomeError):
    """The connection broke after the request was sent."""


class NoAnswerError(UnknownOutcomeError):
    """LXD didn't answer, or didn't finish, within our time; it may still be at work."""


class OperationGoneError(UnknownOutcomeError):
    """LXD no longer knows the operation: it ended unseen, or LXD was restarted."""


class EventsLostError(LxdError):
    """The event connection ended, died silently or was too slow: events were missed."""


# ---- what LXD refused


class RefusedError(LxdError):
    """LXD refused or failed for a reason that has no leaf of its own; the message quotes it."""


class AbsentError(NotFoundError):
    """The object isn't there."""


class NameTakenError(LxdError):
    """Another object has the name."""


class ImageExistsError(NameTakenError):
    """The project has an image of the same content; ``fingerprint`` names it."""

    def __init__(self, message: str, *, fingerprint: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.fingerprint = fingerprint


class AddressTakenError(LxdError):
    """Another NIC of the network, even a stopped instance's, has the MAC, IP or DNS name."""


class ChangedMeanwhileError(LxdError):
    """The object isn't as it was read: somebody else changed it in between."""


class BusyError(LxdError):
    """LXD is at work on the object and stayed so through a few tries."""


class InUseError(LxdError):
    """Something uses the object, so it can't be removed or restored."""


class WrongStateError(LxdError):
    """The object's state forbids the request: it runs, is stopped, is frozen or protected."""


class NoSpaceError(LxdError):
    """The pool, or the disk with LXD's own files, is full."""


class LimitReachedError(LxdError):
    """A limit of the project forbids it."""


class UnsupportedError(LxdError):
    """The daemon is too old for the request, or built without it."""


class StartFailedError(LxdError):
    """The instance didn't start and is stopped."""


class StopTimedOutError(LxdError):
    """The guest didn't shut down in the time given and still runs."""


class CommandTimedOutError(LxdError):
    """A command inside an instance took too long and was killed."""


class ImageFetchError(LxdError):
    """The daemon couldn't fetch an image from its server."""


class TooLongError(VerificationError):
    """Content is longer than the caller wants to hold."""


class FingerprintMismatchError(VerificationError):
    """LXD stored, or was sent, other bytes than those promised."""
