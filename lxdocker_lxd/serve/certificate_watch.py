"""Keeps the server's certificate fresh while it serves, and tells of what goes wrong with it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime, timedelta

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.serve.server_log import ServerLog
from lxdocker_lxd.serve.tls import ServerCertificate

LOOK_SECONDS = 3.0
_LEAST_VALIDITY = timedelta(hours=24)


class CertificateWatch:
    """Looks after one certificate. For one event loop; files are read in ``executor``."""

    def __init__(
        self,
        certificate: ServerCertificate,
        *,
        executor: Executor,
        now: Callable[[], datetime],
        log: ServerLog,
    ) -> None:
        self._certificate = certificate
        self._executor = executor
        self._now = now
        self._log = log
        self._turn = asyncio.Lock()
        self._failure = ""
        self._told: tuple[str, ...] = ()

    async def watch(self) -> None:
        """Refresh the certificate every few seconds until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Take new files or renew; the old certificate serves on where that fails. Never raises."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                changed = await loop.run_in_executor(
                    self._executor, self._certificate.refresh, self._now()
                )
            except LxdockerError as error:
                if self._failure != error.message:
                    self._log.failed("certificate (the old one serves on)", error)
                self._failure = error.message
                return
            self._failure = ""
        if changed:
            facts = self._certificate.facts()
            self._log.notice(
                f"new certificate, sha256 {facts.fingerprint}, valid until"
                f" {facts.not_after:%Y-%m-%d %H:%M} UTC"
            )
        self.tell()

    def tell(self) -> None:
        """Tell what the administrator should know of it, once for each thing."""
        notices = self._certificate.notices(self._now())
        for notice in notices:
            if notice not in self._told:
                self._log.caution(notice)
        self._told = notices

    def problem(self) -> str | None:
        """Return what keeps clients from accepting it now or within a day, if anything."""
        facts = self._certificate.facts()
        if facts.not_before <= self._now() < facts.not_after - _LEAST_VALIDITY:
            return None
        return (
            f"the certificate is valid from {facts.not_before:%Y-%m-%d %H:%M}"
            f" to {facts.not_after:%Y-%m-%d %H:%M} UTC"
        )

    def ends_at(self) -> datetime:
        """Return when it expires."""
        return self._certificate.facts().not_after
