"""``lxdocker-lxd setup``: options into a plan, shown, agreed to, carried out; or taken back."""

import argparse
import os
import sys
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.console import Console, document
from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.setup import hand, own_program, self_test
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.plan import Step, TakeBack, Unseen, plan_undo, renewals
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.run import (
    CERTIFICATE_KINDS,
    LXD_KINDS,
    Prepared,
    host_hands,
    lxd_hands,
)
from lxdocker_lxd.setup.self_test import Tick
from lxdocker_lxd.setup.state_file import StateFile
from lxdocker_lxd.setup.wish import Places, Wish
from lxdocker_lxd.verbs.lxd_address import lxd_place
from lxdocker_lxd.verbs.setup_jobs import Job, job
from lxdocker_lxd.verbs.setup_report import plan_json, plan_text, undo_text


def run(options: argparse.Namespace, console: Console) -> int:
    """Set the host up or take it back; return the exit code."""
    wish = _wish(options)
    if os.geteuid() != 0 and not options.dry_run:
        raise UsageError("setup changes files of the system", hint="sudo lxdocker-lxd setup")
    file = StateFile(Places.of(wish).state)
    if options.undo:
        return _Undo(options, console, wish, file).run()
    if options.renew:
        return _renew(console, wish, file, dry_run=options.dry_run)
    return _Setup(options, console, file, job(options, wish)).run()


class _Setup:
    """One run forward."""

    def __init__(
        self, options: argparse.Namespace, console: Console, file: StateFile, job: Job
    ) -> None:
        self._options = options
        self._console = console
        self._file = file
        self._job = job
        self._json = options.format == "json"
        self._ticks: list[Tick] = []

    def run(self) -> int:
        state = self._file.read()
        found = self._job.prepared(state)
        proven = state.proven or not state.records or self._options.no_self_test
        if self._options.dry_run or (found.plan.nothing and proven):
            self._report(found, "planned" if self._options.dry_run else "nothing to do")
            return 0
        if not self._json:
            self._console.result(plan_text(found))
        if found.plan.nothing:
            self._console.note("note: all is in place; only the self-test is still to be passed")
        _agree(self._options, self._console)
        with self._file.locked(_waiting(self._console)) as state:
            # Another run may have been faster.
            found = self._job.prepared(state)
            after = hand.carry_out(found.plan, found.hands, state, self._file, self._told)
            if self._test(found):
                hand.proven(after, self._file)
        self._report(found, "done")
        return 0

    def _test(self, found: Prepared) -> bool:
        """Run the self-test; return False where it was left out."""
        if self._options.no_self_test:
            self._console.note("note: the self-test was left out")
            return False
        if obstacle := self._job.obstacle():
            self._console.note(f"note: no self-test: {obstacle}")
            return False
        self._job.test(found, self._ticked)
        return True

    def _ticked(self, tick: Tick) -> None:
        self._ticks.append(tick)
        self._console.note(f"test: {tick.text} ({tick.seconds:.1f} s)")

    def _told(self, step: Step) -> None:
        self._console.note(f"done: {step.item.text}")

    def _report(self, found: Prepared, result: str) -> None:
        if self._json:
            ticks = [{"text": tick.text, "seconds": round(tick.seconds, 3)} for tick in self._ticks]
            self._console.result(document(plan_json(found, result) | {"self_test": ticks}))
        elif result == "done":
            self._console.result(self._job.farewell(found))
        else:
            self._console.result(plan_text(found))
            if found.plan.nothing:
                self._console.note("nothing to do")


