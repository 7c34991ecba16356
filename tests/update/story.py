"""One update on the small LXD, interrupted at will, and what must hold at every instant."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import LxdError, NotFoundError
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.lxd.records import Config, Devices
from lxdocker_lxd.update.configuration import differences, saved_of
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.means import Judgement, Means, Outcome, Verdict
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, reap, recover
from lxdocker_lxd.update.transaction import Phase, Saved, VolumeName, readable_stamp
from lxdocker_lxd.update.updater import Updater
from tests.update.memory_journal import MemoryJournal
from tests.update.records import NIC, ROOT
from tests.update.small_lxd import SmallLxd

OLD, NEW, THIRD = "a" * 64, "b" * 64, "c" * 64
PROFILE = {"root": ROOT, "eth0": NIC, "eth1": NIC | {"name": "eth1"}}
FIXED: Devices = {
    "eth0": NIC | {"ipv4.address": "10.0.0.7"},
    "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
}
KEYS: Config = {"limits.memory": "1GiB", "boot.autostart": "true", "environment.SECRET": "s3"}
AT_REST = {Phase.COMMITTED, Phase.KEPT, Phase.REJECTED, Phase.RETIRED}


class KilledError(BaseException):
    """The updater is killed here; nothing of it may catch this."""


class NoPatience(Exception):  # noqa: N818 - it ends a test that would go on for ever
    """The updater waits too often."""


@dataclass
class World:
    """A LXD with one enrolled instance, one bystander, and the updater's journal."""

    behaviour: str = "good"
    running: bool = True
    lxd: SmallLxd = field(init=False)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    now: datetime = datetime(2026, 11, 21, tzinfo=UTC)
    drawn: int = 0
    calls: list[str] = field(default_factory=list)
    waits: int = 0
    acted: bool = False
    user_starts_stage: bool = False
    most_copies: int = 1
    snapshots_volumes: bool = False

    def __post_init__(self) -> None:
        self.lxd = SmallLxd(PROFILE, {OLD: "good", NEW: self.behaviour, THIRD: "good"})
        self.lxd.launch("web", OLD, {**KEYS, HOLDER_KEY: "default/web"}, FIXED)
        self.lxd.box("web").running = self.running
        self.lxd.launch("other", OLD, {**KEYS, "user.mine": "1"}, {})
        self.lxd.after = self.check
        self.saved = self.story()
        self.bystander = repr(self.lxd.box("other"))

    def story(self, name: str = "web") -> Saved:
        return saved_of(self.lxd.record(self.lxd.box(name)))

    def updater(self) -> Updater:
        """A new process of the updater."""
        means = Means(gate=self, clock=lambda: self.now, pause=self._pause, draw_id=self._draw)
        return Updater(self.lxd, self.journal, means)  # type: ignore[arg-type] # the ports it uses

    def _draw(self) -> str:
        self.drawn += 1
        return f"{self.drawn:08x}"

    def _pause(self, _seconds: float) -> None:
        self.waits += 1
        if self.waits > 200:
            raise NoPatience

    def listen(self) -> AbstractContextManager[EventStream | None]:
        return contextlib.nullcontext()

    def judge(
        self,
        name: str,
        *,
        project: str,
        events: EventStream | None = None,  # noqa: ARG002 - the port's
    ) -> Verdict:
        """Be the gate: three looks at the instance, and the image's own word."""
        for _ in range(3):
            if self.lxd.power.state(name, project=project).status != "Running":
                return Verdict(judgement=Judgement.FAILED, reason="it ended by itself")
        sick = self.lxd.known[self.lxd.box(name).root] == "sick"
        return Verdict(
            judgement=Judgement.FAILED if sick else Judgement.HEALTHY, reason="looked at"
        )

    # ---- what is done

    def update(self, fingerprint: str = NEW) -> Outcome:
        volumes = (VolumeName(pool="default", name="data"),) if self.snapshots_volumes else ()
        return self.updater().update("web", fingerprint, project="default", volumes=volumes)

    def recover(self) -> tuple[Outcome, ...]:
        return recover(self.lxd, self.updater(), self.journal)  # type: ignore[arg-type] # the ports it uses

    def turn_back(self, *, restore_volumes: bool = False) -> Outcome:
        transaction = parked_copy(self.lxd.instances.list(), "web", "default")
        assert transaction is not None
        return self.updater().turn_back(transaction, restore_volumes=restore_volumes)

    @property
    def data(self) -> frozenset[str]:
        """The marks of the roots that have written to the volume and were not undone."""
        return self.lxd.data["data"]

    def reap(self, hours: float = 0) -> tuple[str, ...]:
        self.now += timedelta(hours=hours)
        return reap(self.lxd, self.now).removed  # type: ignore[arg-type] # the ports it uses

    def killed(self, number: int, work: Callable[[], object], *, done: bool) -> bool:
        """Do the work in a process killed at its call ``number``, before or after it was done."""
        count = 0

        def count_call(call: str) -> None:
            nonlocal count
            count += 1
            if count == number:
                raise KilledError(call)

        def after(call: str) -> None:
            self.check(call)
            count_call(call)

        self.lxd.before, self.lxd.after = (
            (lambda _call: None, after) if done else (count_call, self.check)
        )
        try:
            work()
        except KilledError as death:
            self.calls.append(f"killed {'after' if done else 'before'} {number}: {death}")
            return True
        finally:
            self.lxd.before, self.lxd.after = (lambda _call: None), self.check
        return False

    def user(self, number: int, act: Callable[[], None], work: Callable[[], object]) -> None:
        """Do the work while a user acts after its call ``number``; what the user can't do, isn't."""
        count = 0

        def after(call: str) -> None:
            nonlocal count
            count += 1
            if count == number:
                self.calls.append("a user acts")
                with contextlib.suppress(LxdError, NotFoundError):
                    act()
            self.check(call)

        self.lxd.after = after
        try:
            work()
        finally:
            self.lxd.after = self.check
        self.acted = count >= number

    def set_key(self, name: str, key: str, value: str) -> None:
        """What ``lxc config set`` does."""
        box = self.lxd.box(name)
        self.lxd.write(box, replace(box.settings, config={**box.settings.config, key: value}))

    # ---- what must hold

    def check(self, call: str) -> None:
        """I1, I3 and I7, after every single call."""
        self.calls.append(call)
        boxes = self.lxd.boxes.values()
        roots = {box.root for box in boxes if box.name != "other"}
        assert OLD in roots or self.committed, self.calls
        users = [
            box.name
            for box in boxes
            if self.lxd.expanded(box.settings).get("data", {}).get("type") == "disk"
            and (box.running or box.settings.config.get("boot.autostart") == "true")
        ]
        assert len(users) <= 1, (users, self.calls)
        assert repr(self.lxd.box("other")) == self.bystander, self.calls
        stages = [box for box in boxes if box.name.startswith("web-new") and box.root != OLD]
        assert self.user_starts_stage or not any(box.running for box in stages), self.calls

    @property
    def committed(self) -> bool:
        return any(entry.event == "committed" for entry in self.journal.entries) or any(
            stamp is not None and stamp.phase is Phase.COMMITTED
            for stamp in map(readable_stamp, map(self.lxd.record, self.lxd.boxes.values()))
        )

    def settled(self, *, running: bool | None = None) -> None:
        """I2, I4 and I8 at the end: the name is whole, and nothing half-done is left."""
        web = self.lxd.record(self.lxd.box("web"))
        told = "\n".join(self.calls)
        assert differences(web, self.saved) == (), told
        wanted = self.running if running is None else running
        assert web.running is wanted, told
        phases = [readable_stamp(self.lxd.record(box)) for box in self.lxd.boxes.values()]
        assert all(stamp is None or stamp.phase in AT_REST for stamp in phases), told
        kept = [name for name in self.lxd.boxes if name not in {"web", "other"}]
        assert len(kept) <= self.most_copies, (kept, told)

    @property
    def root(self) -> str:
        return self.lxd.box("web").root


def ends_well(outcomes: tuple[Outcome, ...]) -> None:
    """Nothing needs a person."""
    assert all(outcome.act is not Act.HOLD for outcome in outcomes), outcomes
