"""Opens the place an image comes from: a registry with its mirrors, a layout, an archive.

One :class:`Sources` serves a whole run, so that connections, tokens and what is known about each host
are shared by its images; ``open_source`` is for a single image.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Self

from lxdocker_lxd.convert.archive import open_archive
from lxdocker_lxd.convert.layout import open_layout
from lxdocker_lxd.convert.registry.credentials import Keychain
from lxdocker_lxd.convert.registry.endpoint import Endpoint
from lxdocker_lxd.convert.registry.origin import Origin, UnsafeAddressError
from lxdocker_lxd.convert.registry.redirect import Destination, NamedBy, send_following, settings_of
from lxdocker_lxd.convert.registry.refusal import NotInRegistryError
from lxdocker_lxd.convert.registry.retry import Patience
from lxdocker_lxd.convert.registry.settings import RegistriesSettings, RegistrySettings
from lxdocker_lxd.convert.registry.source import RegistrySource
from lxdocker_lxd.convert.registry.transport import Answer, Transport
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.reference import ArchiveSource, ImageSource, LayoutSource, Reference


class Sources:
    """All sources of one run; close it, or use it as a context manager. Safe for threads."""

    def __init__(
        self,
        registries: RegistriesSettings,
        *,
        transport: Transport | None = None,
        patience: Patience | None = None,
        keychain: Keychain | None = None,
    ) -> None:
        self._registries = registries
        self._transport = transport or Transport(registries.limits)
        self._patience = patience or Patience()
        self._keychain = keychain or Keychain(registries.credential_files)
        self._lock = threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}

    def open(self, source: ImageSource, *, notice: Callable[[str], None]) -> Source:
        """Return the place an image comes from; a registry isn't contacted yet.

        ``notice`` gets what a user should know and what stops nothing: waits, mirrors passed over,
        a registry's warnings; from several threads. Raises NotFoundError, StorageError and
        VerificationError for layouts and archives.
        """
        if isinstance(source, LayoutSource):
            return open_layout(source)
        if isinstance(source, ArchiveSource):
            return open_archive(source)
        return self._open_registry(source, notice)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_registry(self, reference: Reference, notice: Callable[[str], None]) -> RegistrySource:
        places = (*self._registries.of(reference.registry).mirrors, reference.registry)
        return RegistrySource(
            reference,
            [self._endpoint(place) for place in places],
            foreign=self._foreign,
            patience=self._patience,
            notice=notice,
        )

    def _endpoint(self, place: str) -> Endpoint:
        with self._lock:
            if place not in self._endpoints:
                host, _, prefix = place.partition("/")
                self._endpoints[place] = Endpoint(
                    host,
                    prefix=prefix.strip("/"),
                    registries=self._registries,
                    keychain=self._keychain,
                    transport=self._transport,
                    patience=self._patience,
                )
            return self._endpoints[place]

    def _foreign(
        self, url: str, what: str, headers: Mapping[str, str], accepted: Collection[int]
    ) -> Answer:
        """Get a layer from the address in its descriptor, which anybody may have written."""
        origin = Origin.of(url, what=what)
        if origin.is_internal and origin.host not in self._registries.by_host:
            raise UnsafeAddressError(f"{what}: its address {origin} is in a private network")
        if origin.scheme == "http" and not self._registries.of(origin.host).plain_http_allowed:
            raise UnsafeAddressError(
                f"{what}: its address {origin} is not encrypted",
                hint=f"if that is meant, set insecure: true for {origin.host} under registries: in the"
                " settings file",
            )
        via = RegistrySettings(host=origin.host)
        answer = send_following(
            self._transport,
            self._registries,
            "GET",
            Destination(
                url=url,
                settings=settings_of(origin, self._registries, via=via),
                named_by=NamedBy(source=None),
            ),
            headers=headers,
            what=what,
            seconds=self._transport.limits.blob_start_seconds,
        )
        if answer.status // 100 == 2 or answer.status in accepted:  # noqa: PLR2004 - 2xx
            return answer
        answer.close()
        raise NotInRegistryError(f"{what}: {origin.host} answers {answer.status}")


def open_source(
    source: ImageSource, registries: RegistriesSettings, *, notice: Callable[[str], None]
) -> Source:
    """Return the place one image comes from; see :meth:`Sources.open`."""
    return Sources(registries).open(source, notice=notice)
