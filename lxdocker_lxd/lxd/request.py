"""A request to LXD that changes something, as it is sent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ANSWER_SECONDS = 120.0

Params = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to change something; ``doing`` names it in messages ("start the instance web").

    ``body`` becomes JSON, ``data`` goes as it is. ``etag`` makes it conditional. Empty ``params``
    are left out.
    """

    method: str
    path: str
    doing: str
    params: Params = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    data: bytes | Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    answer_seconds: float = ANSWER_SECONDS

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent again; a stream is used up by the first time."""
        return self.data is None or isinstance(self.data, bytes)
