"""How Docker, the kubelet, LXE and ``lxc`` each read one image name.

Two readings of LXE are kept apart: the one its FAQ describes (the tag is ignored) and that of its
code today (``:tag`` becomes ``%tag``). The steps of the latter, after the kubelet has added
``:latest`` where neither tag nor digest is given:

1. drop the prefix ``docker.io/library/`` and the suffix ``:latest``;
2. replace the first ``:`` by ``%``;
3. replace the first ``/`` by ``:``, so that what stands before it is the remote;
4. split at the first ``:`` into remote and alias; without one the default remote is meant.

``lxc`` splits at the first ``:`` as well, but takes the whole text for an alias when there is a
``/`` before that colon and no remote of this name.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.reference import Reference

INVALID = "[invalid]"
NOT_FOUND = "[notfound]"
NO_ALIAS = "-"
UNKNOWN_REMOTE = "???"
DEFAULT_REMOTE = "default (local)"
# LXE and the lxd client library set these themselves, whatever the configuration says.
STATIC_REMOTES = frozenset({"local", "ubuntu", "ubuntu-daily"})
# What a fresh lxc knows.
LXC_REMOTES = STATIC_REMOTES | {"images"}

_FAQ_NAME = re.compile(
    r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"(?:/[a-z0-9]+(?:(?:[_.]|-+)[a-z0-9]+)*)*"
)

ReadingKey = Literal[
    "docker",
    "kubelet_validator",
    "kubelet",
    "lxe_faq",
    "lxe_faq_alias",
    "lxe_faq_lxc",
    "lxe_form",
    "lxe_remote",
    "lxe_alias",
    "lxc",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reader's view: ``key`` for programs, ``reader`` for people, ``note`` where it helps.

    ``meaning`` is the name as that reader has it, or ``[invalid]`` or ``[notfound]``.
    """

    key: ReadingKey
    reader: str
    meaning: str
    note: str = ""


def interpret(text: str, *, remotes: Collection[str] | None = None) -> tuple[Reading, ...]:
    """Return every reader's view of ``text``, always the same rows in the same order.

    ``remotes`` are the names of LXD remotes known to exist; None when that isn't known, and then no
    remote counts as missing. Never raises for a bad name: the rows say so.
    """
    try:
        reference = Reference.parse(text)
    except UsageError as error:
        return (*_refused(error.message), _lxc(text, remotes))
    kubelet = text if _tag_or_digest(text) else f"{text}:latest"
    return (
        Reading(key="docker", reader="Docker, podman, this program", meaning=str(reference)),
        Reading(
            key="kubelet_validator",
            reader="kubelet, when it validates",
            meaning=reference.name + _tag_or_digest(text),
        ),
        Reading(key="kubelet", reader="kubelet, when it pulls", meaning=kubelet),
        *_faq_lxe(_without_tag(text), remotes),
        *_current_lxe(kubelet, remotes),
        _lxc(text, remotes),
    )


def _refused(reason: str) -> tuple[Reading, ...]:
    never = "the kubelet refuses the name before LXE sees it"
    return (
        Reading(key="docker", reader="Docker, podman, this program", meaning=INVALID, note=reason),
        Reading(key="kubelet_validator", reader="kubelet, when it validates", meaning=INVALID),
        Reading(key="kubelet", reader="kubelet, when it pulls", meaning=INVALID),
        *_faq_lxe(INVALID, None),
        *_lxe_rows(INVALID, INVALID, INVALID, note=never),
    )


def _tag_or_digest(text: str) -> str:
    """Return what follows the name: ``:tag``, ``@digest``, both or nothing."""
    last = text.rpartition("/")[2]
    name = re.split("[:@]", last, maxsplit=1)[0]
    return last[len(name) :]


def _without_tag(text: str) -> str:
    """Return the FAQ's reading: the name alone, if its grammar has room for the rest."""
    suffix = _tag_or_digest(text)
    name = text.removesuffix(suffix) if suffix else text
    return name if "@" not in suffix and _FAQ_NAME.fullmatch(name) else INVALID


def _faq_lxe(name: str, remotes: Collection[str] | None) -> tuple[Reading, ...]:
    remote, slash, alias = name.partition("/")
    note = "its grammar has no ports and no digests" if name == INVALID else "the tag is ignored"
    if name == INVALID:
        served = syntax = INVALID
    elif not slash:
        served, syntax = f"{UNKNOWN_REMOTE}/{name}", INVALID
    else:
        missing = remotes is not None and remote not in remotes
        served, syntax = name, NOT_FOUND if missing else f"{remote}:{alias}"
    return (
        Reading(key="lxe_faq", reader="LXE, by its FAQ", meaning=name, note=note),
        Reading(key="lxe_faq_alias", reader="LXE, by its FAQ: alias", meaning=served),
        Reading(key="lxe_faq_lxc", reader="LXE, by its FAQ: in lxc's words", meaning=syntax),
    )


def _current_lxe(kubelet: str, remotes: Collection[str] | None) -> tuple[Reading, ...]:
    short = kubelet.removeprefix("docker.io/library/").removesuffix(":latest")
    form = short.replace(":", "%", 1).replace("/", ":", 1)
    remote, colon, alias = form.partition(":")
    if not colon:
        note = "never copied from a remote: import the image into LXD under this alias"
        return _lxe_rows(form, DEFAULT_REMOTE, form, note=note)
    if remote in STATIC_REMOTES:
        note = f"the remote {remote} is built in and can't be replaced: write docker.io/{short}"
        return _lxe_rows(form, remote, NO_ALIAS, note=note)
    note = ""
    if "@" in remote:
        note = "fails, unless a remote of exactly this name is configured: leave the tag away"
    elif remotes is not None and remote not in remotes:
        note = f"there is no remote {remote} yet"
    return _lxe_rows(form, remote, alias, note=note)


def _lxe_rows(form: str, remote: str, alias: str, *, note: str) -> tuple[Reading, ...]:
    return (
        Reading(key="lxe_form", reader="LXE today", meaning=form),
        Reading(key="lxe_remote", reader="LXE today: remote needed", meaning=remote, note=note),
        Reading(key="lxe_alias", reader="LXE today: alias to serve", meaning=alias),
    )


def _lxc(text: str, remotes: Collection[str] | None) -> Reading:
    known = LXC_REMOTES if remotes is None else LXC_REMOTES | set(remotes)
    remote, colon, alias = text.partition(":")
    reader = "lxc"
    if not text:
        return Reading(key="lxc", reader=reader, meaning=INVALID)
    if not colon or ("/" in remote and remote not in known):
        note = "an alias in the default remote"
        return Reading(key="lxc", reader=reader, meaning=f"local:{text}", note=note)
    if remote not in known:
        note = f"there is no remote {remote!r}"
        return Reading(key="lxc", reader=reader, meaning=NOT_FOUND, note=note)
    note = f"the alias {alias!r} in the remote {remote!r}"
    return Reading(key="lxc", reader=reader, meaning=text, note=note)
