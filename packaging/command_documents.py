#!/usr/bin/env python3
"""Writes what is made from the commands: docs/commands.md, man pages, completions of shells.

``python packaging/command_documents.py`` writes them; a test compares them with the commands.
Needs the ``docs`` extra.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from lxdocker_lxd.cli import parser

ROOT = Path(__file__).parents[1]
_COMPLETIONS = {
    "bash": "packaging/completion/lxdocker-lxd.bash",
    "zsh": "packaging/completion/_lxdocker-lxd",
    "fish": "packaging/completion/lxdocker-lxd.fish",
}
_FILE_WORDS = ("FILE", "PEM", "PATH", "KEYRING")


def documents() -> dict[str, str]:
    """Return each document's text by its path in the project."""
    # Help is laid out for the terminal's width, and a man page bears a date.
    os.environ.update(COLUMNS="80", SOURCE_DATE_EPOCH="0")
    top = parser()
    found = {"docs/commands.md": _reference(top)}
    for command in _commands(top):
        page = _manual(command)
        found[f"packaging/man/{command.prog.replace(' ', '-')}.1"] = page
    _mark_paths(top)
    for shell, path in _COMPLETIONS.items():
        found[path] = shtab.complete(top, shell).rstrip() + "\n"
    return found


def _commands(command: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a command and all below it."""
    yield command
    for action in command._actions:  # noqa: SLF001 - argparse has no other way to its commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for below in dict.fromkeys(action.choices.values()):
                yield from _commands(below)


def _reference(top: argparse.ArgumentParser) -> str:
    parts = ["# Commands\n\nMade from the commands by `python packaging/command_documents.py`.\n"]
    parts += [
        f"## {command.prog}\n\n```text\n{command.format_help()}```\n" for command in _commands(top)
    ]
    return "\n".join(parts)


def _manual(command: argparse.ArgumentParser) -> str:
    """Return the man page of one command; the pages of those below it stand alone."""
    summary = (command.description or "").split(". ")[0].rstrip(".")
    # Of a command that only holds others: the list of them, and not the whole of each again.
    text = str(Manpage(command)).partition(".SH COMMAND ")[0]
    title = command.prog.replace(" ", "-")
    header = (
        f'.TH {_roff(title.upper())} "1" "" "lxdocker\\-lxd" "lxdocker\\-lxd"\n'
        f".SH NAME\n{_roff(title)} \\- {_roff(summary[:1].lower() + summary[1:])}\n"
    )
    rest = text.partition(".SH SYNOPSIS")[2].replace(".SH\nPOSITIONAL ARGUMENTS", ".SH COMMANDS")
    status = ""
    if command.epilog:
        words, _, codes = command.epilog.partition(":")
        status = f".SH {_roff(words.upper())}\n{_roff(' '.join(codes.split()))}\n"
    return f"{header}.SH SYNOPSIS{rest.rstrip()}\n{status}"


def _roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def _mark_paths(top: argparse.ArgumentParser) -> None:
    """Let shells complete directories and files where an argument is one."""
    for command in _commands(top):
        for action in command._actions:  # noqa: SLF001 - where shtab looks for the mark, too
            word = str(action.metavar or "")
            if word == "DIR":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # shtab's own mark
            elif word in _FILE_WORDS:
                action.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's own mark


def main() -> int:
    """Write every document, and take away man pages of commands that are no more."""
    found = documents()
    for path in ROOT.glob("packaging/man/*.1"):
        if str(path.relative_to(ROOT)) not in found:
            path.unlink()
    for name, text in found.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
