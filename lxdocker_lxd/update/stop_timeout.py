"""How long an instance may take to stop before it is killed: one answer for everything that stops one.

The first of these that says something counts: the instance's key, which the guest obeys too; what
the image was made with; LXD's own key for a host that shuts down; 30 seconds. Some seconds are added,
so that a guest which kills its own command in time still ends by itself.
"""

from lxdocker_lxd.lxd.records import Config

STOP_TIMEOUT_KEY = "user.lxdocker.stop_timeout"
HOST_SHUTDOWN_KEY = "boot.host_shutdown_timeout"
DEFAULT_SECONDS = 30
LONGEST_SECONDS = 3600
MARGIN_SECONDS = 10
_MOST_DIGITS = 10


def stop_timeout_seconds(config: Config, image_seconds: int | None = None) -> int:
    """Return after how many seconds an instance that was asked to stop is killed; never raises.

    ``config`` is the expanded configuration, ``image_seconds`` what the image says. A value that is no
    number is passed over, as the guest does. One above an hour counts as an hour;
    ``stop_timeout_problems`` keeps an instance that asks for more from being updated.
    """
    return _bounded(_asked(config, image_seconds)) + MARGIN_SECONDS


def stop_timeout_problems(config: Config) -> tuple[str, ...]:
    """Return what the instance's own key promises and an update couldn't keep; never raises.

    What is no number isn't among it: the guest passes over it as well, and says so.
    """
    seconds = seconds_of(config.get(STOP_TIMEOUT_KEY, ""))
    if seconds is None or seconds <= LONGEST_SECONDS:
        return ()
    return (
        f"{STOP_TIMEOUT_KEY}: {seconds} s is longer than an update waits, {LONGEST_SECONDS} s at most",
    )


def names_no_timeout(config: Config) -> bool:
    """Whether the instance's own key says nothing, so that the image is to be asked."""
    return seconds_of(config.get(STOP_TIMEOUT_KEY, "")) is None


def seconds_of(text: str) -> int | None:
    """Return a whole number of seconds as the guest reads it, or None."""
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        return None
    return None if text != "0" and text.startswith("0") else int(text)


def _asked(config: Config, image_seconds: int | None) -> int:
    for seconds in (
        seconds_of(config.get(STOP_TIMEOUT_KEY, "")),
        image_seconds,
        seconds_of(config.get(HOST_SHUTDOWN_KEY, "")),
    ):
        if seconds is not None:
            return seconds
    return DEFAULT_SECONDS


def _bounded(seconds: int) -> int:
    return max(0, min(seconds, LONGEST_SECONDS))
