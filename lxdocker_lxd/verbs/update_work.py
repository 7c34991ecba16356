"""What every action of ``lxdocker-lxd update`` works with, put together from options and settings."""

import argparse
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd.console import Console, document, table
from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.service_notify import Heartbeat, ServiceNotify
from lxdocker_lxd.settings import DEFAULT_FILE, FILE_VARIABLE
from lxdocker_lxd.trusted_path import check_trusted
from lxdocker_lxd.update import followed_lxd
from lxdocker_lxd.update.claim import Claim
from lxdocker_lxd.update.copy_ages import CopyAges
from lxdocker_lxd.update.declared_volumes import DeclaredVolumes
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.hook_run import HookedGate, HookedUpdate, HookRunner
from lxdocker_lxd.update.image_server_http import ask
from lxdocker_lxd.update.image_server_poll import ImageServerPoll
from lxdocker_lxd.update.journal import JournalFile
from lxdocker_lxd.update.liveness_monitor import LivenessMonitor
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.polled_images import PolledImages
from lxdocker_lxd.update.procedure import ENDS, Step
from lxdocker_lxd.update.rounds import Rounds
from lxdocker_lxd.update.settings import UpdateSettings
from lxdocker_lxd.update.staged_programs import StagedPrograms
from lxdocker_lxd.update.telling import Telling
from lxdocker_lxd.update.transaction import Transaction
from lxdocker_lxd.update.updater import Updater
from lxdocker_lxd.verbs.interruption import Interruption
from lxdocker_lxd.verbs.lxd_address import lxd_place
from lxdocker_lxd.verbs.surroundings import load_settings

# Longer than an update takes; the service works in rounds.
_LOCK_SECONDS = 900.0
_SLICE_SECONDS = 0.5
_SHOWN = 8
_MACHINE = Path("/etc/machine-id")
# These write keys of instances, and no journal.
_STATELESS = frozenset({"enable", "disable"})


def prepare(options: argparse.Namespace, console: Console) -> "UpdateWork":
    """Read the settings; LXD is connected when it is needed first."""
    settings = load_settings(options).update
    if settings.runs_programs:
        # What names programs for this machine has to be root's, or our own, alone.
        check_trusted(_settings_file(options), owner=os.geteuid())
    # Only the service is anybody's service, whatever this process was started by.
    environment = os.environ if options.action == "run" else {}
    notify = ServiceNotify(environment, os.getpid())
    return UpdateWork(
        options=options,
        console=console,
        settings=settings,
        heartbeat=Heartbeat(notify, clock=time.monotonic),
    )


