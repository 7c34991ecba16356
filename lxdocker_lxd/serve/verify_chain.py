"""Checks every server that a registry names, with the keys and certificates it names for it."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.clients import image_registry
from lxdocker_lxd.clients.chain import LxcServer, Registry, Trust, given_server, registry
from lxdocker_lxd.clients.image_registry import RegistryServer
from lxdocker_lxd.clients.remote_address import LXC_IMAGES, RemoteAddress, speaks_known
from lxdocker_lxd.errors import LxdockerError, NetworkError, ToolError
from lxdocker_lxd.progress import Progress
from lxdocker_lxd.serve.finding import Finding, remark, wrong
from lxdocker_lxd.serve.verify import VerifyReport, verify

_NOTHING = VerifyReport(documents=0, files=0, size_bytes=0, signatures=0, findings=())


def verify_chain(
    address: RemoteAddress, trust: Trust, *, jobs: int, progress: Progress
) -> VerifyReport:
    """Check the images of the server at ``address``, or of all servers the registry there names.

    Raises what reading the first server's index raises: without it nothing can be said. What is
    wrong with a server it names is a finding.
    """
    if address.protocol == LXC_IMAGES:
        with given_server(address, trust, "the server") as server:
            return _server(server, jobs, progress)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lxdocker-certs-") as made,
            registry(address, trust) as found,
        ):
            return _registry(found, Path(made), jobs, progress)
    except OSError as error:
        raise storage_error("use", Path(tempfile.gettempdir()), error) from error


def _registry(found: Registry, directory: Path, jobs: int, progress: Progress) -> VerifyReport:
    findings = tuple(_aliases(found))
    report = replace(_NOTHING, documents=1, signatures=1, findings=findings)
    for entry in found.index.servers.values():
        one = _entry(found, entry, directory, jobs, progress)
        marked = tuple(replace(item, path=f"{entry.name}: {item.path}") for item in one.findings)
        report = VerifyReport(
            documents=report.documents + one.documents,
            files=report.files + one.files,
            size_bytes=report.size_bytes + one.size_bytes,
            signatures=report.signatures + one.signatures,
            findings=report.findings + marked,
        )
    return report


def _entry(
    found: Registry, entry: RegistryServer, directory: Path, jobs: int, progress: Progress
) -> VerifyReport:
    if not speaks_known(entry.url):
        text = f"not checked: nothing here speaks {entry.url.partition('://')[0][:80]!r}"
        return replace(_NOTHING, findings=(remark(image_registry.INDEX, text),))
    try:
        with found.server(entry, directory) as server:
            report = _server(server, jobs, progress)
    except ToolError:
        raise
    except NetworkError as error:
        path = image_registry.INDEX
        finding = Finding(severity="unreached", path=path, problem=error.message)
        return replace(_NOTHING, findings=(finding,))
    except LxdockerError as error:
        return replace(_NOTHING, findings=(wrong(image_registry.INDEX, error.message),))
    named = len(entry.trusted_keys) + len(entry.trusted_certs)
    return replace(report, documents=report.documents + named, signatures=report.signatures + named)


def _server(server: LxcServer, jobs: int, progress: Progress) -> VerifyReport:
    return verify(
        server.tree,
        jobs=jobs,
        checker=server.checker,
        strict=True,
        progress=progress,
        lxc_only=True,
    )


def _aliases(found: Registry) -> Iterator[Finding]:
    for name, alias in found.index.aliases.items():
        if alias.server not in found.index.servers:
            text = f"the alias {name[:200]} is for {alias.server[:200]!r}, which it doesn't name"
            yield wrong(image_registry.INDEX, text)
