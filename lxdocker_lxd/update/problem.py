"""What went wrong beside updates: about one instance, which alone it stops, or about an image."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lxdocker_lxd.errors import InternalError, LxdockerError, StorageError
from lxdocker_lxd.lxd.failures import (
    NotInstalledError,
    NotRunningError,
    NotTrustedError,
    ServerCertificateError,
    UnreachableError,
)
from lxdocker_lxd.update.means import Outcome

# Without LXD or without a journal nothing can be done for any instance.
ENDS_ROUND = (
    NotInstalledError,
    NotRunningError,
    NotTrustedError,
    ServerCertificateError,
    UnreachableError,
    StorageError,
)
_MOST_CHARACTERS = 300
_log = logging.getLogger(__name__)

Apart = Callable[[str, str], AbstractContextManager[None]]
"""Takes a project and an instance's name; what fails in the block ends nothing outside of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that went wrong; ``name`` is the instance it is about, empty for none."""

    text: str
    project: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{self.name}: {self.text}" if self.name else self.text


class Problems:
    """Collects problems of a round, each once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    @property
    def found(self) -> tuple[Problem, ...]:
        """All of them, in order."""
        return tuple(self._found)

    def add(self, text: str, *, project: str = "", name: str = "") -> None:
        """Add one."""
        self._found[Problem(text=text, project=project, name=name)] = None

    def add_of(self, outcome: Outcome) -> None:
        """Add what went wrong beside an update."""
        for text in outcome.problems:
            self.add(text, project=outcome.transaction.project, name=outcome.transaction.name)

    @contextlib.contextmanager
    def about(self, project: str, name: str, what: str = "") -> Iterator[None]:
        """Turn whatever the block raises into a problem of this instance, said of ``what``.

        Only what leaves nobody anything to work with passes: LXD is away, the journal fails.
        """
        said = f"{what}: " if what else ""
        try:
            yield
        except ENDS_ROUND:
            raise
        except LxdockerError as error:
            self.add(f"{said}{error.message}", project=project, name=name)
        except Exception as error:  # noqa: BLE001 - a bug met with one instance is that one's trouble
            self.add(f"{said}{internal_error(error).message}", project=project, name=name)


def internal_error(error: Exception) -> InternalError:
    """Return what nobody foresaw as an error in one line; its traceback goes to the debug log."""
    _log.debug("internal error", exc_info=error)
    said = " ".join(str(error).split())[:_MOST_CHARACTERS]
    return InternalError(
        f"internal error: {type(error).__name__}: {said}",
        hint="this is a bug; please report it with the output of --debug",
    )


def together(_project: str, _name: str) -> AbstractContextManager[None]:
    """Be the :data:`Apart` that lets everything pass."""
    return contextlib.nullcontext()
