"""The options of ``update`` and what is below it."""

import argparse

from lxdocker_lxd.options.command import Verbs, add_common, add_lxd, command

_UPDATE = "Keep instances on the newest version of their image, and never lose one."
_RUN = "Watch LXD and update enrolled instances, until stopped; for the service."
_NOW = "Do one round now: look for new images, update what is enrolled."
_PLAN = "Show what would be updated, what not, why, and by which calls; change nothing."
_STATUS = "Show enrolled instances, kept copies and unfinished updates."
_ENABLE = "Enrol instances, and let versions that were rolled back be tried again."
_DISABLE = "Take instances out; they are never touched again."
_ROLLBACK = "Return an instance to the newest copy that is kept."
_RECOVER = "Finish interrupted updates."
_REAP = "Remove copies that updates kept and nobody needs any more."
_HISTORY = "Show what became of earlier updates."


def add(verbs: Verbs) -> None:
    """Add the commands."""
    below = command(verbs, "update", _UPDATE).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    run = _action(below, "run", _RUN)
    run.add_argument(
        "--interval", metavar="SECONDS", type=float, default=300.0, help="between rounds"
    )
    now = _action(below, "now", _NOW)
    now.add_argument("names", metavar="NAME", nargs="*", help="only these instances")
    now.add_argument(
        "--no-refresh", action="store_true", help="don't let LXD ask the image servers first"
    )
    _add_dry_run(now)
    plan = _action(below, "plan", _PLAN)
    plan.add_argument("names", metavar="NAME", nargs="*", help="only these instances")
    plan.add_argument("--brief", action="store_true", help="the table alone, without the calls")
    _action(below, "status", _STATUS)
    enable = _action(below, "enable", _ENABLE)
    _add_names(enable)
    enable.add_argument(
        "--mode",
        choices=("auto", "notify"),
        help="update, or only tell; without it, images that don't say where they keep data are told",
    )
    enable.add_argument(
        "--root-disk-is-disposable",
        action="store_true",
        help="update although volumes of the image are on the root disk, which an update replaces",
    )
    enable.add_argument(
        "--image", metavar="SOURCE", help="what to follow: local|ALIAS or URL|simplestreams|ALIAS"
    )
    _add_names(_action(below, "disable", _DISABLE))
    rollback = _action(below, "rollback", _ROLLBACK)
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument(
        "--restore-volumes",
        action="store_true",
        help="undo also what was written to the volumes since that update made snapshots of them"
        " (user.lxdocker.update.volumes)",
    )
    _add_dry_run(rollback)
    _add_dry_run(_action(below, "recover", _RECOVER))
    reap = _action(below, "reap", _REAP)
    reap.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="copies of these instances before their time; never one that is needed",
    )
    _add_dry_run(reap)
    history = _action(below, "history", _HISTORY)
    history.add_argument(
        "--evidence",
        action="store_true",
        help="show also what versions that failed said last: their log, their check",
    )


def _action(below: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    parser = command(below, name, text)
    # What run, now and the others have in common.
    parser.add_argument(
        "--project", metavar="NAME", default="default", help="of instances that are named"
    )
    parser.add_argument(
        "--only-project",
        metavar="NAME",
        action="append",
        default=[],
        dest="projects",
        help="follow instances of this project only (may be repeated)",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        default="/var/lib/lxdocker-lxd/update",
        help="directory of the journal",
    )
    add_lxd(parser)
    parser.add_argument(
        "--remote", metavar="REMOTE", default="", help="a LXD that lxc knows by this name"
    )
    add_common(parser)
    return parser


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="show each call to LXD that would be made"
    )


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="instances")
