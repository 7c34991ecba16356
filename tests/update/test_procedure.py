"""Every state of an update's two instances, even those nobody can bring about: one safe next step."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from lxdocker_lxd.update.configuration import saved_of, stamped
from lxdocker_lxd.update.procedure import ENDS, Act, Step, decide
from lxdocker_lxd.update.transaction import Phase, Role, Transaction
from lxdocker_lxd.update.view import Party, View
from tests.update.records import instance

TRANSACTION = Transaction(id="00000001", project="default", name="web", fingerprint="f" * 64)
HOLDER = instance(config={"volatile.idmap.next": "[1]", "volatile.last_state.idmap": "[]"})
SAVED = saved_of(HOLDER)
OF_OLD = (Phase.LEASED, Phase.OUTAGE, Phase.ROLLBACK, Phase.RETURNED, Phase.KEPT)
OF_NEW = (
    Phase.STAGED,
    Phase.REMAPPING,
    Phase.PROVED,
    Phase.RESTORED,
    Phase.COMMITTED,
    Phase.REJECTED,
    Phase.RETIRED,
)
STATUSES = ("Running", "Stopped", "Frozen")
FLAGS = ("fresh", "give_up", "back", "committed", "became", "remapped", "cold")
# What only a successor that nobody needs yet is good for.
BEFORE = {Act.STAGE, Act.PREPARE, Act.REMAP, Act.STAGE_AGAIN, Act.PROVE, Act.LEASE}


def parties(role: Role, phases: tuple[Phase, ...]) -> Iterator[Party | None]:
    yield None
    # A successor that a user renames isn't looked for; the old instance is.
    names = ("web", TRANSACTION.parked(role)) + (("elsewhere",) if role is Role.OLD else ())
    for phase, status, name in itertools.product(phases, STATUSES, names):
        stamp = TRANSACTION.stamp(role, phase, None if phase is Phase.STAGED else SAVED)
        settings = stamped(HOLDER, stamp)
        one = replace(HOLDER, name=name, status=status, config=settings.config)
        yield Party(instance=one, stamp=stamp, transaction=TRANSACTION)


def views() -> Iterator[View]:
    chosen = [
        {},
        *({flag: True} for flag in FLAGS),
        *({"fresh": True, flag: True} for flag in FLAGS[1:]),
        {"back": True, "became": True},
        {"committed": True, "became": True},
    ]
    for old, new, flags in itertools.product(
        parties(Role.OLD, OF_OLD), parties(Role.NEW, OF_NEW), chosen
    ):
        named = [one.instance for one in (old, new) if one is not None and one.named]
        for holder in (None, HOLDER):
            yield View(
                transaction=TRANSACTION,
                old=old,
                new=new,
                holder=named[0] if named else holder,
                **flags,  # type: ignore[arg-type] # flags, each a bool
            )


def party(view: View, step: Step) -> Party | None:
    return view.old if step.role is Role.OLD else view.new


def check(view: View, step: Step) -> None:
    old, new = view.old, view.new
    if any(one is not None and one.instance.status == "Frozen" for one in (old, new)):
        assert step.act is Act.WAIT
    if old is None and view.holder is not None and view.holder.status == "Frozen":
        assert step.act is Act.WAIT
    if step.act in BEFORE:
        # Nothing was done to the old one yet, and this run began it.
        assert old is None
        assert view.fresh
        assert not view.give_up
    if step.act in BEFORE - {Act.STAGE}:
        assert new is not None
        assert new.waiting
        assert new.stopped
    if step.act is Act.REMAP:
        assert new is not None
        assert new.stamp.phase is Phase.REMAPPING
    if step.act is Act.END_STAGE:
        # Only what an updater's own start may have let run.
        assert new is not None
        assert new.stamp.phase is Phase.REMAPPING
        assert new.waiting
    if step.act is Act.OUTAGE:
        assert new is not None
        assert new.stopped
        assert view.fresh
    if step.act in {Act.DISCARD, Act.STAGE_AGAIN}:
        # What has had the name is never removed by an update.
        assert new is not None
        assert new.stamp.phase not in {Phase.REJECTED, Phase.RETIRED}
        assert not new.named
        assert old is None
    if step.act is Act.START:
        chosen = party(view, step)
        assert chosen is not None
        assert chosen.stopped
        assert not (chosen.stamp.role is Role.NEW and chosen.waiting)


def test_each_state_has_one_safe_next_step() -> None:
    seen = set()
    count = 0
    for view in views():
        step = decide(view)
        count += 1
        seen.add(step.act)
        if step.role is not None and step.act is not Act.LEASE:
            assert party(view, step) is not None, (step, view)
        assert step == decide(view)
        try:
            check(view, step)
        except AssertionError as error:
            raise AssertionError(f"{step} of {view}") from error
    assert count > 50_000
    assert Act.WAIT in seen
    assert {Act.PREPARE, Act.REMAP, Act.END_STAGE, Act.STAGE_AGAIN, *ENDS} <= seen
