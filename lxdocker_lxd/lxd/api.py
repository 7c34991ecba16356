"""The one door to pylxd: a request goes out, an answer comes back, both typed.

Everything else works with :class:`Api` and :class:`Document`; no other module knows which library
speaks to LXD. pylxd carries the requests, its managers are not used: they know no ETags, no
projects per call and no targets.

No request waits for ever: the answer to a single request has ``ANSWER_SECONDS``. Long work is an
operation, which ``work`` waits for in slices, so that only a caller's own time ends the waiting.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pylxd
import requests
from pylxd.client import EventType
from pylxd.exceptions import ClientConnectionFailed, LXDAPIException
from requests.adapters import HTTPAdapter

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.certificates import Proof, proof_for
from lxdocker_lxd.lxd.document import Document, documents
from lxdocker_lxd.lxd.failures import BusyError, ConnectionLostError, UnknownOutcomeError
from lxdocker_lxd.lxd.interruption import interruption
from lxdocker_lxd.lxd.place import Place, RemotePlace
from lxdocker_lxd.lxd.refusal import refusal
from lxdocker_lxd.lxd.request import ANSWER_SECONDS, Request
from lxdocker_lxd.lxd.unix_http import UnixAdapter
from lxdocker_lxd.lxd.websocket import LxdWebsocket, OnMessage

CONNECT_SECONDS = 15.0
# LXD pings an event listener every 10 s and gives up after the third unanswered one; so do we.
EVENT_SILENCE_SECONDS = 35.0
# LXD is busy with an instance for about a second after a failed start or a stop.
BUSY_PAUSES_SECONDS = (0.2, 0.4, 0.8, 1.6, 3.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What LXD answered: the object or list inside, its ETag, and an operation it began."""

    value: object
    etag: str = ""
    operation: str = ""

    @property
    def document(self) -> Document:
        """The answer as one object."""
        return Document(self.value)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The answer as a list of objects."""
        return documents(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """An answer that is a file's bytes, unread; headers by lower-case name."""

    headers: Mapping[str, str]
    pieces: Iterator[bytes]


