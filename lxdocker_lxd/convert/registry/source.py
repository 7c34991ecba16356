"""An image in a registry, as a source: its mirrors first, then the registry itself.

Rules (distribution-spec, containers' mirrors):

1. Freshness is asked with HEAD, which costs no pull at Docker Hub. A registry that doesn't answer
   HEAD with a digest is asked with GET.
2. Manifests are hashed as they came; the registry's own word about their digest only serves HEAD.
3. A mirror that fails, lacks the image or delivers other bytes is passed over for the next place; the
   error a user sees is the registry's own. One that was too slow isn't asked again in this run.
4. Layers that need not be in registries are also looked for at their ``urls``, without
   credentials.
"""

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.registry.endpoint import Endpoint, Request
from lxdocker_lxd.convert.registry.refusal import NotInRegistryError, UnexpectedAnswerError
from lxdocker_lxd.convert.registry.retry import Patience
from lxdocker_lxd.convert.registry.transfer import BlobStream, OpenedBlob, open_blob
from lxdocker_lxd.convert.registry.transport import Answer
from lxdocker_lxd.convert.source import ManifestBytes
from lxdocker_lxd.digest import ByteStream, Digest, DigestMismatchError
from lxdocker_lxd.errors import (
    AuthenticationError,
    NetworkError,
    NotFoundError,
    UsageError,
    VerificationError,
)
from lxdocker_lxd.reference import Reference

Found = TypeVar("Found")

_ACCEPTED_TYPES = (
    oci.OCI_INDEX,
    oci.OCI_MANIFEST,
    oci.DOCKER_LIST,
    oci.DOCKER_MANIFEST,
    # Only so that an image of 2015 gives a clear error instead of "not found".
    oci.DOCKER_SCHEMA1_SIGNED,
    oci.DOCKER_SCHEMA1,
)
ACCEPT = ", ".join(_ACCEPTED_TYPES)
_OK = 200
# HEAD has no body: where the words or the digest matter, GET is asked for them.
_ASK_AGAIN = frozenset({400, 403, 404, 405, 406, 410, 415, 501})

ForeignGet = Callable[[str, str, Mapping[str, str], Collection[int]], Answer]


