"""Tells by a command of root's configuration: an argument list, the message on standard input."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from lxdocker_lxd.errors import ToolError, UsageError
from lxdocker_lxd.ownership import ROOT
from lxdocker_lxd.trusted_path import check_trusted
from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.host_program import run_program
from lxdocker_lxd.update.message_template import BodyTemplate
from lxdocker_lxd.update.notification import Message, Severity
from lxdocker_lxd.update.redaction import cleaned

# As sysexits.h has them: the data is wrong; try again later.
_BAD_DATA = 65
_AGAIN_LATER = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyCommand:
    """Implements :class:`Receiver`. Exit code 0 took the message, 65 refuses it, 75 wants it later."""

    name: str
    words: tuple[str, ...]
    body: BodyTemplate = field(default_factory=BodyTemplate)
    minimum: Severity = Severity.INFO
    timeout_seconds: float = 30.0
    owner: int = ROOT

    def wants(self, message: Message) -> bool:
        """Whether the message matters enough."""
        return message.severity.rank >= self.minimum.rank

    def deliver(self, message: Message) -> Delivery:
        """Run the command once."""
        try:
            check_trusted(Path(self.words[0]), owner=self.owner, executable=True)
            ended = run_program(
                self.words,
                environment=environment_of(message),
                timeout_seconds=self.timeout_seconds,
                stdin=self.body.render(message),
            )
        except (ToolError, UsageError) as error:
            return Delivery(result=Result.LATER, reason=error.message)
        if ended.timed_out:
            reason = f"the command didn't end within {self.timeout_seconds:g} s"
            return Delivery(result=Result.FAILED, reason=reason)
        if ended.exit_code == 0:
            return Delivery(result=Result.DELIVERED)
        said = cleaned(ended.output.decode("utf-8", "replace"))
        reason = f"the command ended with {ended.exit_code}{': ' if said else ''}{said}"
        if ended.exit_code == _BAD_DATA:
            return Delivery(result=Result.REFUSED, reason=reason)
        if ended.exit_code == _AGAIN_LATER:
            return Delivery(result=Result.LATER, reason=reason, wait=timedelta(minutes=1))
        return Delivery(result=Result.FAILED, reason=reason)


def environment_of(message: Message) -> dict[str, str]:
    """Return what the command finds in its environment, beside PATH."""
    return {
        "LXDOCKER_TOPIC": str(message.topic),
        "LXDOCKER_SEVERITY": str(message.severity),
        "LXDOCKER_PROJECT": message.project,
        "LXDOCKER_INSTANCE": message.name,
        "LXDOCKER_TITLE": message.title,
    }
