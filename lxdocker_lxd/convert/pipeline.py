"""The use case ``convert``: every specification's image pulled, built where needed, published.

Order of a run: read the specifications; ask all their sources at once whether anything changed;
as soon as one has answered, build what has to be built of it, several images at a time, each published
as soon as it is whole; then, if everything went well, drop products without a specification, old
versions and unused files. One image's failure leaves its last good version published and stops nothing
else, and no source is waited for by other images: asking and downloading end in a bounded time, and
what takes long gives its place up.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial

from lxdocker_lxd.catalogue import Catalogue, Product
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.conversion_process import bounded_memory, convert_as
from lxdocker_lxd.convert.delivery import Delivery
from lxdocker_lxd.convert.inspection import inspect
from lxdocker_lxd.convert.production import Interrupted, Production, current_version
from lxdocker_lxd.convert.rebuild import reason
from lxdocker_lxd.convert.run import ConvertOptions, ImageOutcome, Outcome, RunReport
from lxdocker_lxd.convert.slots import Slots
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.convert.sources import Sources
from lxdocker_lxd.convert.spec_directory import LoadedSpec, SpecEntry, read_specs, select
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.convert.target import Target, Toolbox
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import InternalError, LxdockerError, StorageError, UsageError
from lxdocker_lxd.ownership import other_owner
from lxdocker_lxd.progress import Event, ImageFinished, Notice, Progress, StageStarted
from lxdocker_lxd.reference import Reference

_log = logging.getLogger(__name__)

_PROBES = 16
"""How many sources are asked at once: answers are small and mostly waited for."""

_PROBE_TURN_SECONDS = 5.0
"""How long a source that is asked keeps others from their turn."""

_MOST_THREADS = 64
"""For each of both; those that have given their place up included."""

_PATIENT_SECONDS = 10.0
"""How long sources are waited for without a word."""

_ENDING_SECONDS = 3.0
"""How long an interrupted run lets its threads clean up."""

Probe = tuple[Source, Digest] | LxdockerError


def convert(
    options: ConvertOptions,
    progress: Progress,
    *,
    now: Callable[[], datetime],
    delivery: Delivery | None = None,
) -> RunReport:
    """Run once over the specifications and return what came of each product.

    It is always the owner of the cache and the images' directory who converts: root has that user do it.

    ``now`` returns the time, in UTC. Waits while another run writes to the same directory. A dry
    run changes nothing and takes no lock. Images that ``delivery`` wants go there. Failures of single
    images are in the report; raises NotFoundError for the directory or a name, StorageError for the
    directories written to, UsageError where they have several owners, CatalogueError.
    """
    owner = other_owner((options.cache, options.lxdimages))
    if owner is not None:
        if delivery is not None:
            raise UsageError(
                f"convert into {options.lxdimages}: it belongs to {owner.name}, and root would bring"
                " its images into LXD while they are made",
                hint=f"give it to root (chown -R root: {options.lxdimages.parent}), or choose another"
                " directory with --imports",
            )
        return convert_as(owner, options, progress)
    entries = _entries(options, progress)
    with bounded_memory(), Sources(options.registries) as sources:
        run = _Run(options, progress, now, sources, delivery)
        return run.preview(entries) if options.dry_run else run.perform(entries)


def _entries(options: ConvertOptions, progress: Progress) -> Sequence[SpecEntry]:
    entries = select(read_specs(options.specs), options.names)
    if not entries:
        text = f"no specification in {options.specs}: nothing to do, and nothing is removed"
        progress.emit(Notice(image="", text=text))
    return entries


class _Run:
    """One run; holds what its steps share."""

    def __init__(
        self,
        options: ConvertOptions,
        progress: Progress,
        now: Callable[[], datetime],
        sources: Sources,
        delivery: Delivery | None,
    ) -> None:
        self._options = options
        self._progress = progress
        self._now = partial(_second, now)
        self._sources = sources
        self._delivery = delivery
        self._directory = CatalogueDirectory(options.lxdimages)
        self._waited = False

    def preview(self, entries: Sequence[SpecEntry]) -> RunReport:
        """Say what ``perform`` would do now, from requests for documents alone."""
        targets, outcomes = self._targets(entries)
        catalogue = self._directory.read()
        probes = self._probes(targets)
        for target in targets:
            outcomes.append(
                self._guarded(target, partial(self._foresee, target, catalogue, probes))
            )
        outcomes += self._orphans(catalogue, entries, outcomes, "would-remove")
        return _report(outcomes)

    def perform(self, entries: Sequence[SpecEntry]) -> RunReport:
        """Do everything; see the module's text."""
        store = Store(self._options.cache)
        with self._directory.writing(self._waiting), store.using():
            if self._waited:
                # What was asked for when the wait began may be old by now.
                entries = _entries(self._options, self._progress)
            targets, outcomes = self._targets(entries)
            probes: dict[str, Probe] = {}
            outcomes += self._produced(targets, probes, store)
            return self._settled(entries, outcomes, probes, store)

    def _waiting(self, holder: str) -> None:
        self._waited = True
        text = f"another run is at work here: {holder}; waiting for it to end"
        self._progress.emit(Notice(image="", text=text))

    def _targets(self, entries: Sequence[SpecEntry]) -> tuple[list[Target], list[ImageOutcome]]:
        """Return the products wanted, and an outcome for each that can't even be tried."""
        toolbox = Toolbox(self._options)
        targets: list[Target] = []
        failures: list[ImageOutcome] = []
        for entry in entries:
            if entry.loaded is None:
                assert entry.error is not None  # noqa: S101 - one of the two is always there
                failures.append(self._failed((entry.name, ""), entry.name, entry.error))
                continue
            for found in toolbox.targets(entry.loaded):
                if isinstance(found, Target):
                    targets.append(found)
                else:
                    architecture, error = found
                    failures.append(self._failed((entry.name, architecture), entry.name, error))
        return targets, failures

    def _probes(self, targets: Sequence[Target]) -> dict[str, Probe]:
        """Ask every source what its name stands for now, and wait for all answers."""
        with self._asked(targets) as asked:
            return dict(self._answers(asked))

    @contextlib.contextmanager
    def _asked(self, targets: Sequence[Target]) -> Iterator[dict[str, Future[Probe]]]:
        """Ask every source, several at a time; yield what will be their answers, by name."""
        for target in targets:
            self._progress.emit(StageStarted(image=target.label, stage="resolve"))
        loaded = {target.loaded.spec.name: target.loaded for target in targets}
        slots = Slots(_PROBES, seconds=_PROBE_TURN_SECONDS)
        stop = threading.Event()

        def probe(one: LoadedSpec) -> Probe:
            with slots.taken():
                if stop.is_set():
                    raise Interrupted
                return self._probe(one)

        threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="probe")
        try:
            yield {name: threads.submit(probe, one) for name, one in loaded.items()}
        finally:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)

    def _answers(self, asked: Mapping[str, Future[Probe]]) -> Iterator[tuple[str, Probe]]:
        """Yield answers by name as they come; say once for whom we are still waiting."""
        names = {future: name for name, future in asked.items()}
        told = False
        while names:
            done, _ = wait(names, None if told else _PATIENT_SECONDS, FIRST_COMPLETED)
            if not done:
                told = True
                for name in names.values():
                    text = f"its source hasn't answered for {_PATIENT_SECONDS:.0f} s; still waiting"
                    self._progress.emit(Notice(image=name, text=text))
            for future in done:
                yield names.pop(future), future.result()

    def _probe(self, loaded: LoadedSpec) -> Probe:
        name = loaded.spec.name

        def notice(text: str) -> None:
            self._progress.emit(Notice(image=name, text=text))

        try:
            source = self._sources.open(loaded.source, notice=notice)
            pinned = loaded.source.digest if isinstance(loaded.source, Reference) else None
            return source, pinned or source.head()
        except LxdockerError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one image's bug must not stop the others
            return _internal(error)

    def _foresee(
        self, target: Target, catalogue: Catalogue, probes: dict[str, Probe]
    ) -> ImageOutcome:
        source, head = _answer(probes, target)
        product = catalogue.product(*target.key)
        version = current_version(self._directory, product, self._delivery)
        same = version is not None and version.source.top_digest == str(head)
        if version is not None and same:
            manifest_digest = version.source.manifest_digest
        else:
            found = inspect(source, target.platform, image=target.label)
            manifest_digest = str(found.resolved.manifest_digest)
        why = reason(version, target.inputs(manifest_digest))
        return _outcome(target.key, "would-build" if why else "unchanged", why, product)

    def _produced(
        self, targets: Sequence[Target], probes: dict[str, Probe], store: Store
    ) -> list[ImageOutcome]:
        """Bring every target up to date, ``jobs`` at a time; fill ``probes`` with what sources say."""
        stop = threading.Event()
        production = Production(
            self._options,
            self._directory,
            store,
            _Stoppable(self._progress, stop),
            self._now,
            self._delivery,
        )
        turn_seconds = self._options.registries.limits.turn_seconds
        slots = Slots(max(1, self._options.jobs), seconds=turn_seconds)

        def produce(target: Target) -> ImageOutcome:
            with slots.taken():
                if stop.is_set():
                    raise Interrupted
                return self._guarded(
                    target, lambda: production.produce(target, *_answer(probes, target))
                )

        executor = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="image")
        running: list[Future[ImageOutcome]] = []
        try:
            with self._asked(targets) as asked:
                for name, probe in self._answers(asked):
                    probes[name] = probe
                    running += [
                        executor.submit(produce, target)
                        for target in targets
                        if target.loaded.spec.name == name
                    ]
            return [future.result() for future in running]
        finally:
            # After Ctrl-C the threads end at their next progress event; one that waits for a
            # network answer isn't waited for: nothing it could still do is published.
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            wait(running, timeout=_ENDING_SECONDS)

    def _guarded(self, target: Target, work: Callable[[], ImageOutcome]) -> ImageOutcome:
        """Do one product's work; a foreseen failure becomes its outcome."""
        started = time.monotonic()
        try:
            outcome = work()
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - one image's bug must not stop the others
            known = error if isinstance(error, LxdockerError) else _internal(error)
            seconds = time.monotonic() - started
            return self._failed(target.key, target.label, known, seconds=seconds)
        self._progress.emit(
            ImageFinished(image=target.label, outcome=outcome.outcome, detail=outcome.reason)
        )
        return outcome

    def _failed(
        self, key: tuple[str, str], label: str, error: LxdockerError, *, seconds: float = 0.0
    ) -> ImageOutcome:
        """Return the outcome of a failure, with what stays published; ``key`` may lack its part."""
        self._progress.emit(ImageFinished(image=label, outcome="failed", detail=error.message))
        product = self._directory.read().product(*key)
        return _outcome(key, "failed", error.message, product, seconds=seconds, error=error)

    def _orphans(
        self,
        catalogue: Catalogue,
        entries: Sequence[SpecEntry],
        outcomes: Iterable[ImageOutcome],
        outcome: Outcome,
    ) -> list[ImageOutcome]:
        """Return an outcome for each product that no specification asks for any more.

        There are none unless the run saw all specifications and all went well.
        """
        found = list(outcomes)
        if self._options.names or not entries or any(one.error for one in found):
            return []
        wanted = {(one.name, one.architecture) for one in found}
        return [
            _outcome(product.key, outcome, "no specification asks for it", product)
            for product in catalogue.products
            if product.key not in wanted
        ]

    def _settled(
        self,
        entries: Sequence[SpecEntry],
        outcomes: list[ImageOutcome],
        probes: dict[str, Probe],
        store: Store,
    ) -> RunReport:
        """Drop what isn't needed any more, from the catalogue, its directory and the cache."""
        at = self._now()
        gone = self._orphans(self._directory.read(), entries, outcomes, "removed")
        keys = {(one.name, one.architecture) for one in gone}
        catalogue = self._directory.change(
            lambda before: before.without(keys, at=at).retained(keep=self._options.versions, at=at)
        )
        freed_bytes = 0
        try:
            freed_bytes = self._directory.collect(at) if entries else 0
            if not self._options.names and entries:
                store.prune(_used(catalogue, probes))
        except LxdockerError as error:
            # What was published stays published; the next run tries to clean up again.
            self._progress.emit(Notice(image="", text=f"not cleaned up: {error.message}"))
        return _report([*outcomes, *gone], freed_bytes=freed_bytes)


