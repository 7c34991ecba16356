"""One websocket of LXD's, over its unix socket or a verified TLS connection.

pylxd's websockets are ws4py's; three of their habits would lose events or trust, and are replaced:

* bytes that arrive with the handshake's answer were parsed as one piece, which breaks on anything
  but a single whole frame; here they wait in the buffer that the frame reader takes its slices from;
* ``wss`` did not verify the server; here the context is the one that the requests use;
* nothing noticed a peer that is gone; here a read may be bounded (LXD pings events every 10 s).
"""

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from ws4py.client import WebSocketBaseClient
from ws4py.exc import WebSocketException

from lxdocker_lxd.lxd.certificates import Proof
from lxdocker_lxd.lxd.failures import ConnectionLostError, ServerCertificateError

CONNECT_SECONDS = 15.0
_HANDSHAKE_BYTES = 1 << 16

OnMessage = Callable[[bytes, bool], None]


class LxdWebsocket(WebSocketBaseClient):  # type: ignore[misc] # ws4py has no types
    """A connection that hands each message (its bytes, and whether it is text) to ``on_message``.

    ``silence_seconds`` ends a connection on which nothing is heard for so long; None never does.
    """

    sock: Any

    def __init__(
        self,
        url: str,
        *,
        proof: Proof | None = None,
        on_message: OnMessage | None = None,
        silence_seconds: float | None = None,
        ssl_options: object = None,  # noqa: ARG002 - pylxd passes it; a verifying context serves
    ) -> None:
        # LXD compares Origin with Host and refuses what ws4py would send.
        super().__init__(url, exclude_headers=["origin"])
        self._proof = proof
        self._on_message = on_message
        self._silence_seconds = silence_seconds
        self.trouble = ""

    def connect(self) -> None:
        """Open the connection and finish the handshake.

        Raises ServerCertificateError, before anything was sent, or ConnectionLostError.
        """
        try:
            self.sock.settimeout(CONNECT_SECONDS)
            self.sock.connect(self.bind_addr)
            if self.scheme == "wss":
                self._secure()
            self._write(self.handshake_request)
            headers, body = self._handshake_answer()
            status, _, fields = headers.partition(b"\r\n")
            self.process_response_line(status)
            self.protocols, self.extensions = self.process_handshake_header(fields)
            self.handshake_ok()
        except ssl.SSLCertVerificationError as error:
            self.close_connection()
            raise ServerCertificateError(
                f"could not listen to the LXD at {self.host}:{self.port}: it shows a certificate that"
                f" isn't the trusted one: {error.verify_message}",
                hint="compare its fingerprint (`lxc info` on that host) and pin the right certificate",
            ) from error
        except (OSError, WebSocketException, ValueError) as error:
            self.close_connection()
            raise ConnectionLostError(
                f"LXD's websocket {self.resource.partition('?')[0]} did not open: {error}",
                hint="LXD may be starting or stopping; try again",
            ) from error
        self.buf = body
        self.sock.settimeout(self._silence_seconds)

    def _secure(self) -> None:
        if self._proof is None:
            raise ssl.SSLError("no way to verify the server")
        self.sock = self._proof.context.wrap_socket(self.sock, server_hostname=self.host)
        self._is_secure = True

    def _handshake_answer(self) -> tuple[bytes, bytes]:
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self.sock.recv(4096)
            if not piece or len(answer) > _HANDSHAKE_BYTES:
                raise ConnectionResetError("the handshake's answer ended early")
            answer += piece
        headers, _, body = answer.partition(b"\r\n\r\n")
        return headers, body

    def received_message(self, message: Any) -> None:  # noqa: ANN401 - ws4py has no types
        """Pass a message on; nothing is kept here."""
        if self._on_message is not None:
            self._on_message(bytes(message.data or b""), bool(message.is_text))

    def unhandled_error(self, error: Exception) -> None:
        """Remember why reading ended; a read that timed out is a peer that is gone."""
        self.trouble = (
            f"nothing was heard for {self._silence_seconds:g} s"
            if isinstance(error, TimeoutError)
            else str(error)
        )

    def read_to_end(self) -> None:
        """Read until the connection ends, for whatever reason; ``trouble`` tells which."""
        try:
            while not self.terminated and self.once():
                pass
        except (OSError, RuntimeError, AttributeError, ValueError) as error:
            # ws4py finds its socket taken away when another thread closes it.
            self.trouble = self.trouble or str(error)
        finally:
            self.end()

    def end(self) -> None:
        """Close without a farewell; wakes a thread that reads. Safe to call again."""
        sock = self.sock
        self.client_terminated = self.server_terminated = True
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                sock.close()
