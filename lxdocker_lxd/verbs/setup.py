"""``lxdocker-lxd setup``: options into a plan, shown, agreed to, carried out; or taken back."""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from lxdocker_lxd.console import Console, document, table
from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.setup import hand, self_test
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.plan import Plan, Step, TakeBack, plan, plan_undo, renewals
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.run import (
    CERTIFICATE_KINDS,
    LXD_KINDS,
    Prepared,
    bench,
    can_launch,
    host_hands,
    lxd_hands,
    prepare,
)
from lxdocker_lxd.setup.self_test import Tick
from lxdocker_lxd.setup.state_file import StateFile
from lxdocker_lxd.setup.wish import Places, Wish
from lxdocker_lxd.verbs.lxd_address import lxd_place
from lxdocker_lxd.verbs.surroundings import load_settings, this_platform

_PROGRAM = "lxdocker-lxd"
_ACTIONS = {
    "already": "already",
    "create": "create",
    "change": "change",
    "confirm": "record",
    "leave": "leave",
}


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
    return _Setup(options, console, wish, file).run()


class _Setup:
    """One run forward."""

    def __init__(
        self, options: argparse.Namespace, console: Console, wish: Wish, file: StateFile
    ) -> None:
        self._options = options
        self._console = console
        self._wish = wish
        self._file = file
        self._json = options.format == "json"
        self._ticks: list[Tick] = []

    def run(self) -> int:
        place = lxd_place(self._options)
        lxd = open_lxd(place)
        config = Places.of(self._wish).config
        if not self._options.config and config.exists():
            self._options.config = str(config)
        settings = load_settings(self._options)
        configured = bool(self._options.config)

        def prepared(state: SetupState) -> Prepared:
            return prepare(lxd, place, self._wish, settings, state, configured=configured)

        state = self._file.read()
        found = prepared(state)
        proven = state.proven or not state.records or self._options.no_self_test
        if self._options.dry_run or (found.plan.nothing and proven):
            self._report(found, "planned" if self._options.dry_run else "nothing to do")
            return 0
        if not self._json:
            self._console.result(_plan_text(found))
        if found.plan.nothing:
            self._console.note("note: all is in place; only the self-test is still to be passed")
        _agree(self._options, self._console)
        with self._file.locked() as state:
            # Another run may have been faster.
            found = prepared(state)
            after = hand.carry_out(found.plan, found.hands, state, self._file, self._told)
            if self._test(bench(found, lxd, self._wish, settings, this_platform())):
                hand.proven(after, self._file)
        self._report(found, "done")
        return 0

    def _test(self, bench: self_test.Bench) -> bool:
        """Run the self-test; return False where it was left out."""
        if self._options.no_self_test:
            self._console.note("note: the self-test was left out")
            return False
        if not can_launch(bench.lxd):
            self._console.note("note: no self-test: LXD's default profile has no root disk")
            return False
        self_test.run(bench, self._ticked)
        return True

    def _ticked(self, tick: Tick) -> None:
        self._ticks.append(tick)
        self._console.note(f"test: {tick.text} ({tick.seconds:.1f} s)")

    def _told(self, step: Step) -> None:
        self._console.note(f"done: {step.item.text}")

    def _report(self, found: Prepared, result: str) -> None:
        if self._json:
            ticks = [{"text": tick.text, "seconds": round(tick.seconds, 3)} for tick in self._ticks]
            self._console.result(document(_as_json(found, result) | {"self_test": ticks}))
        elif result == "done":
            self._console.result(_farewell(found))
        else:
            self._console.result(_plan_text(found))
            if found.plan.nothing:
                self._console.note("nothing to do")


