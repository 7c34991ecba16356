"""Makes of settings what tells: webhooks, commands, the ping."""

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.ownership import ROOT
from lxdocker_lxd.update.delivery import Receiver
from lxdocker_lxd.update.notify_command import NotifyCommand
from lxdocker_lxd.update.settings import AddressSettings, ReceiverSettings, UpdateSettings
from lxdocker_lxd.update.webhook import Address, Ping, Webhook


class ReceiverError(UsageError):
    """A receiver with neither an address nor a command."""


def receivers_of(settings: UpdateSettings, *, owner: int = ROOT) -> tuple[Receiver, ...]:
    """Return everybody who is told; programs must be root's or ``owner``'s. Raises ReceiverError."""
    return tuple(_receiver(one, owner) for one in settings.receivers)


def ping_of(settings: UpdateSettings) -> Ping | None:
    """Return the dead man's switch, if there is one."""
    return None if settings.ping is None else Ping(address=_address(settings.ping))


def _receiver(one: ReceiverSettings, owner: int) -> Receiver:
    if one.address is not None:
        return Webhook(
            name=one.name, address=_address(one.address), body=one.body, minimum=one.minimum
        )
    if not one.words:
        raise ReceiverError(f"tell {one.name}: it has neither a URL nor a command")
    return NotifyCommand(
        name=one.name,
        words=one.words,
        body=one.body,
        minimum=one.minimum,
        timeout_seconds=one.timeout_seconds,
        owner=owner,
    )


def _address(one: AddressSettings) -> Address:
    return Address(
        url=one.url,
        url_file=one.url_file,
        headers=one.headers,
        header_files=one.header_files,
        ca_file=one.ca_file,
        insecure=one.insecure,
        timeout_seconds=one.timeout_seconds,
    )
