"""The health gate on real instances: checks run over LXD and over the network."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import CommandTimedOutError, RefusedError, WrongStateError
from lxdocker_lxd.lxd.ports import EventStream, Lxd
from lxdocker_lxd.update.health import (
    GUEST_CHECK,
    Answer,
    Check,
    HealthError,
    Kind,
    check_of,
    wait_for_health,
)
from lxdocker_lxd.update.means import Judgement, Verdict

_MISSING = frozenset({126, 127})
_LAST_GOOD_STATUS = 399
# A guest that ends by itself sends one of these too, without anybody who asked.
_ENDS = frozenset({"instance-stopped", "instance-shutdown"})
# LXD sends it when it has cleaned up, some time after the instance counts as stopped.
_EVENT_SECONDS = 5.0
# Whatever the instance's keys say: nothing else can be done meanwhile, not even a sign of life.
_LONGEST_LOOK_SECONDS = 60.0


class HealthGate:
    """Implements :class:`Gate` with the checks that the instance's keys ask for."""

    def __init__(
        self, lxd: Lxd, *, clock: Callable[[], float], pause: Callable[[float], None]
    ) -> None:
        self._lxd = lxd
        self._clock = clock
        self._pause = pause

    def judge(self, name: str, *, project: str) -> Verdict:
        """Watch the instance; a check that can't be understood is a failed one."""
        instance = self._lxd.instances.get(name, project=project)
        try:
            check = check_of(instance.expanded_config)
        except HealthError as error:
            return Verdict(judgement=Judgement.FAILED, reason=error.message)
        probe = InstanceProbe(self._lxd, name, project)
        with contextlib.ExitStack() as opened:
            stream = None
            with contextlib.suppress(LxdError):
                stream = opened.enter_context(self._lxd.events.subscribe())
            verdict = wait_for_health(check, probe, clock=self._clock, pause=self._pause)
            if verdict.healthy or stream is None or probe.running():
                return verdict
            if not _stopped_by_somebody(stream, name, project):
                return verdict
        return Verdict(judgement=Judgement.STOPPED, reason="somebody stopped it")


def _stopped_by_somebody(stream: EventStream, name: str, project: str) -> bool:
    """Whether a user asked for the end; without the events nobody knows, and it counts as none."""
    with contextlib.suppress(LxdError):
        while (event := stream.take(_EVENT_SECONDS)) is not None:
            if (event.kind, event.name, event.project) != ("instance", name, project):
                continue
            if event.action in _ENDS:
                return bool(event.by)
    return False


class InstanceProbe:
    """Implements :class:`Probe` for one instance."""

    def __init__(self, lxd: Lxd, name: str, project: str) -> None:
        self._lxd = lxd
        self._name = name
        self._project = project

    def running(self) -> bool:
        """Whether the instance runs."""
        return self._lxd.power.state(self._name, project=self._project).status == "Running"

    def process_id(self) -> int:
        """Its PID 1 on the host."""
        return self._lxd.power.state(self._name, project=self._project).process_id

    def look(self, check: Check) -> Answer:
        """Run the check once."""
        if check.kind is Kind.RUNNING:
            return Answer.NONE
        if check.kind is Kind.IMAGE:
            return self._run(GUEST_CHECK, check, missing=Answer.NONE)
        if check.kind is Kind.EXEC:
            return self._run(check.command, check, missing=Answer.UNHEALTHY)
        return Answer.HEALTHY if self._reached(check) else Answer.UNHEALTHY

    def _run(self, words: tuple[str, ...], check: Check, *, missing: Answer) -> Answer:
        command = Command(words=words, timeout_seconds=check.timeout_seconds)
        try:
            result = self._lxd.guests.execute(self._name, command, project=self._project)
        except (CommandTimedOutError, RefusedError, WrongStateError):
            return Answer.UNHEALTHY
        if result.exit_code in _MISSING:
            return missing
        return Answer.HEALTHY if result.exit_code == 0 else Answer.UNHEALTHY

    def _reached(self, check: Check) -> bool:
        """Whether the port answers at one of the instance's global addresses."""
        state = self._lxd.power.state(self._name, project=self._project)
        addresses = [one.address for one in state.addresses if one.scope == "global"]
        return any(_answers(address, check) for address in addresses)


def _answers(address: str, check: Check) -> bool:
    seconds = min(check.timeout_seconds, _LONGEST_LOOK_SECONDS)
    if check.kind is Kind.TCP:
        try:
            socket.create_connection((address, check.port), seconds).close()
        except OSError:
            return False
        return True
    connection = http.client.HTTPConnection(address, check.port, timeout=seconds)
    with contextlib.closing(connection):
        try:
            connection.connect()
            with _ended_after(connection.sock, seconds) as ended:
                connection.request("GET", check.path)
                status = connection.getresponse().status
                # Headers that are cut off there look complete.
                return status <= _LAST_GOOD_STATUS and not ended.is_set()
        except (OSError, http.client.HTTPException):
            return False


@contextlib.contextmanager
def _ended_after(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Break the connection when the time is over, and say so: one that drips never times out."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