def _settings_file(options: argparse.Namespace) -> Path:
    return Path(options.config or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE).absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateWork:
    """One run of the command: options, and what follows from them; for the thread that made it.

    ``on_step`` hears in a line of each step of an update; ``views`` show steps instead of lines.
    Whatever waits here lets ``heartbeat`` know each second that it gets on.
    """

    options: argparse.Namespace
    console: Console
    settings: UpdateSettings
    heartbeat: Heartbeat
    on_step: list[Callable[[str], None]] = field(default_factory=list)
    views: list[Callable[[Transaction, Step], None]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    interruption: Interruption = field(default_factory=Interruption)
    _thread: int = field(default_factory=threading.get_ident)
    _opened: list[LxdDaemon] = field(default_factory=list)
    _polled: list[PolledImages] = field(default_factory=list)
    _claims: list[Claim] = field(default_factory=list)
    _declared: list[DeclaredVolumes] = field(default_factory=list)

    @property
    def lxd(self) -> LxdDaemon:
        """LXD; raises what ``open_lxd`` raises until it is reached, and AnotherLxdError."""
        if not self._opened:
            place = lxd_place(self.options)
            lxd = open_lxd(place, pause=self.pause, heartbeat=self.beat)
            if self.options.action not in _STATELESS:
                certificate = lxd.server.info().certificate_fingerprint
                followed_lxd.check(
                    Path(self.options.state),
                    certificate,
                    str(place),
                    is_same=lambda: self._has_our_updates(lxd),
                )
            self._opened.append(lxd)
        return self._opened[0]

    @property
    def journal(self) -> JournalFile:
        """The journal; entered, it is this LXD's, and LXD has no other updater until it is left."""
        return JournalFile(
            Path(self.options.state),
            wait_seconds=_LOCK_SECONDS,
            pause=self.pause,
            entered=self._enter,
            left=self._leave,
        )

    @property
    def _claim(self) -> Claim:
        if not self._claims:
            self._claims.append(Claim(lambda: self.lxd.server, self.claimant, now))
        return self._claims[0]

    @property
    def claimant(self) -> str:
        """What other updaters call this one; the same after a restart, and with its journal lost."""
        state = Path(self.options.state).absolute()
        try:
            machine = _MACHINE.read_text("ascii").strip()[:_SHOWN]
        except (OSError, ValueError):
            machine = ""
        return f"{socket.gethostname()}:{state}" + (f" ({machine})" if machine else "")

    def _enter(self) -> None:
        # Each time anew: behind an address, another LXD may have taken the old one's place.
        info = self.lxd.server.info()
        place = str(lxd_place(self.options))
        renewed = followed_lxd.claim(
            Path(self.options.state),
            info.certificate_fingerprint,
            place,
            is_same=lambda: self._has_our_updates(self.lxd),
        )
        if renewed:
            self.console.note(renewed)
        self._claim.take()
        self.interruption.defer(wanted=True)

    def _has_our_updates(self, lxd: LxdDaemon) -> bool:
        entries = JournalFile(Path(self.options.state)).read()
        return followed_lxd.has_updates_of(lxd.instances.list(project=None), entries)

    def _leave(self) -> None:
        self.interruption.defer(wanted=False)
        self._claim.release()

    def beat(self) -> None:
        """Say that the work got on, and keep the claim to LXD; for all that waits, each second or so.

        Raises PutOffError where a wait is to end because somebody wants the command to end.
        """
        self.heartbeat()
        if threading.get_ident() == self._thread:
            self._claim.renew()
            self.interruption.check()

    def pause(self, seconds: float) -> None:
        """Wait, whoever wants the process to end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.heartbeat()
            time.sleep(min(left, _SLICE_SECONDS))
            self._claim.renew()
        self.heartbeat()

    @property
    def names(self) -> frozenset[str]:
        """The instances that were named; none means all."""
        return frozenset(getattr(self.options, "names", ()))

    def updater(self, journal: JournalFile) -> Updater:
        """An updater that writes into the journal."""
        runner = HookRunner(
            self.lxd.guests, self.settings.hooks, owner=os.geteuid(), heartbeat=self.beat
        )
        hooks = HookedUpdate(self.lxd, runner, complain=self.complaints.append)
        programs = StagedPrograms(self.lxd, self.settings.hooks)

        def check_stage(transaction: Transaction) -> bool:
            read = self.declared.check_stage(transaction)
            return programs.check(transaction) or read

        def before_outage(transaction: Transaction) -> None:
            with self.interruption.giving_up():
                hooks.before_outage(transaction)

        health = HealthGate(self.lxd, clock=time.monotonic, pause=self.pause)
        means = Means(
            gate=HookedGate(health, hooks),
            obstacle=self.declared.problem,
            before_stage=hooks.before_stage,
            check_stage=check_stage,
            before_outage=before_outage,
            went_back=hooks.went_back,
            clock=now,
            pause=self.pause,
            draw_id=lambda: secrets.token_hex(4),
            on_step=self._told,
            interrupted=lambda: self.interruption.asked,
            tell=self._tell,
        )
        return Updater(self.lxd, journal, means)

    def rounds(self, journal: JournalFile, *, monitor: LivenessMonitor | None = None) -> Rounds:
        """Rounds of it; with a ``monitor`` they heal instances as well."""
        projects = frozenset(self.options.projects)
        return Rounds(
            self.lxd,
            self.updater(journal),
            journal,
            now,
            projects=projects,
            polled=self.polled,
            ages=self.ages,
            retention=self.settings.retention,
            monitor=monitor,
        )

    @property
    def ages(self) -> CopyAges:
        """How long kept copies have been there, as the state directory knows it."""
        dry_run = getattr(self.options, "dry_run", False) or self.options.action == "plan"
        return CopyAges(Path(self.options.state), dry_run=dry_run)

    @property
    def polled(self) -> PolledImages:
        """What is known of image servers that are asked directly; the same one each time."""
        if not self._polled:
            poll = ImageServerPoll(
                ask,
                clock=time.monotonic,
                draw=random.random,
                interval_seconds=float(self.settings.poll_interval_seconds),
            )
            self._polled.append(
                PolledImages(
                    poll=poll, clock=now, monotonic=time.monotonic, default=self.settings.poll
                )
            )
        return self._polled[0]

    @property
    def declared(self) -> DeclaredVolumes:
        """What images declare as volumes; the same one each time."""
        if not self._declared:
            self._declared.append(DeclaredVolumes(self.lxd))
        return self._declared[0]

    def telling(self, journal: JournalFile, *, serve: bool = False) -> Telling:
        """Whoever is told of rounds."""
        state, host = Path(self.options.state), socket.gethostname()
        return Telling(self.settings, state, journal, now, host=host, serve=serve)

    def new_complaints(self) -> tuple[str, ...]:
        """What hooks said since this was asked last, though nothing depends on it."""
        found = tuple(self.complaints)
        self.complaints.clear()
        return found

    def instance(self, name: str) -> Instance:
        """An instance of the project that was named."""
        return self.lxd.instances.get(name, project=self.options.project)

    def _tell(self, text: str) -> None:
        self.console.note(text)
        self.heartbeat.status(text)

    def _told(self, transaction: Transaction, step: Step) -> None:
        self.interruption.step(transaction, step)
        for see in self.views:
            see(transaction, step)
        if step.act not in ENDS:
            reason = f": {step.reason}" if step.reason else ""
            said = f"{transaction.name}: {step.act}{reason}"
            if not self.views:
                self.console.note(said)
            for hear in self.on_step:
                hear(said)
        self._claim.renew()

    def show(self, rows: list[dict[str, object]], columns: tuple[str, ...]) -> None:
        """Print rows: a table, or JSON."""
        if self.options.format == "json":
            self.console.result(document(rows))
            return
        cells = [[str(row.get(column, "")) for column in columns] for row in rows]
        self.console.result(table(columns, cells))


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
