"""The image server as a running service: sockets, certificate, publication, app, signals, systemd.

Only puts the parts together. Everything that may be missing or wrong is found before the first
client is accepted; what goes wrong later is told, and the last good state serves on.
"""

import asyncio
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.serve import app, listening, signing, tls
from lxdocker_lxd.serve.certificate_watch import CertificateWatch
from lxdocker_lxd.serve.exchange import Exchange
from lxdocker_lxd.serve.file_body import Disk
from lxdocker_lxd.serve.guard import App, Guard
from lxdocker_lxd.serve.metrics import Metrics
from lxdocker_lxd.serve.peer import Places
from lxdocker_lxd.serve.publication import Publication
from lxdocker_lxd.serve.replies import House, Replies
from lxdocker_lxd.serve.server import Listener, Server, ServerLimits
from lxdocker_lxd.serve.server_log import ERROR, ServerLog
from lxdocker_lxd.serve.settings import ServeSettings
from lxdocker_lxd.serve.site import SiteSettings
from lxdocker_lxd.serve.tls import ServerCertificate
from lxdocker_lxd.service_notify import ServiceNotify

_DISK_THREADS = 8
_HTTPS_PORT = 443
_SPARE_DESCRIPTORS = 32
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
_MINIMUM = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the service knows of and tells to the process it runs in."""

    environment: Mapping[str, str]
    process_id: int
    announce: Callable[[str], None]
    log: ServerLog
    now: Callable[[], datetime]


def serve(lxdimages: Path, settings: ServeSettings, process: Process) -> None:
    """Serve until SIGTERM or SIGINT. Raises LxdockerError for what is wrong at the start."""
    sockets = listening.opened(
        settings.address,
        settings.http_address,
        environment=process.environment,
        process_id=process.process_id,
    )
    try:
        certificate = _certificate(settings, process.now())
        asyncio.run(_Service(lxdimages, settings, process, sockets, certificate).run())
        # It ends anyway: another signal now would only make it look killed.
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    finally:
        sockets.close()


def _certificate(settings: ServeSettings, now: datetime) -> ServerCertificate:
    minimum = _MINIMUM[settings.tls_minimum]
    if settings.key is None and settings.cert is None:
        return tls.local_certificate(settings.tls_dir, settings.names, now, minimum)
    if settings.key is None or settings.cert is None:
        raise UsageError(
            "serve: --key and --cert belong together, got one of them",
            hint="give both, or none to have a certificate made",
        )
    return tls.given_certificate(settings.key, settings.cert, minimum)


def base_url(settings: ServeSettings, *, port: int, certificate: ServerCertificate | None) -> str:
    """Return where clients reach the server: as set, or by its first name and its port.

    The names of a ``certificate`` from elsewhere are those that clients accept.
    """
    if settings.url is not None:
        return settings.url
    host = listening.addresses(settings.address)[0].host
    known = [str(name) for name in certificate.facts().names.all()] if certificate else []
    if settings.cert is not None and host not in known:
        candidates = [*settings.names, *known, host, socket.gethostname()]
    else:
        candidates = [*settings.names, host, socket.gethostname()]
    name = next(name for name in candidates if name and "*" not in name and name not in _ANY)
    shown = f"[{name}]" if ":" in name else name
    return f"https://{shown}" if port == _HTTPS_PORT else f"https://{shown}:{port}"


def site_settings(settings: ServeSettings, url: str, *, certificates: bytes = b"") -> SiteSettings:
    """Return what a site at ``url`` depends on; ``certificates`` (PEM) is what clients trust."""
    return SiteSettings(
        base_url=url,
        remote_name=settings.remote_name,
        publish_delay_seconds=settings.publish_delay,
        certificates=certificates,
    )


class _Service:
    """The parts, and the tasks that keep them fresh."""

    def __init__(
        self,
        lxdimages: Path,
        settings: ServeSettings,
        process: Process,
        sockets: listening.Sockets,
        certificate: ServerCertificate,
    ) -> None:
        self._settings = settings
        self._process = process
        self._sockets = sockets
        self._certificate = certificate
        self._reloading: set[asyncio.Task[object]] = set()
        port = listening.port_of(sockets.secure[0])
        self._url = base_url(settings, port=port, certificate=certificate)
        self._notify = ServiceNotify(process.environment, process.process_id)
        self._metrics = Metrics()
        self._downloads: Places[Exchange] = Places(settings.downloads)
        self._disk = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="disk")
        self._certificate_watch = CertificateWatch(
            certificate, executor=self._disk, now=process.now, log=process.log
        )
        signer = signing.gpg_signer(settings.gpg_key, lxdimages) if settings.gpg_key else None
        self._publication = Publication(
            CatalogueDirectory(lxdimages),
            site_settings(settings, self._url, certificates=certificate.authority() or b""),
            signer=signer,
            now=process.now,
            log=process.log,
        )
        self._server = Server(
            ServerLimits(
                connections=_possible_connections(settings.connections, process.log),
                stall_seconds=settings.stall_timeout,
            ),
            metrics=self._metrics,
            log=process.log,
        )
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal, then finish what is under way."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unforeseen)
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        await self._publication.refresh()
        self._certificate_watch.tell()
        application = self._application()
        self._listen(application)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        tending = [
            asyncio.create_task(self._publication.watch()),
            asyncio.create_task(self._certificate_watch.watch()),
            asyncio.create_task(self._watch_over(application)),
        ]
        self._process.announce(f"serving {self._publication.directory} at {self._url}/")
        self._notify.ready(self._status())
        await self._stopping.wait()
        for task in tending:
            task.cancel()
        await self._end()

    def _application(self) -> App:
        house = House(
            problem=self._problem,
            metrics=self._metrics.text,
            metrics_audience=self._settings.metrics,
            authority=self._certificate.authority,
        )
        replies = Replies(
            publication=self._publication,
            house=house,
            disk=Disk(self._disk),
            log=self._process.log,
        )
        self._add_gauges()
        return app.create(replies, self._process.log)

    def _guarded(self, application: App, *, files_only: bool) -> App:
        return Guard(
            application,
            downloads=self._downloads,
            stall_seconds=self._settings.stall_timeout,
            metrics=self._metrics,
            log=self._process.log,
            files_only=files_only,
        )

    def _listen(self, application: App) -> None:
        told = _protocol_log(self._process.log)
        for sockets, context, files_only in (
            (self._sockets.secure, self._certificate.context(), False),
            (self._sockets.plain, None, True),
        ):
            speaker = self._server.speaker(self._guarded(application, files_only=files_only), told)
            for one in sockets:
                self._server.listen(Listener(one, context, speaker))

    def _add_gauges(self) -> None:
        gauge, publication = self._metrics.gauge, self._publication
        gauge("connections", "Open connections.", lambda: self._server.connections)
        gauge("downloads", "File bodies under way.", lambda: self._downloads.count)
        gauge("ready", "Whether everything is as it should be.", lambda: self._problem() is None)
        gauge(
            "products",
            "Products in the catalogue.",
            lambda: len(publication.current.context.catalogue.products),
        )
        gauge(
            "catalogue_change_timestamp_seconds",
            "When the served site last changed.",
            lambda: datetime.timestamp(publication.changed_at),
        )
        gauge(
            "site_build_seconds", "What the last change took.", lambda: publication.rebuild_seconds
        )
        gauge(
            "kept_documents_bytes",
            "Rendered documents in memory.",
            lambda: publication.current.renditions.kept_bytes,
        )
        gauge(
            "certificate_expiry_timestamp_seconds",
            "When the TLS certificate ends.",
            lambda: datetime.timestamp(self._certificate_watch.ends_at()),
        )

    def _problem(self) -> str | None:
        """Return why the service is not ready, if so, in words that anybody may read.

        Behind a proxy strangers have an address of this machine. The log has paths and causes.
        """
        if self._publication.problem is not None:
            return "the catalogue can't be read"
        return self._certificate_watch.problem()

    def _status(self) -> str:
        products = len(self._publication.current.context.catalogue.products)
        return f"{self._url}/, {products} products, {self._downloads.count} downloads"

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def _reload(self) -> None:
        for work in (self._certificate_watch.refresh(), self._publication.refresh()):
            task = asyncio.create_task(work)
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)

    async def _watch_over(self, application: App) -> None:
        """Prove to systemd that requests are answered, as often as it wants."""
        every_seconds = self._notify.watchdog_seconds
        if every_seconds is None:
            return
        speaker = self._server.speaker(
            self._guarded(application, files_only=False), _protocol_log(self._process.log)
        )
        while True:
            if await self._server.answers(speaker):
                self._notify.alive()
                self._notify.status(self._status())
            else:
                self._process.log.caution("the server does not answer its own request")
            await asyncio.sleep(every_seconds / 3)

    async def _end(self) -> None:
        seconds = self._settings.stop_timeout
        text = f"stopping; {self._downloads.count} downloads may take {seconds} s more"
        self._process.log.notice(text)
        self._notify.stopping(text, seconds + 5)
        cut = await self._server.stop(seconds, self._hurry)
        if cut:
            self._process.log.caution(f"stopped; {cut} answers were cut")
        self._disk.shutdown(wait=False, cancel_futures=True)
        self._publication.close(wait=False)

    def _unforeseen(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError):
            return
        self._process.log.line(ERROR, f"event loop: {context.get('message')}: {error!r}")


def _possible_connections(wanted: int, log: ServerLog) -> int:
    """Raise the limit of open files as far as allowed; return how many connections that carries.

    Each may need a socket and a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, soft), hard))
    possible = min(wanted, max((allowed - _SPARE_DESCRIPTORS) // 2, 1))
    if possible < wanted:
        log.caution(
            f"{possible} connections at once instead of {wanted}: no more than {hard} open files are"
            " allowed (LimitNOFILE= of the unit, ulimit -Hn)"
        )
    return possible


class _ToServerLog(logging.Handler):
    def __init__(self, log: ServerLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.line(ERROR, self.format(record))


def _protocol_log(log: ServerLog) -> logging.Logger:
    """Return a logger for the HTTP library that writes to ``log``."""
    logger = logging.Logger("http")  # noqa: LOG001 - it belongs to one server, not to the process
    logger.addHandler(_ToServerLog(log))
    return logger
