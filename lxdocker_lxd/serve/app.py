"""The web application: one route, which hands every request to :class:`Replies`.

Nothing of the framework's own is served: no redirect for ``//``, no automatic OPTIONS, no page of
its own for errors, no time limit for a whole response (the guard limits each step instead).
"""

from types import TracebackType
from typing import cast

from quart import Quart, Response, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from lxdocker_lxd.serve.exchange import SCOPE_KEY, Exchange
from lxdocker_lxd.serve.guard import App
from lxdocker_lxd.serve.replies import Asked, Replies
from lxdocker_lxd.serve.server_log import ServerLog

# Whatever a client sends is to reach the reply that refuses it.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class _Anything(BaseConverter):
    """Every path; slashes, empty segments and line ends included."""

    regex = "(?s:.*)"
    part_isolating = False


class _Application(Quart):
    """Quart that tells errors to the server's own log."""

    server_log: ServerLog

    def log_exception(
        self,
        exception_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None],
    ) -> None:
        """Write the traceback of a bug."""
        if exception_info[1] is not None:
            self.server_log.bug("an answer", exception_info[1])


def create(replies: Replies, log: ServerLog) -> App:
    """Return the ASGI application. It expects an exchange in the scope: see the guard."""
    app = _Application(__name__, static_folder=None)
    app.server_log = log
    app.url_map.merge_slashes = False
    app.url_map.converters["anything"] = _Anything

    async def answered(name: str) -> Response:  # noqa: ARG001 - the undecoded path counts
        exchange: Exchange = cast("dict[str, Exchange]", request.scope)[SCOPE_KEY]
        reply = await replies.to(
            Asked(
                method=request.method,
                raw_path=request.scope["raw_path"],
                headers=_single(request.headers),
                search=request.args.get("q"),
                exchange=exchange,
            )
        )
        return _response(reply.body, reply.status, dict(reply.headers))

    app.add_url_rule(
        "/<anything:name>", view_func=answered, methods=_METHODS, provide_automatic_options=False
    )
    app.register_error_handler(HTTPException, _refused)
    return app  # type: ignore[return-value]  # its types are the framework's spelling of ASGI's


def _single(headers: Headers) -> dict[str, str]:
    """Return each header once; a repeated one is a list (RFC 9110 5.3)."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _response(body: object, status: int, headers: dict[str, str]) -> Response:
    response = Response(body, status)  # type: ignore[arg-type]  # an iterator of bytes is one too
    response.headers.clear()
    response.headers.update({**headers, "X-Content-Type-Options": "nosniff"})
    response.timeout = None
    return response


async def _refused(error: HTTPException) -> Response:
    """Answer what the framework itself refuses: unknown methods, bad hosts, bugs."""
    status = error.code or 500
    text = b"only GET and HEAD are answered\n" if status == 405 else b"no\n"  # noqa: PLR2004
    headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(text))}
    if status == 405:  # noqa: PLR2004 - HTTP's own number
        headers["Allow"] = "GET, HEAD"
    return _response(text, status, headers)
