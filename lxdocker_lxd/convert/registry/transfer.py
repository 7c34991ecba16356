"""A blob's bytes as one stream, however often the connection breaks.

Rules (RFC 9110 14; facts every container tool agrees on):

1. The rest is asked for with ``Range: bytes=N-``, N being the first byte that hasn't come. A 206 must
   say exactly that in ``Content-Range``. On 200, 416 or a wrong range the whole blob is taken and
   its first N bytes are dropped: what came before stays good, and the store's hash judges.
2. An announced size other than the descriptor's ends the transfer before its first byte.
3. The stream ends at the descriptor's size; one byte more is passed on, so that the verifying reader
   sees it.
4. Breaks are waited out; after a mebibyte of progress the counting starts anew. A server slower than
   the least speed counts as one that broke off.

Nothing is verified here.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from lxdocker_lxd.convert.registry.refusal import UnexpectedAnswerError
from lxdocker_lxd.convert.registry.retry import Patience, TemporaryError
from lxdocker_lxd.convert.registry.transport import (
    Answer,
    AnswerInterruptedError,
    AnswerTooSlowError,
)
from lxdocker_lxd.convert.source import BlobInterruptedError
from lxdocker_lxd.digest import DigestMismatchError
from lxdocker_lxd.errors import NetworkError

_PROGRESS_BYTES = 1 << 20
_SKIP_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416

Get = Callable[[Mapping[str, str], Collection[int]], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBlob:
    """An answer that holds the blob from ``starts_at_bytes`` on."""

    answer: Answer
    starts_at_bytes: int


def open_blob(get: Get, position_bytes: int, size_bytes: int, *, what: str) -> OpenedBlob:
    """Return the blob from ``position_bytes`` or an earlier byte on.

    ``get`` sends a GET with these headers and returns answers of these statuses beside 2xx. Raises
    what it raises, DigestMismatchError for a wrong size, UnexpectedAnswerError.
    """
    if position_bytes:
        answer = get({"Range": f"bytes={position_bytes}-"}, (_UNSATISFIABLE,))
        if answer.status == _PARTIAL and _is_rest(answer, position_bytes, size_bytes):
            answer.sustain()
            return OpenedBlob(answer=answer, starts_at_bytes=position_bytes)
        if answer.status != _OK:
            answer.close()
            answer = get({}, ())
    else:
        answer = get({}, ())
    announced = answer.content_length
    if answer.status != _OK:
        answer.close()
        raise UnexpectedAnswerError(f"{what}: {answer.origin.host} answers {answer.status}")
    if announced is not None and announced != size_bytes:
        answer.close()
        raise DigestMismatchError(
            f"{what}: expected {size_bytes} bytes, {answer.origin.host} announces {announced}"
        )
    answer.sustain()
    return OpenedBlob(answer=answer, starts_at_bytes=0)


def _is_rest(answer: Answer, position_bytes: int, size_bytes: int) -> bool:
    found = _CONTENT_RANGE.fullmatch((answer.header("Content-Range") or "").strip())
    if found is None:
        return False
    rest_bytes = size_bytes - position_bytes
    return (
        int(found[1]) == position_bytes
        and int(found[2]) == size_bytes - 1
        and found[3] in {"*", str(size_bytes)}
        and answer.content_length in {None, rest_bytes}
    )


class Opener(Protocol):
    """Opens a blob, again and again if need be."""

    def open(self, position_bytes: int, /) -> OpenedBlob:
        """Return the blob from this byte or an earlier one on."""
        ...

    def too_slow(self) -> None:
        """Take note that the last opened answer came too slowly."""
        ...

    def finished(self) -> None:
        """Take note that the last opened answer was read to its end."""
        ...


class BlobStream:
    """The bytes of a blob from an offset to its end; breaks are mended inside ``read``."""

    def __init__(
        self,
        opener: Opener,
        offset_bytes: int,
        size_bytes: int,
        *,
        patience: Patience,
        notice: Callable[[str], None],
        what: str,
    ) -> None:
        self._opener = opener
        self._position_bytes = offset_bytes
        self._size_bytes = size_bytes
        self._patience = patience
        self._notice = notice
        self._what = what
        self._failures = 0
        self._last_break_bytes = offset_bytes
        self._answer: Answer | None = None
        self._ended = offset_bytes >= size_bytes

    def open(self) -> None:
        """Open the blob now, so that its absence shows before the first read."""
        if not self._ended:
            self._reopen()

    def close(self) -> None:
        """Give the connection back."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, ``b""`` at the end.

        Raises BlobInterruptedError when it keeps breaking, and what reopening raises.
        """
        while not self._ended and size != 0:
            if self._answer is None:
                self._reopen()
                continue
            try:
                data = self._answer.read(size)
            except AnswerInterruptedError as error:
                if isinstance(error, AnswerTooSlowError):
                    self._opener.too_slow()
                self._broke(error)
                continue
            if data:
                self._position_bytes += len(data)
                return data
            if self._position_bytes < self._size_bytes:
                self._broke(AnswerInterruptedError("the connection was closed too early"))
                continue
            self._end()
        return b""

    def _end(self) -> None:
        self._ended = True
        self._opener.finished()

    def _broke(self, error: TemporaryError) -> None:
        self.close()
        if self._position_bytes >= self._size_bytes:
            # Only the question whether there is more broke off.
            self._end()
            return
        if self._position_bytes - self._last_break_bytes >= _PROGRESS_BYTES:
            self._failures = 0
        self._last_break_bytes = self._position_bytes
        self._failures += 1
        if self._failures >= self._patience.policy.attempts:
            raise self._interrupted(error) from error
        place = f"{self._what}: broke off at byte {self._position_bytes} of {self._size_bytes}"
        shown = AnswerInterruptedError(f"{place}: {error.message}")
        self._patience.wait(shown, self._failures, notice=self._notice)

    def _reopen(self) -> None:
        resuming = self._failures > 0
        try:
            opened = self._opener.open(self._position_bytes)
        except NetworkError as error:
            if not resuming:
                raise
            raise self._interrupted(error) from error
        self._answer = opened.answer
        try:
            left = self._position_bytes - opened.starts_at_bytes
            while left and (dropped := len(opened.answer.read(min(left, _SKIP_BYTES)))):
                left -= dropped
        except AnswerInterruptedError as error:
            self._broke(error)
            return
        if left:
            self._broke(AnswerInterruptedError("the connection was closed too early"))

    def _interrupted(self, error: NetworkError) -> BlobInterruptedError:
        return BlobInterruptedError(
            f"{self._what}: broke off at byte {self._position_bytes} of {self._size_bytes}:"
            f" {error.message}",
            hint="run it again: what came so far is kept and the rest is fetched",
        )
