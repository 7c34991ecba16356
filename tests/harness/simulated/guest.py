"""What the container of an image does: whether it starts, stops, ends, and how it answers commands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lxdocker_lxd.lxd.calls import Command, CommandResult, GuestFile
from tests.harness.simulated.supervised import Supervised

# A command, seconds since the start, and the files: its answer, or None for "I don't know it".
Answer = Callable[[Command, float], CommandResult | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """An image's character.

    ``starts`` false fails each start. ``ends_after_seconds`` 0 exits at once, None never by itself.
    Commands later than ``attaches_for_seconds`` after the start aren't attached: LXD knows no exit
    code of them. ``stops`` false ignores a clean stop; otherwise that takes ``stop_seconds``. ``answer`` replies
    to commands, as a HEALTHCHECK; ``console`` is written at each start. ``health`` is shorthand:
    pairs of seconds since the start and the exit code that ``/bin/health`` gives from then on.
    A first start takes ``remap_seconds`` for its files' owners, or fails there if not ``remaps``.
    ``writes`` are files that its program writes at each start, on volumes too, as a migration does.
    ``supervised`` is the command of a converted image; others are foreign ones.
    ``listens`` are TCP ports that answer while it runs. ``size_bytes`` is what unpacking takes.
    """

    starts: bool = True
    ends_after_seconds: float | None = None
    attaches_for_seconds: float | None = None
    stops: bool = True
    stop_seconds: float = 0.0
    answer: Answer | None = None
    health: tuple[tuple[float, int], ...] = ()
    supervised: Supervised | None = None
    listens: frozenset[int] = frozenset()
    console: bytes = b""
    writes: Mapping[str, bytes] = field(default_factory=dict)
    size_bytes: int = 1 << 20
    remaps: bool = True
    remap_seconds: float = 0.0


GOOD = Behaviour()
EXITS_AT_ONCE = Behaviour(ends_after_seconds=0.0)
REFUSES_TO_START = Behaviour(starts=False)
NEVER_HEALTHY = Behaviour(health=((0.0, 1),))


def crashes_after(seconds: float) -> Behaviour:
    """Healthy, and gone after some time."""
    return Behaviour(ends_after_seconds=seconds, health=((0.0, 0),))


@dataclass(slots=True)
class Guest:
    """The inside of one instance: its files by path, and its console's unread part."""

    behaviour: Behaviour
    files: dict[str, GuestFile] = field(default_factory=dict)
    console: bytes = b""

    def run(
        self,
        command: Command,
        seconds: float,
        environment: dict[str, str],
        files: Mapping[str, GuestFile],
    ) -> "Ran":
        """Run one command, which sees ``files``; see ``Ran``."""
        if self.behaviour.answer is not None:
            answer = self.behaviour.answer(command, seconds)
            if answer is not None:
                return Ran(answer)
        supervised = self.behaviour.supervised
        if supervised is not None:
            known_to_all = supervised.run(command, seconds, self.behaviour.listens)
            if known_to_all is not None:
                return Ran(known_to_all)
        program = command.words[0].rpartition("/")[2]
        if program == "health" and self.behaviour.health:
            passed = [code for since, code in self.behaviour.health if since <= seconds]
            return Ran(CommandResult(exit_code=passed[-1] if passed else 1, stdout=b"", stderr=b""))
        known = _PROGRAMS.get(program)
        if known is None:
            return Ran(CommandResult(exit_code=127, stdout=b"", stderr=b""))
        return known(_Inside(self, files), command, {**environment, **command.environment})


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and after how many seconds."""

    result: CommandResult
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Inside:
    """What a program has to do with."""

    guest: Guest
    files: Mapping[str, GuestFile]


def _said(text: bytes, command: Command) -> Ran:
    kept = text[: command.output_bytes]
    result = CommandResult(exit_code=0, stdout=kept, stderr=b"", truncated=len(text) > len(kept))
    return Ran(result)


def _echo(_inside: _Inside, command: Command, _environment: dict[str, str]) -> Ran:
    return _said(" ".join(command.words[1:]).encode() + b"\n", command)


def _cat(inside: _Inside, command: Command, _environment: dict[str, str]) -> Ran:
    if len(command.words) == 1:
        return _said(command.stdin, command)
    file = inside.files.get(command.words[1])
    if file is None:
        said = f"cat: can't open '{command.words[1]}': No such file or directory\n"
        return Ran(CommandResult(exit_code=1, stdout=b"", stderr=said.encode()))
    return _said(file.content, command)


def _env(_inside: _Inside, command: Command, environment: dict[str, str]) -> Ran:
    return _said(
        "".join(f"{key}={value}\n" for key, value in environment.items()).encode(), command
    )


def _sleep(_inside: _Inside, command: Command, _environment: dict[str, str]) -> Ran:
    return Ran(CommandResult(exit_code=0, stdout=b"", stderr=b""), float(command.words[1]))


def _pwd(_inside: _Inside, command: Command, _environment: dict[str, str]) -> Ran:
    return _said((command.directory or "/root").encode() + b"\n", command)


def _id(_inside: _Inside, command: Command, _environment: dict[str, str]) -> Ran:
    which = command.group_id if "-g" in command.words else command.user_id
    return _said(f"{which}\n".encode(), command)


def _shell(inside: _Inside, command: Command, environment: dict[str, str]) -> Ran:
    """``sh -c`` of one simple command, with ``exit N``, ``kill -N $$`` and ``>&2``."""
    words = command.words[2].split() if len(command.words) > 2 else ["exit", "0"]
    if words[0] == "exit":
        return Ran(CommandResult(exit_code=int(words[1]), stdout=b"", stderr=b""))
    if words[0] == "kill":
        code = 128 + int(words[1].lstrip("-"))
        return Ran(CommandResult(exit_code=code, stdout=b"", stderr=b""))
    to_error = words[-1] == ">&2"
    inner = Command(
        words=tuple(words[:-1] if to_error else words),
        environment=command.environment,
        directory=command.directory,
        stdin=command.stdin,
    )
    ran = inside.guest.run(inner, 0, environment, inside.files)
    if not to_error:
        return ran
    result = CommandResult(exit_code=ran.result.exit_code, stdout=b"", stderr=ran.result.stdout)
    return Ran(result, ran.seconds)


_PROGRAMS: dict[str, Callable[[_Inside, Command, dict[str, str]], Ran]] = {
    "echo": _echo,
    "cat": _cat,
    "env": _env,
    "sleep": _sleep,
    "pwd": _pwd,
    "id": _id,
    "sh": _shell,
}
