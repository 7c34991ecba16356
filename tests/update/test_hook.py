"""Hooks: keys name them, root defines them, exit codes decide."""

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    CommandTimedOutError,
    ConnectionLostError,
    NotRunningError,
    RefusedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.update.hook import (
    Choice,
    Hook,
    HookDeferredError,
    HookRefusedError,
    Occasion,
    Point,
    hooks_of,
    names_of,
    said_by,
)
from lxdocker_lxd.update.hook_run import HookedGate, HookedUpdate, HookRunner
from lxdocker_lxd.update.means import Judgement, Verdict
from tests.update.messages import transaction

BEFORE = "user.lxdocker.update.hook.before"
OCCASION = Occasion(
    point=Point.BEFORE,
    project="default",
    name="web",
    running="1a",
    fingerprint="9f",
    transaction="t1",
)


# ---- which apply


def test_keys_name_hooks_in_order_and_each_once() -> None:
    assert names_of({BEFORE: "dump, quiesce dump\ncheck_2"}, Point.BEFORE) == (
        "dump",
        "quiesce",
        "check_2",
    )
    assert names_of({BEFORE: "dump"}, Point.AFTER) == ()
    assert names_of({}, Point.BACK) == ()


@pytest.mark.parametrize(
    "text",
    [
        "/bin/sh",
        "../dump",
        "http://h/x",
        "rm;ls",
        "$(id)",
        "Dump",
        ".hidden",
        "-x",
        "a" * 64,
        "dump\x00",
        " ".join(f"h{number}" for number in range(17)),
    ],
)
def test_a_key_never_holds_a_command(text: str) -> None:
    with pytest.raises(UsageError):
        names_of({BEFORE: text}, Point.BEFORE)


@given(st.text(max_size=80))
def test_whatever_stands_in_a_key_its_hooks_stay_in_their_directory(text: str) -> None:
    try:
        hooks = hooks_of({BEFORE: text}, Point.BEFORE, {}, project="default")
    except UsageError:
        return
    for hook in hooks:
        assert hook.where == "instance"
        (path,) = hook.words
        assert Path(path).parent == Path("/etc/lxdocker-lxd/hooks")


def test_root_defines_what_a_name_means() -> None:
    defined = {
        "backup": Hook(name="backup", where="host", words=("/usr/local/bin/backup",)),
        "dump": Hook(name="dump", words=("/bin/dump", "--all"), user_id=70),
    }
    config = {BEFORE: "backup dump own"}
    found = hooks_of(config, Point.BEFORE, defined, project="default")
    assert [(hook.where, hook.words) for hook in found] == [
        ("host", ("/usr/local/bin/backup",)),
        ("instance", ("/bin/dump", "--all")),
        ("instance", ("/etc/lxdocker-lxd/hooks/own",)),
    ]
    with pytest.raises(UsageError, match="isn't for the project other"):
        hooks_of(config, Point.BEFORE, defined, project="other")


@pytest.mark.parametrize(
    ("code", "output", "choice", "reason"),
    [
        (0, b"fine", Choice.GO, ""),
        (75, b"backup runs\n", Choice.DEFER, "the hook h puts it off: backup runs"),
        (1, b"", Choice.ABORT, "the hook h ended with 1"),
        (127, b"", Choice.ABORT, "the hook h ended with 127 (no such program)"),
        (137, b"PASSWORD=s3cr3t", Choice.ABORT, "the hook h ended with 137: PASSWORD=[hidden]"),
        (74, b"", Choice.ABORT, "the hook h ended with 74"),
        (-1, b"", Choice.ABORT, "the hook h ended with -1"),
    ],
)
def test_exit_codes(code: int, output: bytes, choice: Choice, reason: str) -> None:
    found = said_by(Hook(name="h"), code, output)
    assert (found.choice, found.reason) == (choice, reason)


# ---- running them


@dataclass
class Inside:
    """Instances whose commands end as told."""

    answers: list[int | Exception] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def execute(self, name: str, command: Command, *, project: str) -> CommandResult:
        assert (name, project) == ("web", "default")
        self.commands.append(command)
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        return CommandResult(exit_code=answer, stdout=b"out", stderr=b"err")


def runner(inside: Inside, *hooks: Hook) -> HookRunner:
    guests: Any = inside
    return HookRunner(guests, {hook.name: hook for hook in hooks}, owner=os.getuid())


