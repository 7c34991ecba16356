"""Errors a user may meet: what was being done, to which object, and the next step.

Every failure the program foresees is a :class:`LxdockerError`. The nine categories below fix the
exit code; modules derive their own leaves from a category, which keeps its code. Foreign
exceptions are translated where they enter, with ``raise ... from``.

README lists the codes; a test compares both.
"""

from typing import ClassVar


class LxdockerError(Exception):
    """The root of all foreseen failures.

    ``message`` says what was being done, to which object, what was expected and what came.
    ``hint`` is the next step a user can take, or empty when there is none.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LxdockerError):
    """A flag, reference, specification or setting that can't be understood."""

    exit_code: ClassVar[int] = 2


class NotFoundError(LxdockerError):
    """An image, tag, platform, file or instance that isn't there."""

    exit_code: ClassVar[int] = 3


class AuthenticationError(LxdockerError):
    """A registry or daemon refused the credentials, or wants some."""

    exit_code: ClassVar[int] = 4


class NetworkError(LxdockerError):
    """A peer that can't be reached or keeps failing; trying again later may help."""

    exit_code: ClassVar[int] = 5


class VerificationError(LxdockerError):
    """Content that isn't what its digest, size or format promises, or that is unsafe."""

    exit_code: ClassVar[int] = 6


class LxdError(LxdockerError):
    """LXD can't be reached, or refused a request."""

    exit_code: ClassVar[int] = 7


class StorageError(LxdockerError):
    """The local file system refused: no space, no permission, read-only."""

    exit_code: ClassVar[int] = 8


class ToolError(LxdockerError):
    """An external program is missing or failed."""

    exit_code: ClassVar[int] = 9


class InternalError(LxdockerError):
    """Something nobody foresaw went wrong with one image: a bug, told in one line."""

    exit_code: ClassVar[int] = 70


CATEGORIES: tuple[type[LxdockerError], ...] = (
    UsageError,
    NotFoundError,
    AuthenticationError,
    NetworkError,
    VerificationError,
    LxdError,
    StorageError,
    ToolError,
    InternalError,
)
