"""The guest of a converted image: its supervisor, its command, and what it writes down of both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lxdocker_lxd.lxd.calls import Command, CommandResult, GuestFile

IMAGE_PATH, STATE_PATH = "/lxd-image.json", "/.lxdocker/state"
LOG_PATH, RUN_PATH, BUSYBOX_PATH = "/.lxdocker/log", "/.lxdocker/run", "/busybox-lxd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """What a converted image's command does; seconds count from the start of the instance.

    ``starts_after_seconds``: before that addresses are waited for. ``restarts_at`` are the ends after
    which the supervisor starts it again, ``restart_seconds`` later, each with ``exit_code``, which is
    also that of its last end. ``healthcheck`` is the image's in Docker's form; ``healthy`` are pairs of
    seconds and the code that it gives from then on. ``older``: the guest speaks as those of images
    converted before its answers had codes of their own.
    """

    starts_after_seconds: float = 0.0
    restarts_at: tuple[float, ...] = ()
    restart_seconds: float = 1.0
    exit_code: int = 1
    healthcheck: Mapping[str, object] | None = None
    healthy: tuple[tuple[float, int], ...] = ((0.0, 0),)
    older: bool = False
    log: bytes = b""

    def files(self) -> dict[str, bytes]:
        """What its image ships."""
        facts = json.dumps({"healthcheck": self.healthcheck}).encode()
        return {IMAGE_PATH: facts, RUN_PATH: b"", BUSYBOX_PATH: b""}

    def write(self, files: dict[str, GuestFile], seconds: float) -> None:
        """Write down the state while it runs."""
        ended = [moment for moment in self.restarts_at if moment <= seconds]
        if seconds < self.starts_after_seconds:
            if self.older:
                return
            status = "starting"
        elif ended and seconds < ended[-1] + self.restart_seconds:
            status = "restarting"
        else:
            status = "running"
        self._put(files, status, len(ended), asked=False, code=self.exit_code if ended else None)

    def write_end(self, files: dict[str, GuestFile], *, asked: bool) -> None:
        """Write down that it ended: by itself, or because PID 1 was asked to stop."""
        held = json.loads(files[STATE_PATH].content) if STATE_PATH in files else {}
        code = 143 if asked else self.exit_code
        self._put(files, "exited", held.get("restarts", 0), asked=asked, code=code)

    def _put(
        self,
        files: dict[str, GuestFile],
        status: str,
        restarts: int,
        *,
        asked: bool,
        code: int | None,
    ) -> None:
        state: dict[str, object] = {"status": status, "exit_code": code, "restarts": restarts}
        if not self.older:
            state["stop_requested"] = asked
        files[STATE_PATH] = GuestFile(content=json.dumps(state).encode())
        if self.log:
            files[LOG_PATH] = GuestFile(content=self.log)

    def run(
        self, command: Command, seconds: float, listens: frozenset[int]
    ) -> CommandResult | None:
        """Answer the programs that every converted image has; None for others."""
        words = command.words
        if words[:2] == (RUN_PATH, "--health"):
            return _ended(self._health_code(seconds))
        if words[0] == BUSYBOX_PATH and any("nc -w" in word for word in words):
            script = next(number for number, word in enumerate(words) if "nc -w" in word)
            open_now = seconds >= self.starts_after_seconds and int(words[script + 2]) in listens
            return _ended(0 if open_now else 1)
        return None

    def _health_code(self, seconds: float) -> int:
        if seconds < self.starts_after_seconds:
            return 126 if self.older else 125
        if self.healthcheck is None:
            return 0 if self.older else 124
        passed = [code for since, code in self.healthy if since <= seconds]
        return 0 if passed and passed[-1] == 0 else 1


def _ended(code: int) -> CommandResult:
    said = b"" if code == 0 else b"the check says no"
    return CommandResult(exit_code=code, stdout=said, stderr=b"")
