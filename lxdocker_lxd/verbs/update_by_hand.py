"""What all actions share that change something by hand: signals, and a word on what is left open."""

import contextlib
from collections.abc import Callable

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.update.journal_record import accounts, owed_restarts, still_open
from lxdocker_lxd.verbs.update_work import UpdateWork


def act_by_hand(work: UpdateWork, act: Callable[[UpdateWork], int]) -> int:
    """Act, and return the exit code; however it ends, what is unfinished is said.

    After a signal KeyboardInterrupt is raised, whose text says how things are.
    """
    try:
        with work.interruption.handled(work.console.note):
            code = act(work)
    except KeyboardInterrupt:
        said = _unfinished(work) or "no update is unfinished"
        raise KeyboardInterrupt(said) from None
    except BaseException:
        _say_unfinished(work)
        raise
    if work.interruption.asked:
        raise KeyboardInterrupt(_unfinished(work) or "what was at work came to its end")
    _say_unfinished(work)
    return code


def _say_unfinished(work: UpdateWork) -> None:
    if text := _unfinished(work):
        work.console.note(text)


def _unfinished(work: UpdateWork) -> str:
    """Say what is open, by what was seen here and by the journal; empty when nothing is."""
    if not work.interruption.worked:
        return ""
    names = {(one.project, one.name): None for one in work.interruption.unfinished}
    with contextlib.suppress(LxdockerError):
        found = work.journal.read()
        opened = still_open(accounts(found).values())
        names |= {(one.transaction.project, one.transaction.name): None for one in opened}
        names |= {one.key: None for one in owed_restarts(found) if one.stopping}
    if not names:
        return ""
    listed = ", ".join(name for _, name in names)
    return (
        f"the update of {listed} isn't finished:"
        " `lxdocker-lxd update recover` finishes it or turns it back"
    )