def _renew(console: Console, wish: Wish, file: StateFile, *, dry_run: bool) -> int:
    """Renew what is due of the certificates setup made; LXD isn't asked."""
    hands = host_hands(wish)
    state = file.read()
    items = renewals(state, CERTIFICATE_KINDS)
    if not items:
        raise UsageError(
            "renew the certificate: setup made none here", hint="sudo lxdocker-lxd setup"
        )
    if plan(items, hand.look(items, hands), state).nothing:
        console.note("nothing to do: no certificate is due")
        return 0
    if dry_run:
        console.note("the certificate is due")
        return 0
    with file.locked() as state:
        # Each may depend on the one before: copies of what is made anew.
        for item in items:
            steps = plan((item,), hand.look((item,), hands), state)
            state = hand.carry_out(  # noqa: PLW2901 - the state goes on
                steps, hands, state, file, lambda step: console.note(f"done: {step.item.text}")
            )
    return 0


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
            self._console.result(_undo_text(backs, self._options.format))
            return 0
        if self._options.format != "json":
            self._console.result(_undo_text(backs, self._options.format))
        _agree(self._options, self._console)
        with self._file.locked() as now:
            if now != state:
                raise UsageError("another setup ran meanwhile", hint="run setup --undo again")
            self_test.clear(Places.of(self._wish).self_test)
            if lxd is not None:
                self_test.sweep(lxd)
            left = hand.undo(backs, hands, now, self._file, self._told)
            for path in self._file.remove(left):
                self._console.note(f"left: directory {path}: it isn't empty")
        if self._options.format == "json":
            self._console.result(_undo_text(backs, "json"))
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
        command=_command(),
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
    )


def _command() -> tuple[str, ...]:
    """Return how a unit starts this program."""
    for program in (Path(sys.argv[0]), Path(sys.executable).with_name(_PROGRAM)):
        if program.name == _PROGRAM and program.is_file():
            return (str(program.absolute()),)
    return (sys.executable, "-m", "lxdocker_lxd")


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


def _plan_text(found: Prepared) -> str:
    lxd, steps = found.facts.lxd, found.plan
    head = f"{lxd.product} {lxd.version}, {lxd.place}; images at {found.target.endpoint.url}\n\n"
    rows = [(_ACTIONS[step.action], step.item.text, step.item.reason) for step in steps.steps]
    remarks = "".join(f"note: {remark}\n" for remark in steps.remarks)
    return head + table(("action", "what", "why"), rows) + (f"\n{remarks}" if remarks else "")


def _farewell(found: Prepared) -> str:
    remote = next((i.name.rpartition("#")[2] for i in found.target.items if i.kind == "remote"), "")
    return (
        f"ready: {found.target.endpoint.url}, as remote {remote}\n\n"
        f"put a specification into {found.facts.host.specs}, as nginx.yaml.example there, then:\n"
        "  lxdocker-lxd convert\n"
        f"  lxc launch {remote}:nginx web\n"
        "take all of this back: lxdocker-lxd setup --undo\n"
    )


def _as_json(found: Prepared, result: str) -> dict[str, object]:
    lxd, steps = found.facts.lxd, found.plan
    return {
        "result": result,
        "lxd": {
            "place": lxd.place,
            "packaging": lxd.packaging,
            "product": lxd.product,
            "version": lxd.version,
        },
        "url": found.target.endpoint.url,
        "addresses": list(found.target.endpoint.addresses),
        "steps": list(_steps_json(steps)),
        "remarks": list(steps.remarks),
    }


def _steps_json(found: Plan) -> Iterable[dict[str, object]]:
    for step in found.steps:
        item = step.item
        yield {
            "action": _ACTIONS[step.action],
            "kind": item.kind,
            "name": item.name,
            "what": item.text,
            "why": item.reason,
            "before": None if step.before is None else dict(step.before),
            "after": dict(item.wanted),
            "undo": _undo_of(item, step),
        }


def _undo_of(item: Item, step: Step) -> str:
    if not step.changes:
        return ""
    return f"remove the {item.kind}" if step.before is None else "bring back what was before"


def _undo_text(backs: Iterable[TakeBack], form: str) -> str:
    words = {"take": "take back", "gone": "gone already", "leave": "leave: changed since"}
    if form == "json":
        rows = [
            {"action": back.action, "kind": back.record.kind, "name": back.record.name}
            for back in backs
        ]
        return document({"undo": rows})
    return table(("action", "what"), [(words[back.action], back.record.text) for back in backs])