class _VerifyingAdapter(HTTPAdapter):
    """HTTPS with our context and nothing else: requests would add its own authorities."""

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        super().__init__()

    def init_poolmanager(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - as requests has it
        named["ssl_context"] = self._proof.context
        named["assert_hostname"] = None if self._proof.names_matter else False
        super().init_poolmanager(*args, **named)

    def cert_verify(self, *_args: object, **_named: object) -> None:
        """Leave the context as it is."""


class Api:
    """Requests to one daemon. Safe to use from several threads.

    ``pause`` waits between tries of what is busy; tests pass their own. ``heartbeat`` is called after
    each request, however it ended.
    """

    def __init__(
        self,
        place: Place,
        *,
        pause: Callable[[float], None] = time.sleep,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect; raises the failures of reaching a LXD (see ``failures``)."""
        self.place = place
        self._pause = pause
        self._heartbeat = heartbeat
        self._proof = proof_for(place) if isinstance(place, RemotePlace) else None
        if isinstance(place, RemotePlace):
            endpoint = place.endpoint
            session = requests.Session()
            session.mount("https://", _VerifyingAdapter(proof_for(place)))
        else:
            # pylxd takes a path that doesn't exist for a host's name; connecting must say it.
            endpoint = f"http+unix://{quote(str(place.socket), safe='')}"
            session = requests.Session()
            session.mount("http+unix://", UnixAdapter(place.socket))
        # Proxies, .netrc and certificate bundles of the environment are not for LXD.
        session.trust_env = False
        self._session = session
        self._reached = False
        try:
            with self._translated("connect"):
                self._client = pylxd.Client(
                    endpoint=endpoint, session=session, timeout=(CONNECT_SECONDS, ANSWER_SECONDS)
                )
        except LxdockerError:
            session.close()
            raise
        self._reached = True

    def close(self) -> None:
        """End the kept connections; later requests open new ones."""
        self._session.close()

    @property
    def host_info(self) -> Document:
        """What the daemon told at connecting."""
        return Document(self._client.host_info)

    # ---- single requests

    def read(self, path: str, doing: str, /, **params: str) -> Answer:
        """GET one answer; a connection that breaks is tried once more: reading changes nothing."""
        try:
            return self._request("get", path, doing, params=params)
        except ConnectionLostError:
            return self._request("get", path, doing, params=params)

    def send(self, request: Request) -> Answer:
        """Send a change once. The answer may be an operation that has only begun."""
        headers = dict(request.headers) | ({"If-Match": request.etag} if request.etag else {})
        # The first of both also bounds each write of a body, which a slow disk may hold up.
        longest = CONNECT_SECONDS if request.data is None else request.answer_seconds
        named: dict[str, object] = {
            "params": dict(request.params),
            "headers": headers,
            "timeout": (longest, request.answer_seconds),
        }
        if request.body is not None:
            named["json"] = request.body
        if request.data is not None:
            named["data"] = request.data
        return self._request(request.method, request.path, request.doing, **named)

    def patiently(self, act: Callable[[], Answer]) -> Answer:
        """Run ``act``, again after a while when LXD is busy with the object; BusyError at the end."""
        for seconds in BUSY_PAUSES_SECONDS:
            try:
                return act()
            except BusyError:
                self._pause(seconds)
        return act()

    @contextmanager
    def read_raw(self, path: str, doing: str, /, **params: str) -> Iterator[RawAnswer]:
        """GET a file's bytes as a stream; the connection closes with the context."""
        with self._translated(doing):
            response = self._client.api[path].get(params=_clean(params), is_api=False, stream=True)
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            yield RawAnswer(headers=headers, pieces=self._pieces(response, doing))
        finally:
            response.close()

    def read_headers(self, path: str, doing: str, /, **params: str) -> Mapping[str, str]:
        """HEAD: what GET would send before the content, which LXD doesn't open; lower-case names."""
        with self._translated(doing):
            node = self._client.api[path]
            # pylxd's nodes have no such method.
            response = self._session.head(
                node._api_endpoint,  # noqa: SLF001 - it builds and quotes the address
                params=_clean(params),
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            )
            node._assert_response(response, is_api=False)  # noqa: SLF001 - raises as for others
        return {name.lower(): value for name, value in response.headers.items()}

    def _pieces(self, response: requests.Response, doing: str) -> Iterator[bytes]:
        with self._translated(doing):
            yield from response.iter_content(1 << 16)

    def _request(self, method: str, path: str, doing: str, **named: object) -> Answer:
        named["params"] = _clean(named.get("params"))
        with self._translated(doing):
            node = self._client.api[path] if path else self._client.api
            response = getattr(node, method)(**named)
        body = _body(response, doing)
        fields = dict(body.items())
        return Answer(
            value=fields.get("metadata"),
            etag=response.headers.get("ETag", "").strip('"'),
            operation=body.text("operation").partition("?")[0].rpartition("/")[2],
        )

    # ---- websockets

    def event_socket(self, on_message: OnMessage) -> LxdWebsocket:
        """An unopened websocket of lifecycle events of all projects."""

        def make(url: str, **_options: object) -> LxdWebsocket:
            return LxdWebsocket(
                url,
                proof=self._proof,
                on_message=on_message,
                silence_seconds=EVENT_SILENCE_SECONDS,
            )

        made: LxdWebsocket = self._client.events(make, event_types={EventType.Lifecycle})
        # pylxd asks for its client's project only.
        made.resource = f"{made.resource}&all-projects=true"
        return made

    def operation_socket(
        self, operation: str, secret: str, on_message: OnMessage | None
    ) -> LxdWebsocket:
        """An unopened websocket of an operation, as a running command's output."""
        made = LxdWebsocket(self._client.websocket_url, proof=self._proof, on_message=on_message)
        made.resource = f"/1.0/operations/{operation}/websocket?secret={secret}"
        return made

    # ---- failures

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except LXDAPIException as error:
            raise self._refused(error, doing) from error
        except (ClientConnectionFailed, requests.RequestException, OSError) as error:
            raise interruption(error, doing, self.place, was_reached=self._reached) from error
        finally:
            self._heartbeat()

    def _refused(self, error: LXDAPIException, doing: str) -> LxdockerError:
        response = error.response
        try:
            text = Document(response.json()).text("error")
        except ValueError:
            text = str(response.text)[:2000]
        return refusal(response.status_code, text, doing)


def _body(response: requests.Response, doing: str) -> Document:
    # An answer that isn't LXD's must not pass for an empty list.
    try:
        body = Document(response.json())
    except ValueError:
        body = Document(None)
    if body.text("type") not in {"sync", "async"}:
        raise UnknownOutcomeError(
            f"could not {doing}: what answered there doesn't speak like LXD",
            hint="is something between LXD and us, or another service at that address?",
        )
    return body


def _clean(params: object) -> dict[str, str]:
    return (
        {key: value for key, value in params.items() if value} if isinstance(params, dict) else {}
    )
