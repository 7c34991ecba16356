"""Directories and files as items. Pure."""

from pathlib import Path

from lxdocker_lxd.setup.item import Item, Policy

ADMINISTRATOR = "root:root"


def directory(
    path: Path, mode: str, owner: str, policy: Policy, *, acting: str = "", holds: str = ""
) -> Item:
    """Return a directory of ``owner``, or made with the rights of the user ``acting``."""
    wanted = {"mode": mode, "as": acting} if acting else {"mode": mode, "owner": owner}
    wanted |= {"holds": holds} if holds else {}
    return Item(
        kind="directory",
        name=str(path),
        wanted=wanted,
        text=f"directory {path}",
        reason=f"of {owner}, mode {mode}",
        policy=policy,
    )


def file(path: Path, content: str, reason: str, policy: Policy, kind: str = "file") -> Item:
    """Return a file of root that everybody reads."""
    return Item(
        kind=kind,
        name=str(path),
        wanted={"content": content, "mode": "0644", "owner": ADMINISTRATOR},
        text=f"file {path}",
        reason=reason,
        policy=policy,
    )