def test_hooks_run_inside_until_one_says_no() -> None:
    inside = Inside(answers=[0, 75])
    said = runner(inside).run(OCCASION, {BEFORE: "a b c"}, running=True)
    assert (said.choice, said.reason) == (Choice.DEFER, "the hook b puts it off: err")
    assert [command.words for command in inside.commands] == [
        ("/etc/lxdocker-lxd/hooks/a",),
        ("/etc/lxdocker-lxd/hooks/b",),
    ]
    assert inside.commands[0].environment == {
        "LXDOCKER_HOOK": "a",
        "LXDOCKER_POINT": "before",
        "LXDOCKER_PROJECT": "default",
        "LXDOCKER_INSTANCE": "web",
        "LXDOCKER_FROM": "1a",
        "LXDOCKER_TO": "9f",
        "LXDOCKER_TRANSACTION": "t1",
        "LXDOCKER_REASON": "",
        "LXDOCKER_STAGE": "late",
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CommandTimedOutError("slow"), "didn't end within 60 s"),
        (RefusedError("no exec for you"), "no exec for you"),
        (WrongStateError("it is stopped"), "it is stopped"),
    ],
)
def test_a_hook_that_cant_run_forbids(error: Exception, said: str) -> None:
    found = runner(Inside(answers=[error])).run(OCCASION, {BEFORE: "a"}, running=True)
    assert (found.choice, said in found.reason) == (Choice.ABORT, True)


def test_a_key_that_cant_be_understood_forbids() -> None:
    found = runner(Inside()).run(OCCASION, {BEFORE: "/bin/sh"}, running=True)
    assert found.choice is Choice.ABORT


def test_a_stopped_instance_has_only_the_hosts_hooks(tmp_path: Path) -> None:
    inside = Inside()
    hook = host_hook(tmp_path, f"echo ran > {tmp_path}/ran")
    said = runner(inside, hook).run(OCCASION, {BEFORE: "own backup"}, running=False)
    assert said.choice is Choice.GO
    assert inside.commands == []
    assert (tmp_path / "ran").exists()


def host_hook(directory: Path, text: str, *, mode: int = 0o755, seconds: float = 10) -> Hook:
    path = directory / "backup"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return Hook(name="backup", where="host", words=(str(path), "one two"), timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("text", "choice", "reason"),
    [
        ('test "$1" = "one two" && test "$LXDOCKER_INSTANCE" = web', Choice.GO, ""),
        ("echo tape is full; exit 75", Choice.DEFER, "the hook backup puts it off: tape is full"),
        ("exit 2", Choice.ABORT, "the hook backup ended with 2"),
        ("sleep 60", Choice.ABORT, "the hook backup didn't end within 0.5 s"),
    ],
)
def test_a_hook_of_the_host(tmp_path: Path, text: str, choice: Choice, reason: str) -> None:
    seconds = 0.5 if "sleep" in text else 10
    said = runner(Inside(), host_hook(tmp_path, text, seconds=seconds)).run(
        OCCASION, {BEFORE: "backup"}, running=True
    )
    assert (said.choice, said.reason) == (choice, reason)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o644])
def test_a_hook_that_others_may_write_is_never_run(tmp_path: Path, mode: int) -> None:
    hook = host_hook(tmp_path, f"touch {tmp_path}/ran", mode=mode)
    said = runner(Inside(), hook).run(OCCASION, {BEFORE: "backup"}, running=True)
    assert said.choice is Choice.ABORT
    assert not (tmp_path / "ran").exists()


# ---- around an update


@dataclass
class Stage:
    """As much of LXD as an update's hooks look at."""

    inside: Inside
    config: dict[str, str]
    status: str = "Running"

    @property
    def instances(self) -> "Stage":
        return self

    @property
    def power(self) -> "Stage":
        return self

    def get(self, _name: str, *, project: str) -> Any:  # noqa: ARG002 - the port's
        return type(
            "Found", (), {"expanded_config": self.config, "config": {}, "base_image": "5c" * 32}
        )

    def state(self, _name: str, *, project: str) -> Any:  # noqa: ARG002 - the port's
        return type("State", (), {"status": self.status})


def around(stage: Stage, complaints: list[str] | None = None) -> HookedUpdate:
    lxd: Any = stage
    complain = [] if complaints is None else complaints
    return HookedUpdate(lxd, runner(stage.inside), complain=complain.append)


