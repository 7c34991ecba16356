"""The self-test: convert, serve, let LXD fetch and launch, ask the page, take all of it away.

Everything has one fixed name and a mark, so that what a killed test leaves is found and removed by the
next one and by ``--undo``. The test's image is published in a directory of its own.
"""

import contextlib
import http.client
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.busybox import find_busybox
from lxdocker_lxd.convert.pipeline import convert
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.calls import Command, NewInstance
from lxdocker_lxd.lxd.failures import AbsentError, WrongStateError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import InstanceSettings, UpdateSource
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Event
from lxdocker_lxd.setup import specimen
from lxdocker_lxd.setup.proof import UnprovenError, answers, free_port, prove
from lxdocker_lxd.setup.server_process import serving
from lxdocker_lxd.setup.specimen import NAME

_MARK = "user.lxdocker-lxd.self-test"
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the test works with.

    ``work`` is a directory of its own, made and removed. ``url``, ``addresses`` and ``tls_flags`` are the server's, ``certificate`` is what LXD shall trust
    (PEM, empty for what the system trusts). ``platform`` is this machine's. ``registries`` is None where no registry is to be asked.
    """

    lxd: Lxd
    work: Path
    command: tuple[str, ...]
    url: str
    host_and_port: tuple[str, int]
    addresses: tuple[str, ...]
    tls_flags: tuple[str, ...]
    certificate: str
    platform: Platform
    registries: RegistriesSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One step that succeeded, and how long it took."""

    text: str
    seconds: float


OnTick = Callable[[Tick], None]


class _Silence:
    def emit(self, event: Event, /) -> None:
        """Take one event."""


def run(bench: Bench, on_tick: OnTick) -> None:
    """Run the test; raise LxdockerError for the step that fails. Nothing of it remains."""
    sweep(bench.lxd)
    page = f"lxdocker-lxd {datetime.now(UTC).isoformat()}"
    with _directory(bench.work) as work:
        with _timed(on_tick) as done:
            origin = _convert(bench, work, page)
            done(f"converted {origin}")
        with contextlib.ExitStack() as stack:
            stack.callback(sweep, bench.lxd)
            with _timed(on_tick) as done:
                url = stack.enter_context(_served(bench, work))
                done(f"serving at {url}")
            with _timed(on_tick) as done:
                fingerprint = _fetched(bench, url)
                done("LXD fetched the image with the pinned certificate")
            with _timed(on_tick) as done:
                _launch(bench.lxd, fingerprint)
                done("launched")
            with _timed(on_tick) as done:
                where = _answer(bench.lxd, page)
                done(f"its page answers {where}")
            with _timed(on_tick) as done:
                sweep(bench.lxd)
                done("cleaned up")


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory; also one that a killed test left."""
    clear(path)
    atomic.make_directory(path, mode=0o700)
    try:
        yield path
    finally:
        clear(path)


def clear(path: Path) -> None:
    """Remove the test's directory, if it is there; raise StorageError."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise atomic.storage_error("remove", path, error) from error


@contextlib.contextmanager
def _timed(on_tick: OnTick) -> Iterator[Callable[[str], None]]:
    began = time.monotonic()
    yield lambda text: on_tick(Tick(text=text, seconds=time.monotonic() - began))


def sweep(lxd: Lxd) -> None:
    """Remove what a test made in LXD, also one that was killed."""
    with contextlib.suppress(AbsentError):
        if lxd.instances.get(NAME).config.get(_MARK) == "true":
            with contextlib.suppress(WrongStateError):
                lxd.power.kill(NAME)
            lxd.instances.delete(NAME)
    for image in lxd.images.list():
        if image.update_source is not None and image.update_source.alias == NAME:
            with contextlib.suppress(AbsentError):
                lxd.images.delete(image.fingerprint)


