"""A registry in memory, over real HTTP: images as objects, requests remembered, faults on demand.

    with fake_registry() as registry:
        registry.push("library/web", "1.0", tiny_image({"a": b"x"}))
        registry.fail("GET .*/blobs/", cut(after_bytes=1000))
        ... f"{registry.host}/library/web:1.0" ...
        assert registry.requests[-1].range == "bytes=1000-"

It passes the same contract tests as docker-registry. Faults are in ``faulty.py``.
"""

import base64
import contextlib
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.harness.http_server import LoopbackServer, serving
from tests.harness.tiny_image import OCI_INDEX, TinyImage, digest_of

_PATH = re.compile(r"/v2/(?P<name>[^?]+)/(?P<kind>manifests|blobs)/(?P<what>[^/?]+)")
_NOT_FOUND = {"manifests": ("MANIFEST_UNKNOWN", "manifest unknown"), "blobs": ("BLOB_UNKNOWN", "")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        """Its Range header, empty for none."""
        return self.headers.get("range", "")

    @property
    def authorization(self) -> str:
        """Its Authorization header, empty for none."""
        return self.headers.get("authorization", "")

    @property
    def user(self) -> str:
        """``name:password`` of a Basic Authorization, empty for none."""
        kind, _, encoded = self.authorization.partition(" ")
        return base64.b64decode(encoded).decode() if kind == "Basic" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the registry would answer; a fault may answer something else."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Fault = Callable[["Exchange", Reply], None]


@dataclass
class _Planned:
    pattern: re.Pattern[str]
    fault: Fault
    left: int


class Exchange(BaseHTTPRequestHandler):
    """One request being answered; faults write to it as they like."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    registry: "FakeRegistry"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(method=self.command, path=self.path, headers=headers)
        fault, reply = self.registry.reply(seen, body)
        if fault is None:
            self.send(reply)
        else:
            fault(self, reply)

    def send(self, reply: Reply, *, body_bytes: int | None = None) -> None:
        """Send a reply, its body only up to ``body_bytes``; Content-Length is the whole body's."""
        self.send_response(reply.status)
        headers = {"Content-Length": str(len(reply.body))} | reply.headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[:body_bytes])
            self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
        """Keep quiet."""


class FakeRegistry:
    """Images by name and tag. ``challenge`` is a WWW-Authenticate for requests that ``admits`` refuses.

    ``routes`` answer paths outside ``/v2/`` (token servers, content networks).
    """

    def __init__(self) -> None:
        self.host = ""
        self.requests: list[Seen] = []
        self.challenge = ""
        self.admits: Callable[[Seen], bool] = lambda _seen: True
        self.routes: dict[str, Callable[[Seen, bytes], Reply]] = {}
        self.extra_headers: dict[str, str] = {}
        self._tags: dict[tuple[str, str], str] = {}
        self._manifests: dict[str, tuple[str, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()

    def push(self, name: str, tag: str, image: TinyImage) -> str:
        """Make ``name:tag`` stand for the image; return its digest."""
        for digest, content in image.blobs.items():
            self._blobs[digest] = content
            if b'"schemaVersion"' in content[:200]:
                self._manifests[digest] = ("application/vnd.oci.image.manifest.v1+json", content)
        self._manifests[image.digest] = (image.media_type, image.manifest)
        self._tags[name, tag] = image.digest
        return image.digest

    def put_manifest(self, name: str, tag: str, media_type: str, content: bytes) -> str:
        """Make ``name:tag`` stand for any bytes."""
        digest = digest_of(content)
        self._manifests[digest] = (media_type, content)
        self._tags[name, tag] = digest
        return digest

    def forget_blob(self, digest: str) -> None:
        """Lose a blob."""
        del self._blobs[digest]

    def fail(self, pattern: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next ``times`` requests whose ``METHOD path`` matches meet the fault.

        Faults for one pattern are met in the order they were planned.
        """
        self._planned.append(_Planned(re.compile(pattern), fault, times))

    def seen(self, pattern: str) -> list[Seen]:
        """Return the requests whose ``METHOD path`` matches."""
        return [one for one in self.requests if re.search(pattern, f"{one.method} {one.path}")]

    def reply(self, seen: Seen, body: bytes) -> tuple[Fault | None, Reply]:
        """Return what to answer, and the fault to answer it with."""
        with self._lock:
            self.requests.append(seen)
            reply = self._reply(seen, body)
            line = f"{seen.method} {seen.path}"
            for planned in self._planned:
                if planned.left and planned.pattern.search(line):
                    planned.left -= 1
                    return planned.fault, reply
        return None, reply

    def _reply(self, seen: Seen, body: bytes) -> Reply:
        path = urllib.parse.urlsplit(seen.path).path
        if path in self.routes:
            return self.routes[path](seen, body)
        if not self.admits(seen):
            headers = {"WWW-Authenticate": self.challenge} if self.challenge else {}
            return _error(401, "UNAUTHORIZED", "authentication required", headers)
        if path == "/v2/":
            return Reply(status=200, body=b"{}")
        found = _PATH.fullmatch(path)
        if not found:
            return _error(404, "NAME_UNKNOWN", "no such path")
        if found["kind"] == "manifests":
            return self._manifest(seen, found["name"], found["what"])
        return self._blob(seen, found["what"])

    def _manifest(self, seen: Seen, name: str, what: str) -> Reply:
        digest = what if ":" in what else self._tags.get((name, what), "")
        if digest not in self._manifests:
            return _error(404, *_NOT_FOUND["manifests"])
        media_type, content = self._manifests[digest]
        if media_type == OCI_INDEX and OCI_INDEX not in seen.headers.get("accept", ""):
            # What docker-registry says to clients that don't ask for indexes.
            return _error(404, "MANIFEST_UNKNOWN", "OCI index found, but not accepted")
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        return Reply(status=200, headers=headers | self.extra_headers, body=content)

    def _blob(self, seen: Seen, digest: str) -> Reply:
        if digest not in self._blobs:
            return _error(404, *_NOT_FOUND["blobs"])
        content = self._blobs[digest]
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        asked = re.fullmatch(r"bytes=(\d+)-", seen.range)
        if not asked:
            return Reply(status=200, headers=headers, body=content)
        start = int(asked[1])
        if start >= len(content):
            return Reply(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(status=206, headers=headers, body=content[start:])


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    body = f'{{"errors":[{{"code":"{code}","message":"{message}","detail":null}}]}}'.encode()
    return Reply(
        status=status, headers={"Content-Type": "application/json"} | (headers or {}), body=body
    )


@contextlib.contextmanager
def fake_registry(*, tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """Yield an empty registry that runs until the block ends."""
    registry = FakeRegistry()
    handler = type("BoundExchange", (Exchange,), {"registry": registry})
    server: LoopbackServer
    with serving(handler, tls=tls) as server:
        registry.host = server.host
        yield registry