def _renew(console: Console, wish: Wish, file: StateFile, *, dry_run: bool) -> int:
    """Renew what is due of the certificates setup made; LXD isn't asked.

    The served certificate first: no user's file, home or account can keep it from being renewed.
    """
    hands = host_hands(wish)
    state = file.read()
    if not renewals(state, CERTIFICATE_KINDS):
        raise UsageError(
            "renew the certificate: setup made none here", hint="sudo lxdocker-lxd setup"
        )
    if dry_run:
        due = _due(state, hands)
        console.note("the certificate is due" if due else "nothing to do: no certificate is due")
        return 0
    done: list[Step] = []

    def told(step: Step) -> None:
        done.append(step)
        console.note(f"done: {step.item.text}")

    def left(item: Item, unseen: Unseen) -> None:
        word = "dropped" if unseen.ownerless else "left"
        console.note(f"note: {word}: {item.text}: {unseen.error.message}")

    with file.locked(_waiting(console)) as state:
        hand.renew(
            renewals(state, CERTIFICATE_KINDS),
            hands,
            state,
            file,
            essential=CERTIFICATE_KINDS[:1],
            on_step=told,
            on_left=left,
        )
    if not done:
        console.note("nothing to do: no certificate is due")
    return 0


def _waiting(console: Console) -> atomic.OnWait:
    return lambda holder: console.note(f"another run of setup is at work: {holder}; waiting for it")


def _due(state: SetupState, hands: hand.Hands) -> bool:
    """Whether something of the certificates isn't as it shall be, as far as that can be seen."""
    seen = hand.look_back(state.records, {kind: hands[kind] for kind in CERTIFICATE_KINDS})
    return any(
        not isinstance(now, Unseen) and now != item.wanted
        for item in renewals(state, CERTIFICATE_KINDS)
        for now in (seen[item.key],)
    )


class _Undo:
    """One run back."""

    def __init__(
        self, options: argparse.Namespace, console: Console, wish: Wish, file: StateFile
    ) -> None:
        self._options = options
        self._console = console
        self._wish = wish
        self._file = file

    def run(self) -> int:
        state = self._file.read()
        if state == SetupState():
            self._console.note("nothing to do: setup changed nothing here")
            return 0
        lxd = self._lxd(state)
        hands = {**host_hands(self._wish), **(lxd_hands(lxd) if lxd else {})}
        backs = plan_undo(state, hand.look_back(state.records, hands))
        if self._options.dry_run:
            self._console.result(undo_text(backs, self._options.format))
            return 0
        if self._options.format != "json":
            self._console.result(undo_text(backs, self._options.format))
        _agree(self._options, self._console)
        with self._file.locked(_waiting(self._console)) as now:
            if now != state:
                raise UsageError("another setup ran meanwhile", hint="run setup --undo again")
            self_test.clear(Places.of(self._wish).self_test)
            if lxd is not None:
                self_test.sweep(lxd)
            left = hand.undo(backs, hands, now, self._file, self._told)
            for path in self._file.remove(left):
                self._console.note(f"left: directory {path}: it isn't empty")
        if self._options.format == "json":
            self._console.result(undo_text(backs, "json"))
        return 0

    def _lxd(self, state: SetupState) -> Lxd | None:
        """Return LXD; None when it is away and setup changed nothing in it."""
        needed = any(record.kind in LXD_KINDS for record in state.records)
        try:
            return open_lxd(lxd_place(self._options))
        except LxdockerError:
            if needed:
                raise
            return None

    def _told(self, back: TakeBack, left: str) -> None:
        word = f"left: {back.record.text}: {left}" if left else f"taken back: {back.record.text}"
        self._console.note(word)


def _wish(options: argparse.Namespace) -> Wish:
    return Wish(
        command=own_program.command(),
        root=Path(options.root).resolve(),
        initialise=not options.no_init,
        bridge=options.bridge or "",
        addresses=tuple(options.addresses or ()),
        url=(options.url or "").rstrip("/"),
        names=tuple(options.names or ()),
        remote_name=options.remote_name or "",
        system_trust=options.system_trust,
        update_hours=options.auto_update_interval,
        users=tuple(options.users),
        container=options.in_container or "",
        container_image=options.container_image,
        lxd=not options.no_lxd,
    )


def _agree(options: argparse.Namespace, console: Console) -> None:
    """Ask unless --yes was given; raise UsageError for a no, and where nobody can be asked."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "setup: nobody can be asked here whether to do this", hint="look, then give --yes"
        )
    console.note("Do this? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("setup: not agreed to; nothing was changed")