def _convert(bench: Bench, work: Path, page: str) -> str:
    """Publish the image below ``work``; return where it came from."""
    specs = work / "specs"
    for path, content in specimen.layout(
        bench.platform.architecture, bench.platform.variant
    ).items():
        file = specs / "layout" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    name = bench.platform.lxd_architecture
    busybox = find_busybox(name, host_architecture=name, given={})
    shutil.copy(busybox.file.path, specs / "busybox")
    if bench.registries is not None and _converted(bench, work, page, bench.registries) is None:
        return f"{specimen.REGISTRY_IMAGE} of a registry"
    problem = _converted(bench, work, page, None)
    if problem is not None:
        raise problem
    return "an image made here (no registry was asked, or none answered)"


def _converted(
    bench: Bench, work: Path, page: str, registries: RegistriesSettings | None
) -> LxdockerError | None:
    """Convert from a registry or from the layout; return what went wrong, if anything."""
    specs = work / "specs"
    text = specimen.specification(page, from_registry=registries is not None)
    (specs / f"{NAME}.yaml").write_text(text, "utf-8")
    options = ConvertOptions(
        specs=specs,
        cache=work / "cache",
        lxdimages=work / "images",
        host=bench.platform,
        registries=registries or RegistriesSettings(),
        image_format="squashfs" if shutil.which("mksquashfs") else "gzip",
    )
    report = convert(options, _Silence(), now=lambda: datetime.now(UTC))
    return next((outcome.error for outcome in report.outcomes if outcome.error), None)


@contextlib.contextmanager
def _served(bench: Bench, work: Path) -> Iterator[str]:
    """Serve the test's image with the real certificate; yield the URL.

    At the server's own addresses when nobody listens there, else at another port of its host.
    """
    addresses, url = ",".join(bench.addresses), bench.url
    if answers(*bench.host_and_port):
        host = bench.host_and_port[0]
        addresses = f"[{host}]" if ":" in host else host
        addresses += f":{free_port(host)}"
        url = f"https://{addresses}"
    flags = ["--lxdimages", str(work / "images"), "--address", addresses, "--url", url]
    flags += ["--config", "/dev/null", *bench.tls_flags]
    with serving(bench.command, flags, work / "serve.log"):
        yield url


def _fetched(bench: Bench, url: str) -> str:
    serial = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    prove(bench.lxd, bench.url, bench.certificate, serial=serial)
    source = UpdateSource(server=f"{url}/at/{serial}", alias=NAME, certificate=bench.certificate)
    return bench.lxd.images.pull(source, auto_update=False)


def _launch(lxd: Lxd, fingerprint: str) -> None:
    settings = InstanceSettings(
        architecture="", config={_MARK: "true"}, devices={}, profiles=("default",)
    )
    lxd.instances.create(NewInstance(name=NAME, image=fingerprint, settings=settings))
    lxd.power.start(NAME)


def _answer(lxd: Lxd, page: str) -> str:
    """Ask the page from here and return from where; from inside where the host has no way there."""
    until = time.monotonic() + _ANSWER_SECONDS
    networked = any(
        device.get("type") == "nic" for device in lxd.instances.get(NAME).expanded_devices.values()
    )
    while networked and time.monotonic() < until:
        for address in _addresses(lxd):
            if _page_at(address) == page:
                return f"at http://{address}/"
        time.sleep(_POLL_SECONDS)
    url = f"http://127.0.0.1:{specimen.PORT}/"
    found = lxd.guests.execute(
        NAME, Command(words=("/self-test/busybox", "wget", "-q", "-O", "-", url))
    )
    if found.stdout.decode("utf-8", "replace") != page:
        said = found.stderr.decode("utf-8", "replace").strip()
        raise UnprovenError(
            f"the instance {NAME} runs and its page doesn't answer: {said}",
            hint="look at the instance's network: `lxc network list`, and firewalls on the bridge",
        )
    return "inside the instance; this machine has no way to it"


def _addresses(lxd: Lxd) -> Iterator[str]:
    for address in lxd.power.state(NAME).addresses:
        if address.scope == "global" and address.family == "inet":
            yield address.address


def _page_at(address: str) -> str:
    connection = http.client.HTTPConnection(address, specimen.PORT, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