class RegistrySource:
    """The image a reference names. Safe for several threads."""

    def __init__(
        self,
        reference: Reference,
        endpoints: Sequence[Endpoint],
        *,
        foreign: ForeignGet,
        patience: Patience,
        notice: Callable[[str], None],
    ) -> None:
        """``endpoints`` are the mirrors in their order, then the registry itself."""
        self._reference = reference
        self.places = tuple(endpoints)
        self._foreign = foreign
        self._patience = patience
        self._notice = notice
        self._what = reference.familiar
        self._lock = threading.Lock()
        self._fetched: ManifestBytes | None = None
        self._delivered: dict[Digest, set[str]] = {}

    def head(self) -> Digest:
        """Return the digest the reference names now; no request for a reference with a digest.

        Raises NotFoundError, AuthenticationError, NetworkError, VerificationError.
        """
        if self._reference.digest is not None:
            return self._reference.digest
        return self._from_any(self._head)

    def manifest(self, digest: Digest | None) -> ManifestBytes:
        """Return the manifest or index with this digest, or (None) what the reference names.

        Its bytes have the digest. Raises NotFoundError, AuthenticationError, NetworkError,
        VerificationError.
        """
        wanted = digest or self._reference.digest
        with self._lock:
            held, self._fetched = self._fetched, None
        if held is not None and wanted in {None, held.digest}:
            return held
        return self._from_any(lambda place, attempts: self._get(place, attempts, wanted))

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, offset_bytes: int) -> Iterator[ByteStream]:
        """Yield the blob's raw bytes from ``offset_bytes`` on; breaks are mended inside.

        Raises NotFoundError, AuthenticationError, NetworkError, VerificationError; reading raises
        BlobInterruptedError when it keeps breaking. Nothing is verified.
        """
        stream = BlobStream(
            _BlobOpener(self, descriptor),
            offset_bytes,
            descriptor.size_bytes,
            patience=self._patience,
            notice=self._notice,
            what=f"{self._what}: blob {descriptor.digest}",
        )
        try:
            stream.open()
            yield stream
        finally:
            stream.close()

    def _from_any(
        self,
        ask: Callable[[Endpoint, int | None], Found],
        avoid: Collection[str] = (),
    ) -> Found:
        """Return what the first place that can answers; ``avoid`` passes over mirrors."""
        *mirrors, origin = self.places
        for mirror in mirrors:
            if mirror.name in avoid or mirror.is_slow:
                continue
            try:
                return ask(mirror, 1)
            except NotFoundError:
                continue
            except (AuthenticationError, NetworkError, VerificationError, UsageError) as error:
                self._notice(f"mirror {mirror.name} is passed over: {error.message}")
        return ask(origin, None)

    def _request(
        self,
        method: str,
        path: str,
        attempts: int | None,
        *,
        what: str,
        accepted: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Request:
        return Request(
            method=method,
            repository=self._reference.repository,
            path=path,
            what=what,
            headers=headers or {},
            accepted=accepted,
            attempts=attempts,
            seconds=seconds,
        )

    def _head(self, place: Endpoint, attempts: int | None) -> Digest:
        def take(answer: Answer) -> Digest | None:
            with answer:
                text = answer.header("Docker-Content-Digest")
            if answer.status != _OK or not text:
                return None
            try:
                return Digest.parse(text.strip())
            except UsageError:
                return None

        request = self._request(
            "HEAD",
            f"manifests/{self._reference.selector}",
            attempts,
            what=self._what,
            accepted=_ASK_AGAIN,
            headers={"Accept": ACCEPT},
        )
        digest = place.ask(request, take, self._notice)
        if digest is not None:
            return digest
        fetched = self._get(place, attempts, None)
        with self._lock:
            self._fetched = fetched
        return fetched.digest

    def _get(self, place: Endpoint, attempts: int | None, wanted: Digest | None) -> ManifestBytes:
        selector = str(wanted) if wanted else self._reference.selector
        what = f"{self._what}: manifest {wanted}" if wanted else self._what
        request = self._request(
            "GET", f"manifests/{selector}", attempts, what=what, headers={"Accept": ACCEPT}
        )

        def take(answer: Answer) -> ManifestBytes:
            with answer:
                if answer.status != _OK:
                    raise UnexpectedAnswerError(
                        f"{what}: {answer.origin.host} answers {answer.status}"
                    )
                raw = answer.read_all(oci.MANIFEST_LIMIT_BYTES, what=what)
            digest = _digest(raw, wanted)
            if wanted is not None and digest != wanted:
                raise DigestMismatchError(
                    f"{what}: {place.registry} sends other bytes, with digest {digest}",
                    hint=f"if it stays so, {place.registry} or something before it is damaged",
                )
            return ManifestBytes(raw=raw, media_type=answer.media_type, digest=digest)

        try:
            return place.ask(request, take, self._notice)
        except DigestMismatchError as error:
            self._notice(f"{error.message}; trying once more")
            return place.ask(request, take, self._notice)

    def open_blob(
        self, descriptor: Descriptor, position_bytes: int, avoid: Collection[str]
    ) -> tuple[OpenedBlob, str]:
        """Return the blob from about a byte on, and which place it comes from."""
        what = f"{self._what}: blob {descriptor.digest}"

        def ask(place: Endpoint, attempts: int | None) -> tuple[OpenedBlob, str]:
            def get(headers: Mapping[str, str], accepted: Collection[int]) -> Answer:
                request = self._request(
                    "GET",
                    f"blobs/{descriptor.digest}",
                    attempts,
                    what=what,
                    accepted=accepted,
                    headers=headers,
                    seconds=place.blob_start_seconds,
                )
                return place.ask(request, lambda answer: answer, self._notice)

            opened = open_blob(get, position_bytes, descriptor.size_bytes, what=what)
            return opened, place.name

        try:
            return self._from_any(ask, avoid)
        except NotInRegistryError:
            for url in descriptor.urls:
                get = functools.partial(self._foreign, url, what)
                with contextlib.suppress(NotFoundError, AuthenticationError, NetworkError):
                    return open_blob(get, position_bytes, descriptor.size_bytes, what=what), url
            raise

    def delivered(self, digest: Digest) -> set[str]:
        """Return the places that delivered the blob to its end; asked again, it was no good."""
        with self._lock:
            return self._delivered.setdefault(digest, set())


def _digest(raw: bytes, wanted: Digest | None) -> Digest:
    if wanted is None:
        return Digest.of(raw)
    return Digest(wanted.algorithm, hashlib.new(wanted.algorithm, raw).hexdigest())


class _BlobOpener:
    """Opens one blob, each time at a place that hasn't failed it yet; the registry stays."""

    def __init__(self, source: RegistrySource, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor
        self._avoid = set(source.delivered(descriptor.digest))
        self._place = ""

    def open(self, position_bytes: int, /) -> OpenedBlob:
        """Return the blob from this byte or an earlier one on."""
        if self._place:
            self._avoid.add(self._place)
        opened, self._place = self._source.open_blob(self._descriptor, position_bytes, self._avoid)
        return opened

    def too_slow(self) -> None:
        """Remember that this place holds everybody up."""
        for place in self._source.places:
            if place.name == self._place:
                place.is_slow = True

    def finished(self) -> None:
        """Remember who delivered all of it."""
        self._source.delivered(self._descriptor.digest).add(self._place)
