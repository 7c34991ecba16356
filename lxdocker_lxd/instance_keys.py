"""The instance configuration that a converted image reads: one table for guest, docs and updater.

LXD hands ``user.*`` keys to a guest through templates, rendered before each start; so a change takes
effect with the next start. ``docs/instance-keys.md`` holds the same table; a test compares both.
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "user.lxdocker."
# A bar inside a cell of a Markdown table.
BAR = r"\|"
INIT_SCRIPT_KEY = "user.lxdocker_init_script"

ReadBy = Literal["guest", "updater"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceKey:
    """One key. ``values`` is its value's syntax, ``default`` what holds without it.

    ``read_by`` tells who acts on it: the guest at each start, or the updater on the host.
    """

    name: str
    values: str
    meaning: str
    default: str
    read_by: ReadBy = "guest"
    since: str = "0.1"

    @property
    def short(self) -> str:
        """The name without the common prefix, as the guest knows it."""
        return self.name.removeprefix(PREFIX)


INSTANCE_KEYS: tuple[InstanceKey, ...] = (
    InstanceKey(
        name="user.lxdocker.entrypoint",
        values="words",
        meaning="runs instead of the image's entrypoint; the image's cmd is then left out too",
        default="the image's",
    ),
    InstanceKey(
        name="user.lxdocker.cmd",
        values="words",
        meaning="takes the place of the image's cmd: arguments of the entrypoint, or the command",
        default="the image's",
    ),
    InstanceKey(
        name="user.lxdocker.user",
        values="`USER[:GROUP]`, names or numbers",
        meaning="who runs the command; names are looked up in the instance's own files",
        default="the image's, else root",
    ),
    InstanceKey(
        name="user.lxdocker.working_dir",
        values="absolute path",
        meaning="where the command starts; made if it is missing",
        default="the image's, else `/`",
    ),
    InstanceKey(
        name="user.lxdocker.restart",
        values="`no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`",
        meaning="whether the command starts again after it ended; `always` and `unless-stopped` are"
        " the same, for a stop by an operator always ends the instance",
        default="the spec's, else `no`",
    ),
    InstanceKey(
        name="user.lxdocker.stop_signal",
        values="name or number, as in `SIGQUIT` or `3`",
        meaning="what the command gets on `lxc stop`",
        default="the image's, else `SIGTERM`",
    ),
    InstanceKey(
        name="user.lxdocker.stop_timeout",
        values="seconds",
        meaning="time between the stop signal and SIGKILL; the updater gives 10 s more, and doesn't"
        " update an instance that needs more than an hour",
        default="the image's, else `10`",
    ),
    InstanceKey(
        name="user.lxdocker.supervisor",
        values="`true` or `false`",
        meaning="whether the guest stays as PID 1 and supervises the command, or the command itself"
        " becomes PID 1",
        default="as the image was converted",
    ),
    InstanceKey(
        name="user.lxdocker.health",
        values="words, or `none`",
        meaning="command of the health check instead of the image's; `none` switches it off",
        default="the image's",
    ),
    InstanceKey(
        name="user.lxdocker.network_wait",
        values="seconds",
        meaning="longest wait for addresses by DHCP before the command starts; `0` waits never",
        default="`10`",
    ),
    InstanceKey(
        name="user.lxdocker.log_size",
        values="bytes, `512K` or `10M`",
        meaning="size at which the log file is rotated, one older file is kept; `0` writes no file",
        default="`10M`",
    ),
    InstanceKey(
        name=INIT_SCRIPT_KEY,
        values="a script",
        meaning="runs as `/lxd-prelaunch` before the command, as root; by `sh` of the guest's"
        " busybox unless its first line names an interpreter",
        default="none",
    ),
    InstanceKey(
        name="user.lxdocker.update",
        values="`auto`, `notify` or `off`",
        meaning="whether a newer image is installed, only told, or ignored; without it the instance is never touched",
        default="off",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.of",
        values="`PROJECT/NAME`",
        meaning="the instance that was enrolled; written by the updater, so that copies and backups of it"
        " aren't followed",
        default="-",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.keep",
        values="`12h`, `3d`, `2w`",
        meaning="for how long the copy of before an update is kept; the last version that was shown to"
        " work is kept in any case",
        default="`72h`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.keep_copies",
        values="number",
        meaning="how many such copies are kept, the newest ones",
        default="`3`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.image",
        values="`local|ALIAS` or `URL|simplestreams|ALIAS`",
        meaning="the image that is followed; written when the instance is enrolled",
        default="what it was made of",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.image.certificate",
        values="PEM",
        meaning="what LXD trusts for that image server besides the system's authorities; written when the"
        " instance is enrolled",
        default="what LXD was told",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.depends",
        values="names of instances",
        meaning="updated before this one, which is restarted when one of them was",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.window",
        values="`[DAYS] HH:MM-HH:MM [ZONE]`, several with `;`",
        meaning="when an update may begin, as in `Sat,Sun 02:00-05:00 Europe/Berlin`",
        default="always",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.minimum_age",
        values="`30m`, `12h`, `3d`",
        meaning="how old a version is before it is used: since it was published, else since LXD got it",
        default="`0s`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.pin",
        values="beginning of a fingerprint",
        meaning="the only version that is installed",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.skip",
        values="beginnings of fingerprints",
        meaning="versions that are left out",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.retry_rejected",
        values="`12h`, `30d`, or `never`",
        meaning="how long a version that was rolled back isn't tried again, whatever the alias stood for"
        " meanwhile; at least `1h`",
        default="`30d`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.snooze",
        values="a time, as `2026-12-24T18:00Z`",
        meaning="no update before it",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.poll",
        values="`remote` or `lxd`",
        meaning="whether the updater asks the image server itself, or leaves that to LXD, which reads"
        " it once an hour",
        default="the settings'",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.root_disk",
        values="`disposable`",
        meaning="that everything on the root disk may be lost; without it, no update is made while a"
        " volume that the old or the new image declares is on it",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.volumes",
        values="`snapshot`",
        meaning="that an update snapshots the instance's volumes after the stop, and gives them that"
        " content back when the new version doesn't prove itself",
        default="volumes keep what the new version wrote",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.health",
        values="`exec WORDS`, `tcp PORT`, `http PORT [PATH]`, `image` or `running`",
        meaning="what a new version must pass, else the old one comes back",
        default="`image`: the image's health check, or that its command keeps running",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.health_from",
        values="`inside` or `outside`",
        meaning="where `tcp` and `http` are asked from: inside the instance by the busybox of a converted"
        " image, or the updater's machine, at addresses that LXD gave to its NICs",
        default="`inside`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.interval",
        values="seconds, up to 86400",
        meaning="between two checks",
        default="the image's `Interval`, else `2`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.timeout",
        values="seconds, up to 240",
        meaning="for one check",
        default="the image's `Timeout`, else `30`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.retries",
        values="number, up to 1000",
        meaning="checks that fail in a row before the version is given up",
        default="the image's `Retries`, else `3`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.start_period",
        values="seconds, up to 86400",
        meaning="after the start of the command in which failed checks don't count",
        default="the image's `StartPeriod`, else `60`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.stable",
        values="seconds, up to 1800",
        meaning="for which it must stay healthy, its command running",
        default="`10`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.heal",
        values="`restart`, `notify` or `off`",
        meaning="what the update service does when the health check of this followed instance fails at"
        " run time: restart it, three times an hour at most, only tell, or nothing",
        default="`notify`",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.hook.before",
        values="names of hooks",
        meaning="run before the old version is stopped; exit code 75 puts the update off, others but 0"
        " forbid it (notifications.md)",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.hook.after",
        values="names of hooks",
        meaning="run when the new version is healthy; any exit code but 0 turns back",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.update.hook.back",
        values="names of hooks",
        meaning="run when the old version is back",
        default="none",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.transaction",
        values="written by the updater",
        meaning="which update the instance belongs to; don't touch",
        default="-",
        read_by="updater",
    ),
    InstanceKey(
        name="user.lxdocker.rejected",
        values="written by the updater",
        meaning="versions that were rolled back, and when; `/past` marks those before the last good one",
        default="-",
        read_by="updater",
    ),
)


def guest_keys() -> tuple[InstanceKey, ...]:
    """Return the keys the guest reads at start, without the script, which has a file of its own."""
    return tuple(
        key for key in INSTANCE_KEYS if key.read_by == "guest" and key.name != INIT_SCRIPT_KEY
    )


def markdown_table() -> str:
    """Return the table as docs/instance-keys.md holds it, without a final newline."""
    rows = ["| key | value | meaning | default | since |", "|---|---|---|---|---|"]
    rows += [
        f"| `{key.name}` | {key.values.replace('|', BAR)} | {key.meaning} | {key.default}"
        f" | {key.since} |"
        for key in INSTANCE_KEYS
    ]
    return "\n".join(rows)
