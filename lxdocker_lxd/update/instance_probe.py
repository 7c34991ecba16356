"""Looks at one instance for its health: what its command does, what its check says, how it ended."""

import math

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.guest_health import HEALTH_COMMAND, Health, health_of
from lxdocker_lxd.guest_state import UNKNOWN_STATE, GuestState, read_guest_state
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import (
    BusyError,
    CommandTimedOutError,
    NotRunningError,
    RefusedError,
    UnknownOutcomeError,
    UnreachableError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import EventStream, Lxd
from lxdocker_lxd.lxd.records import InstanceState
from lxdocker_lxd.update.health import Activity, End, Observation, Requested
from lxdocker_lxd.update.health_check import Check, Kind
from lxdocker_lxd.update.port_check import NotAskableError, addresses_from_outside, answers

# LXD is restarted, or at work on the instance: nothing is known now.
_AWAY = (NotRunningError, UnreachableError, UnknownOutcomeError, BusyError)
_ALIVE = frozenset({"Running", "Ready"})
_NOT_RUN = frozenset({126, 127})
# A guest that ends by itself sends one of these too, without anybody who asked.
_ENDS = frozenset({"instance-stopped", "instance-shutdown", "instance-restarted"})
_STARTS = frozenset({"instance-started", "instance-restarted"})
# LXD sends it when it has cleaned up, some time after the instance counts as stopped.
_EVENT_SECONDS = 5.0
# The guest ends a check that takes too long; LXD only if that fails.
_MARGIN_SECONDS = 5.0
_OUTPUT_BYTES = 4096
_MOST_ADDRESSES = 8
BUSYBOX = "/busybox-lxd"
# Connects from inside, so `nc` of ours is enough; -e runs a program on the connection, so that the
# sending side stays open while the answer is read.
_CONNECT = 'port=$1; shift; for host; do nc -w 3 "$host" "$port" -e /busybox-lxd true && exit 0; done; exit 1'
# What was connected and then says nothing in time isn't asked at another address. Each part has its
# own limit: a shell that is killed leaves those behind that it had started.
_REQUEST = (
    'port=$1 path=$2 ask=$3 limit=$4; shift 4; for host; do nc -w 3 "$host" "$port" -e /busybox-lxd'
    ' sh -c "$ask" ask "$path" "localhost:$port" "$limit"; code=$?; [ $code != 0 ] || exit 0;'
    " [ $code != 3 ] || exit 1; done; exit 1"
)
_ASK = (
    'printf "GET %s HTTP/1.0\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n" "$1" "$2";'
    ' read -t "$3" -r version code rest; printf "%s %s\\n" "$version" "$code" >&2;'
    ' [ -n "$version" ] || exit 3;'
    " case $version:$code in HTTP/1.[01]:[23][0-9][0-9]*) exit 0 ;; esac; exit 1"
)


class InstanceProbe:
    """Implements :class:`Probe` for one instance.

    ``converted``: its image is one of ours, so its guest writes down what its command does.
    ``stream`` are LXD's events since before the instance was first looked at; without them nobody
    knows who asked for an end.
    """

    def __init__(
        self,
        lxd: Lxd,
        name: str,
        project: str,
        *,
        converted: bool,
        stream: EventStream | None = None,
    ) -> None:
        self._lxd = lxd
        self._name = name
        self._project = project
        self._converted = converted
        self._stream = stream
        self.output = ""
        """What the check said when it failed last, or why it couldn't be asked."""

    # ---- what the command does

    def observe(self) -> Observation:
        """What its command does now."""
        try:
            state = self._state()
            if state.status == "Stopped":
                return Observation(activity=Activity.ENDED)
            if state.status not in _ALIVE:
                return Observation(
                    activity=Activity.PAUSED, detail=f"it was {state.status.lower()} for too long,"
                )
            guest = self._guest() if self._converted else GuestState(status="running")
        except (*_AWAY, RefusedError) as error:
            return Observation(activity=Activity.PAUSED, detail=f"LXD can't say: {error.message}")
        return Observation(
            activity=_ACTIVITIES.get(guest.status, Activity.STARTING),
            process_id=state.process_id,
            restarts=guest.restarts or 0,
            exit_code=guest.exit_code,
        )

    def _state(self) -> InstanceState:
        return self._lxd.power.state(self._name, project=self._project)

    def _guest(self) -> GuestState:
        return read_guest_state(self._lxd, self._name, project=self._project)

    def end(self) -> End:
        """How the last run of the instance ended."""
        try:
            guest = self._guest() if self._converted else UNKNOWN_STATE
        except _AWAY:
            guest = UNKNOWN_STATE
        return End(
            requested=self._requested(),
            exited=guest.status == "exited",
            exit_code=guest.exit_code,
            stop_requested=guest.stop_requested if guest.status == "exited" else None,
        )

    def _requested(self) -> Requested:
        """Whether a user asked for the last end.

        LXD names who asked in its event. An end of which it says nothing, to a listener that missed
        nothing, is one by itself; a broken connection may have missed it.
        """
        if self._stream is None:
            return Requested.UNKNOWN
        found, started = Requested.BY_NOBODY, False
        seconds = _EVENT_SECONDS
        try:
            while (event := self._stream.take(seconds)) is not None:
                if (event.kind, event.name, event.project) != (
                    *("instance", self._name),
                    self._project,
                ):
                    continue
                if event.action in _ENDS:
                    # An earlier end, with a start after it, says nothing of this one.
                    known = Requested.BY_NOBODY if started else found
                    # A restart has several events; one with a name is enough.
                    found, started = (Requested.BY_USER if event.by else known), False
                    seconds = 0.0
                started = started or event.action in _STARTS
        except LxdError:
            self._stream = None
            return found if found is Requested.BY_USER else Requested.UNKNOWN
        return found

    # ---- what its check says

    def look(self, check: Check) -> Health:
        """Run the check once."""
        match check.kind:
            case Kind.RUNNING:
                return Health.NONE
            case Kind.IMAGE:
                words = (*HEALTH_COMMAND, str(math.ceil(check.timeout_seconds)))
                code = self._run(words, check)
                if isinstance(code, Health):
                    return code
                return health_of(code, check=True, converted=self._converted)
            case Kind.EXEC:
                code = self._run(check.command, check)
                if isinstance(code, int) and code in _NOT_RUN:
                    self.output = f"{check.command[0]}: no such program, or it may not be run"
                return _answer(code)
            case Kind.TCP | Kind.HTTP:
                return self._from_outside(check) if check.outside else self._from_inside(check)

    def _run(self, words: tuple[str, ...], check: Check) -> int | Health:
        """Return the exit code of a command, or what it means that there is none."""
        command = Command(
            words=words,
            timeout_seconds=check.timeout_seconds + _MARGIN_SECONDS,
            output_bytes=_OUTPUT_BYTES,
        )
        try:
            result = self._lxd.guests.execute(self._name, command, project=self._project)
        except CommandTimedOutError:
            self.output = f"no end of {words[0]} within {check.timeout_seconds:g} s"
            return Health.UNHEALTHY if self._is_alive() else Health.UNKNOWN
        except (*_AWAY, RefusedError, WrongStateError) as error:
            self.output = error.message
            return Health.UNKNOWN
        said = (result.stdout + b"\n" + result.stderr).decode("utf-8", "replace").strip()
        if result.exit_code != 0:
            self.output = said or f"{words[0]} ended with code {result.exit_code}"
        return result.exit_code

    def _is_alive(self) -> bool:
        """Whether the instance could have answered: one that is frozen can't."""
        try:
            return self._state().status in _ALIVE
        except _AWAY:
            return False

    def _from_inside(self, check: Check) -> Health:
        try:
            hosts = _hosts(self._state())
        except _AWAY:
            return Health.UNKNOWN
        port, limit = str(check.port), str(math.ceil(check.timeout_seconds))
        script: tuple[str, ...] = (_CONNECT, "tcp", port)
        if check.kind is Kind.HTTP:
            script = (_REQUEST, "http", port, check.path, _ASK, limit)
        words = (BUSYBOX, "timeout", "-s", "KILL", limit, BUSYBOX, "sh", "-c", *script, *hosts)
        code = self._run(words, check)
        if isinstance(code, int) and code in _NOT_RUN:
            # The script itself never ends so: its shell isn't there.
            self.output = (
                f"{check.label} can't be asked from inside: the image has no {BUSYBOX};"
                " user.lxdocker.update.health_from=outside asks from this machine"
            )
            return Health.UNKNOWN
        return _answer(code)

    def _from_outside(self, check: Check) -> Health:
        try:
            addresses = addresses_from_outside(self._lxd, self._name, project=self._project)
        except NotAskableError as error:
            self.output = error.message
            return Health.UNKNOWN
        except _AWAY:
            return Health.UNKNOWN
        if any(answers(address, check, host=self._name) for address in addresses):
            return Health.HEALTHY
        self.output = f"no answer at {', '.join(addresses)}"
        return Health.UNHEALTHY


_ACTIVITIES = {
    "starting": Activity.STARTING,
    "running": Activity.RUNNING,
    "restarting": Activity.RESTARTING,
    # The instance stops within moments, or is held up while its guest writes its last lines.
    "exited": Activity.PAUSED,
}


def _answer(code: int | Health) -> Health:
    if isinstance(code, Health):
        return code
    return Health.HEALTHY if code == 0 else Health.UNHEALTHY


def _hosts(state: InstanceState) -> tuple[str, ...]:
    """Where the instance's programs may listen, seen from inside: what it says hurts only itself."""
    own = [one.address for one in state.addresses if one.scope == "global"]
    return ("127.0.0.1", "::1", *own[:_MOST_ADDRESSES])