class _Stoppable:
    """Passes events on until told to stop; then whoever reports next is ended by an exception."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self._progress = progress
        self._stop = stop

    def emit(self, event: Event, /) -> None:
        if self._stop.is_set():
            raise Interrupted
        self._progress.emit(event)


def _internal(error: Exception) -> LxdockerError:
    """Return a bug, or a lack of memory, as one image's failure; the traceback goes to the log."""
    _log.debug("unforeseen failure", exc_info=error)
    if isinstance(error, MemoryError):
        return StorageError(
            "the memory that this run may take is used up",
            hint="convert it alone (--name, --jobs 1), or on a machine with more memory; lower limits"
            " (limits: in the settings) refuse such an image sooner",
        )
    return InternalError(
        f"internal error: {type(error).__name__}: {error}",
        hint="this is a bug; please report it with the output of --debug",
    )


def _second(now: Callable[[], datetime]) -> datetime:
    return now().replace(microsecond=0)


def _answer(probes: dict[str, Probe], target: Target) -> tuple[Source, Digest]:
    probe = probes[target.loaded.spec.name]
    if isinstance(probe, LxdockerError):
        raise probe
    return probe


def _used(catalogue: Catalogue, probes: dict[str, Probe]) -> set[Digest]:
    """Return the manifests whose content the next run may need: published or just asked for."""
    used = {
        Digest.parse(digest)
        for product in catalogue.products
        for digest in (product.newest.source.top_digest, product.newest.source.manifest_digest)
    }
    return used | {probe[1] for probe in probes.values() if not isinstance(probe, LxdockerError)}


def _outcome(
    key: tuple[str, str],
    outcome: Outcome,
    why: str,
    product: Product | None,
    *,
    seconds: float = 0.0,
    error: LxdockerError | None = None,
) -> ImageOutcome:
    version = product.newest if product else None
    return ImageOutcome(
        name=key[0],
        architecture=key[1],
        outcome=outcome,
        reason=why,
        serial=version.serial if version else None,
        fingerprint=version.fingerprint if version else None,
        size_bytes=version.size_bytes if version else None,
        seconds=seconds,
        error=error,
    )


def _report(outcomes: Iterable[ImageOutcome], freed_bytes: int = 0) -> RunReport:
    ordered = sorted(outcomes, key=lambda one: (one.name, one.architecture))
    return RunReport(outcomes=tuple(ordered), freed_bytes=freed_bytes)
