"""The chain from a registry to a signed image: every step is checked with keys of the step before.

The keys given for a registry have signed its index, and the keys and certificates it names; those keys
have signed the index of the server they stand for, and its files; those certificates alone are
trusted for its TLS. No address is known here: the first is given, the second the registry says.

Who signs can't be forged, but who answers may give an older signed answer; TLS guards against that.
"""

import contextlib
import hashlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.clients import image_registry, lxc_images
from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.image_registry import RegistryIndex, RegistryServer
from lxdocker_lxd.clients.lxc_images import LxcImage, LxcImageName
from lxdocker_lxd.clients.remote_address import LXC_IMAGES, REGISTRY, RemoteAddress, parse_address
from lxdocker_lxd.clients.signature_check import SignatureChecker, checker_of
from lxdocker_lxd.clients.signed_tree import FetchedFile, SignedTree
from lxdocker_lxd.clients.tree import MissingError
from lxdocker_lxd.clients.tree_http import HttpTree
from lxdocker_lxd.errors import UsageError, VerificationError

MOST_ROOTFS_BYTES = 64 << 30
_MOST_METADATA_BYTES = 16 << 20
_MOST_KEY_BYTES = 1 << 20
_LONG_ID_DIGITS = 16


class UntrustedRemoteError(VerificationError):
    """A registry's entry from which no trust follows: no keys, or not those it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What was given for the first server: a file of OpenPGP keys, and one of certificates, if any."""

    keys: Path
    authorities: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcServer:
    """A server of images whose keys are known; ``checker`` believes those only."""

    name: str
    url: str
    tree: HttpTree
    checker: SignatureChecker

    @property
    def signed(self) -> SignedTree:
        """The tree, as far as it is signed."""
        return SignedTree(self.tree, self.checker)

    def find(self, name: LxcImageName) -> LxcImage:
        """Return an image of the signed index; raise UnknownImageError, and what reading raises."""
        what = f"{self.tree.name}/{lxc_images.USER_INDEX}"
        index = self.signed.document(lxc_images.USER_INDEX)
        return lxc_images.find(lxc_images.parse_index(index, what=what), name, what=what)

    def fetch(
        self, image: LxcImage, directory: Path, on_bytes: Callable[[int], None] = lambda _: None
    ) -> "LxcPair":
        """Bring both files of an image into ``directory``; raises what reading raises."""
        metadata = self.signed.fetch(
            image.file(lxc_images.METADATA), directory, most_bytes=_MOST_METADATA_BYTES
        )
        first, second = lxc_images.ROOTFS
        try:
            rootfs = self._rootfs(image.file(first), directory, on_bytes)
        except MissingError:
            rootfs = self._rootfs(image.file(second), directory, on_bytes)
        return LxcPair(image=image, metadata=metadata, rootfs=rootfs)

    def _rootfs(self, path: str, directory: Path, on_bytes: Callable[[int], None]) -> FetchedFile:
        return self.signed.fetch(path, directory, most_bytes=MOST_ROOTFS_BYTES, on_bytes=on_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcPair:
    """An image's two files on this machine, both signed right."""

    image: LxcImage
    metadata: FetchedFile
    rootfs: FetchedFile


@contextlib.contextmanager
def image_server(
    address: RemoteAddress, trust: Trust, name: str, architecture: str, directory: Path
) -> Iterator[tuple[LxcServer, LxcImageName]]:
    """Yield the server that has what ``name`` stands for at ``address``, and the image's name there.

    ``directory`` is the caller's own, for keys and certificates. Raises UnknownRemoteError,
    UntrustedRemoteError, UsageError, and what reading raises.
    """
    if address.protocol == LXC_IMAGES:
        with given_server(address, trust, "the server") as server:
            yield server, lxc_images.parse_name(name, architecture)
        return
    with registry(address, trust) as found:
        entry, wanted = found.index.resolve(name, architecture)
        with found.server(entry, directory) as server:
            yield server, wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry whose index was signed right."""

    index: RegistryIndex
    signed: SignedTree
    authorities: Path | None

    @contextlib.contextmanager
    def server(self, entry: RegistryServer, directory: Path) -> Iterator[LxcServer]:
        """Yield a server that the registry names, with the keys and certificates it names for it."""
        what = f"{self.index.what}: {entry.name}"
        address = parse_address(entry.url, what=f"{what}: the URL")
        if address.protocol == REGISTRY:
            raise UsageError(f"{what} is a registry again", hint="use that registry itself")
        if not entry.trusted_keys:
            raise UntrustedRemoteError(
                f"{what}: the registry names no keys for it",
                hint="ask who runs the registry; a server's images count by its keys only",
            )
        with checker_of([self._key(path) for path in entry.trusted_keys], what=what) as checker:
            _expect_keys(checker, entry.trusted_keys, what)
            authorities = self._authorities(entry, directory)
            with contextlib.closing(HttpTree(address.url, authorities, stay=True)) as tree:
                yield LxcServer(name=entry.name, url=address.url, tree=tree, checker=checker)

    def _key(self, path: str) -> bytes:
        return self.signed.document(path, most_bytes=_MOST_KEY_BYTES)

    def _authorities(self, entry: RegistryServer, directory: Path) -> Path | None:
        """Return a file of the entry's certificates; for none those given, else the system's."""
        if not entry.trusted_certs:
            return self.authorities
        pem = b"".join(
            _certificate(self._key(path), path, f"{self.signed.name}/{path}")
            for path in entry.trusted_certs
        )
        place = directory / f"{hashlib.sha256(pem).hexdigest()}.pem"
        try:
            place.write_bytes(pem)
        except OSError as error:
            raise storage_error("write", place, error) from error
        return place


@contextlib.contextmanager
def registry(address: RemoteAddress, trust: Trust) -> Iterator[Registry]:
    """Yield the registry at ``address``; raises what reading its index raises."""
    with given_server(address, trust, "the registry") as server:
        signed = server.signed
        what = f"{signed.name}/{image_registry.INDEX}"
        index = image_registry.parse_registry(signed.document(image_registry.INDEX), what=what)
        yield Registry(index=index, signed=signed, authorities=trust.authorities)


@contextlib.contextmanager
def given_server(address: RemoteAddress, trust: Trust, name: str) -> Iterator[LxcServer]:
    """Yield the server a chain begins with, believed by the keys that were given; asks it nothing."""
    with (
        checker_of([trust.keys], what=name) as checker,
        contextlib.closing(HttpTree(address.url, trust.authorities, stay=True)) as tree,
    ):
        yield LxcServer(name=name, url=address.url, tree=tree, checker=checker)


def _expect_keys(checker: SignatureChecker, paths: tuple[str, ...], what: str) -> None:
    """Compare the keys with the ids by which the entry calls them (``keys/LONG-ID``)."""
    named = {path.rpartition("/")[2].upper() for path in paths}
    for fingerprint in checker.fingerprints():
        ids = {fingerprint, fingerprint[-_LONG_ID_DIGITS:]}
        if not named & ids:
            raise UntrustedRemoteError(
                f"{what}: the registry names {', '.join(sorted(named))}, and the key there is"
                f" {fingerprint}",
                hint="ask who runs the registry: this key was swapped, or the index is stale",
            )


def _certificate(content: bytes, path: str, what: str) -> bytes:
    """Return a certificate in PEM form whose sha256 is the last part of its path."""
    try:
        text = content.decode("ascii").strip()
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()
    except ValueError as error:
        raise DocumentError(f"{what}: no certificate in PEM form") from error
    if found != path.rpartition("/")[2]:
        raise UntrustedRemoteError(
            f"{what} is another certificate, {found}", hint="ask who runs the registry"
        )
    return text.encode("ascii") + b"\n"
