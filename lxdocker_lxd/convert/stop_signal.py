"""Signals by number: busybox knows neither ``SIGRTMIN+3`` nor every name, the kernel only numbers.

The numbers are those of every architecture LXD runs on except mips, which has its own.
"""

import re

from lxdocker_lxd.errors import UsageError

# In the order of their numbers, from 1 on.
_NAMES = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2"),
    *("PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG"),
    *("XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"),
)
_NUMBERS = {name: number for number, name in enumerate(_NAMES, start=1)} | {
    "IOT": 6,
    "CLD": 17,
    "POLL": 29,
}
_REALTIME = re.compile(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?")
# What the C library leaves to programs: the two numbers below SIGRTMIN are its own.
_FIRST_REALTIME, _LAST = 34, 64
_MOST_DIGITS = 2
_SHOWN_CHARACTERS = 80

DEFAULT_STOP_SIGNAL = 15
"""SIGTERM, as Docker does."""


class StopSignalError(UsageError):
    """A stop signal that is none."""


def stop_signal_number(text: str | None) -> int:
    """Return the number of a signal given as ``SIGTERM``, ``term``, ``15`` or ``SIGRTMIN+3``.

    None and an empty text mean SIGTERM. Raises StopSignalError.
    """
    if not text:
        return DEFAULT_STOP_SIGNAL
    # Zeros in front count for nothing; more than two digits are no signal, and thousands no number.
    digits = text.lstrip("0")
    if (
        text.isascii()
        and text.isdigit()
        and 1 <= len(digits) <= _MOST_DIGITS
        and int(digits) <= _LAST
    ):
        return int(digits)
    name = text.upper().removeprefix("SIG")
    if name in _NUMBERS:
        return _NUMBERS[name]
    if match := _REALTIME.fullmatch(name):
        start = _FIRST_REALTIME if match[1] == "MIN" else _LAST
        number = start + int((match[2] or "+") + (match[3] or "0"))
        if _FIRST_REALTIME <= number <= _LAST:
            return number
    raise StopSignalError(
        f"the stop signal {text[:_SHOWN_CHARACTERS]!r} is no signal of Linux",
        hint="set stop_signal in the specification, for example: stop_signal: SIGTERM",
    )
