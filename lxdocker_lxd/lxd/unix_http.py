"""HTTP over a daemon's unix socket, for requests.

pylxd's own adapter keeps one connection for each path it was asked for, and leaves the socket open
when connecting fails; here all requests share a few connections.
"""

import socket
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

_MOST_KEPT = 10


class _Connection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(self.timeout)
            made.connect(str(self._path))
        except BaseException:
            made.close()
            raise
        self.sock = made


class _Pool(HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", maxsize=_MOST_KEPT)
        self._path = path

    def _new_conn(self) -> _Connection:
        return _Connection(self._path)


class UnixAdapter(HTTPAdapter):
    """Sends every request to the socket at ``path``, whatever host its URL has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,  # noqa: ARG002 - as requests has it
        verify: bool | str | None,  # noqa: ARG002
        proxies: object = None,  # noqa: ARG002
        cert: object = None,  # noqa: ARG002
    ) -> HTTPConnectionPool:
        """The one pool."""
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: object) -> str:  # noqa: ARG002
        """The path alone; the host of the URL is the socket."""
        return request.path_url

    def close(self) -> None:
        """End the kept connections."""
        self._pool.close()
        super().close()