@pytest.mark.parametrize(("code", "goes"), [(0, True), (75, False), (1, False)])
def test_a_hook_before_keeps_the_update_from_beginning(code: int, goes: bool) -> None:
    hooks = around(Stage(Inside(answers=[code]), {BEFORE: "a"}))
    if goes:
        hooks.before_outage(transaction())
    else:
        with pytest.raises(HookRefusedError, match="the hook a"):
            hooks.before_outage(transaction())


def test_a_hook_is_told_whether_it_is_asked_early_and_may_put_it_off_there() -> None:
    inside = Inside(answers=[0, 0, 75])
    hooks = around(Stage(inside, {BEFORE: "a"}))
    hooks.before_stage(transaction())
    hooks.before_outage(transaction())
    asked = [command.environment["LXDOCKER_STAGE"] for command in inside.commands]
    assert asked == ["early", "late"]
    with pytest.raises(HookDeferredError):
        hooks.before_stage(transaction())


Judge = Callable[[str, str], Verdict]


class Gate:
    def __init__(self, healthy: bool) -> None:
        self.healthy = healthy

    def listen(self) -> AbstractContextManager[EventStream | None]:
        return contextlib.nullcontext()

    def judge(
        self,
        _name: str,
        *,
        project: str,  # noqa: ARG002 - the port's
        events: EventStream | None = None,  # noqa: ARG002 - the port's
    ) -> Verdict:
        return Verdict(
            judgement=Judgement.HEALTHY if self.healthy else Judgement.FAILED,
            reason="its check says",
        )


@pytest.mark.parametrize(
    ("healthy", "code", "expected", "calls"),
    [
        (True, 0, Verdict(judgement=Judgement.HEALTHY, reason="its check says"), 1),
        (
            True,
            3,
            Verdict(
                judgement=Judgement.FAILED,
                reason="the hook a ended with 3: err",
                check="hook.after",
            ),
            1,
        ),
        (
            True,
            75,
            Verdict(
                judgement=Judgement.FAILED, reason="the hook a puts it off: err", check="hook.after"
            ),
            1,
        ),
        (False, 0, Verdict(judgement=Judgement.FAILED, reason="its check says"), 0),
    ],
)
def test_a_hook_after_is_part_of_the_health_gate(
    healthy: bool, code: int, expected: Verdict, calls: int
) -> None:
    inside = Inside(answers=[code])
    hooks = around(Stage(inside, {Point.AFTER.key: "a"}))
    assert HookedGate(Gate(healthy), hooks).judge("web", project="default") == expected
    assert len(inside.commands) == calls
    if calls:
        assert inside.commands[0].environment["LXDOCKER_TO"] == "5c" * 32


def test_a_hook_after_a_rollback_is_only_told() -> None:
    complaints: list[str] = []
    hooks = around(Stage(Inside(answers=[9]), {Point.BACK.key: "a"}), complaints)
    hooks.went_back(transaction(), "its check fails")
    assert complaints == ["web: after the rollback: the hook a ended with 9: err"]


@pytest.mark.parametrize(
    "error", [ConnectionLostError("cut"), NotRunningError("restarting"), AbsentError("deleted")]
)
def test_a_connection_that_breaks_blames_no_version(error: Exception) -> None:
    keys = {point.key: "a" for point in Point}
    hooks = around(Stage(Inside(answers=[error, error]), keys))
    with pytest.raises(type(error)):
        HookedGate(Gate(healthy=True), hooks).judge("web", project="default")
    with pytest.raises(type(error)):
        hooks.before_outage(transaction())


def test_an_instance_that_is_gone_after_a_rollback_is_only_told() -> None:
    complaints: list[str] = []
    inside = Inside(answers=[AbsentError("no web")])
    hooks = around(Stage(inside, {Point.BACK.key: "a"}), complaints)
    hooks.went_back(transaction(), "")
    assert complaints == ["web: after the rollback: no web"]


def test_each_point_tells_its_hooks_which_version_is_which() -> None:
    inside = Inside()
    hooks = around(Stage(inside, {point.key: "a" for point in Point}))
    hooks.before_outage(transaction())
    hooks.after_start("web", "default")
    hooks.went_back(transaction(), "its check fails")
    told = [
        tuple(command.environment[f"LXDOCKER_{name}"] for name in ("POINT", "FROM", "TO", "REASON"))
        for command in inside.commands
    ]
    here, there = "5c" * 32, transaction().fingerprint
    assert told == [
        ("before", here, there, ""),
        ("after", "", here, ""),
        ("back", here, there, "its check fails"),
    ]
