"""Work that LXD does in the background: begun by a request, waited for in slices.

LXD forgets an operation five seconds after its end and all of them when it restarts; so a wait that
loses sight of its operation can't tell how it ended, and says so (UnknownOutcomeError).
"""

import time
from collections.abc import Callable

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.api import Answer, Api
from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    NoAnswerError,
    NotRunningError,
    OperationGoneError,
    UnknownOutcomeError,
    UnreachableError,
)
from lxdocker_lxd.lxd.refusal import refusal
from lxdocker_lxd.lxd.request import Request

SLICE_SECONDS = 20
STEP_SECONDS = 1
_FAILED = 400
_ENDS = {"Success", "Failure", "Cancelled"}

OnStep = Callable[[Document], None]


class Operations:
    """Runs requests to their end, whether LXD answers at once or with an operation."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock

    def run(
        self,
        request: Request,
        *,
        timeout_seconds: float | None = None,
        on_step: OnStep | None = None,
    ) -> Document:
        """Send a request, wait for its end, and return what LXD says of its result.

        Busy objects are tried again for about ten seconds, unless the request is a stream.
        ``on_step`` sees the operation's own words about once a second. Raises what ``ports`` lists.
        """

        def act() -> Answer:
            answer = self._api.send(request)
            if not answer.operation:
                return answer
            ended = self.wait(
                answer.operation, request.doing, timeout_seconds=timeout_seconds, on_step=on_step
            )
            return Answer(value=dict(ended.part("metadata").items()))

        return (self._api.patiently(act) if request.repeatable else act()).document

    def wait(
        self,
        operation: str,
        doing: str,
        *,
        timeout_seconds: float | None = None,
        on_step: OnStep | None = None,
    ) -> Document:
        """Wait until the operation has ended well, and return it; raise how it failed."""
        state = self.end_of(operation, doing, timeout_seconds=timeout_seconds, on_step=on_step)
        status = state.text("status")
        if status != "Success":
            code = state.number("status_code") or _FAILED
            raise refusal(code, state.text("err") or status.lower(), doing)
        return state

    def end_of(
        self,
        operation: str,
        doing: str,
        *,
        timeout_seconds: float | None = None,
        on_step: OnStep | None = None,
    ) -> Document:
        """Wait until the operation has ended, well or not, and return it.

        Raises NoAnswerError when the time is over, OperationGoneError when LXD forgot it.
        """
        end = None if timeout_seconds is None else self._clock() + timeout_seconds
        longest = SLICE_SECONDS if on_step is None else STEP_SECONDS
        while True:
            left = longest if end is None else min(longest, max(0, round(end - self._clock())))
            state = self._look(operation, doing, left)
            if state.text("status") in _ENDS:
                return state
            if on_step is not None:
                on_step(state.part("metadata"))
            if end is not None and self._clock() >= end:
                raise NoAnswerError(
                    f"could not {doing} within {timeout_seconds:g} s; LXD is still at it",
                    hint="`lxc operation list` shows it",
                )

    def _look(self, operation: str, doing: str, seconds: int) -> Document:
        path = f"operations/{operation}/wait"
        try:
            # LXD takes 0 for "look once", -1 for ever.
            return self._api.read(path, doing, timeout=str(seconds)).document
        except (AbsentError, NotRunningError, UnreachableError) as error:
            raise OperationGoneError(
                f"could not {doing}: lost sight of LXD's work before its end ({error.message})",
                hint="LXD was restarted or is down; look what is there before trying again",
            ) from error
        except UnknownOutcomeError:
            raise
        except LxdockerError as error:
            raise OperationGoneError(
                f"could not {doing}: LXD's work can't be watched any more ({error.message})",
                hint=error.hint,
            ) from error
