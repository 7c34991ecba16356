"""The registry client with a clock that doesn't wait, for tests: what it slept and said is kept."""

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.pull import PulledImage, pull
from lxdocker_lxd.convert.registry.retry import Patience
from lxdocker_lxd.convert.registry.settings import (
    CredentialFile,
    RegistriesSettings,
    RegistrySettings,
    TransferLimits,
)
from lxdocker_lxd.convert.registry.transport import Transport
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.convert.sources import Sources
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.http_session import Resolve, resolve
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.reference import parse_source

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
AMD64 = Platform(os="linux", architecture="amd64")


@dataclass
class RegistryClient:
    """Sources of one run; ``slept`` are the waits in seconds, ``notices`` what it told the user.

    ``now`` is the time it believes in.
    """

    sources: Sources
    now: datetime
    slept: list[float]
    notices: list[str] = field(default_factory=list)

    def open(self, reference: str) -> Source:
        """Return the image a reference names."""
        return self.sources.open(parse_source(reference), notice=self.notices.append)

    def pull(self, reference: str, store: Store, *, jobs: int = 2) -> PulledImage:
        """Pull the amd64 image into a store."""
        with store.using():
            return pull(
                self.open(reference), AMD64, store, image=reference, jobs=jobs, progress=Silent()
            )


@contextlib.contextmanager
def registry_client(
    *hosts: RegistrySettings,
    credential_files: tuple[CredentialFile, ...] = (),
    read_timeout_seconds: float = 5.0,
    limits: TransferLimits | None = None,
    addresses: Mapping[str, str] | None = None,
) -> Iterator[RegistryClient]:
    """Yield a client whose waits take no time and whose dice always show 0.

    Names in ``addresses`` stand for these addresses, all others for what this machine's resolver says.
    """
    settings = RegistriesSettings(
        by_host={host.host: host for host in hosts}, credential_files=credential_files
    )
    slept: list[float] = []
    clients: list[RegistryClient] = []
    patience = Patience(
        sleep=slept.append, chance=lambda: 0.0, now=lambda: clients[0].now if clients else NOW
    )
    limits = limits or TransferLimits(connect_seconds=2, quiet_seconds=read_timeout_seconds)
    transport = Transport(limits, look_up=look_up_in(addresses or {}))
    with Sources(settings, transport=transport, patience=patience) as sources:
        clients.append(RegistryClient(sources, NOW, slept))
        yield clients[0]


def look_up_in(addresses: Mapping[str, str]) -> Resolve:
    """Return a resolver that knows some names itself."""

    def look_up(name: str, port: int) -> Sequence[tuple[Any, ...]]:
        return resolve(addresses.get(name, name), port)

    return look_up


def credential_file(path: Path, entries: Mapping[str, object]) -> tuple[CredentialFile, ...]:
    """Write an auth.json whose ``auths`` are ``entries``; a text ``user:password`` becomes auth."""
    auths = {
        key: {"auth": base64.b64encode(value.encode()).decode()}
        if isinstance(value, str)
        else value
        for key, value in entries.items()
    }
    path.write_text(json.dumps({"auths": auths}))
    return (CredentialFile(path=str(path), form="containers"),)


def describe(content: bytes, *, urls: tuple[str, ...] = (), digest: str = "") -> Descriptor:
    """Return the descriptor of a layer with this content."""
    return Descriptor(
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
        digest=Digest.parse(digest) if digest else Digest.of(content),
        size_bytes=len(content),
        platform=None,
        annotations={},
        urls=urls,
        data=None,
    )


def read_blob(source: Source, descriptor: Descriptor, offset_bytes: int = 0) -> bytes:
    """Return all bytes of a blob from an offset on."""
    pieces = []
    with source.blob(descriptor, offset_bytes) as stream:
        while piece := stream.read(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)
