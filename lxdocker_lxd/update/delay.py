"""Why an update that is possible waits for a later time: snoozed, too young, outside of windows. Pure."""

from datetime import datetime

from lxdocker_lxd.lxd.records import Image, Instance
from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.enrolment import Policy
from lxdocker_lxd.update.release import published_at
from lxdocker_lxd.update.window import is_open, next_opening


def delay_of(
    policy: Policy, instance: Instance, image: Image, base: Image | None, now: datetime
) -> tuple[Cause, str] | None:
    """Return why the time for an image hasn't come, or None; ``base`` is the instance's own image."""
    if policy.snoozed_until is not None and now < policy.snoozed_until:
        return Cause.SNOOZED, f"snoozed until {policy.snoozed_until.isoformat()}"
    if policy.minimum_age and (reason := _too_young(policy, instance, image, base, now)):
        return Cause.MINIMUM_AGE, reason
    if not is_open(policy.windows, now):
        opening = next_opening(policy.windows, now)
        when = opening.isoformat() if opening is not None else "nobody knows when"
        return Cause.WINDOW, f"the maintenance window opens {when}"
    return None


def _too_young(
    policy: Policy, instance: Instance, image: Image, base: Image | None, now: datetime
) -> str:
    earliest = base.uploaded_at if base is not None else instance.created_at
    published = published_at(image, now, earliest)
    since = published or image.uploaded_at
    if since is None:
        return "nobody knows how old the image is"
    if since > now:
        return (
            f"nobody knows how old the image is: LXD dates it {since.isoformat()}, which is ahead of"
            f" this machine's clock; `lxdocker-lxd update now {instance.name}` doesn't wait"
        )
    ripe = since + policy.minimum_age
    if now >= ripe:
        return ""
    how = "it was published" if published is not None else "LXD has had it since"
    return f"the image is to rest until {ripe.isoformat()}: {how} {since.isoformat()}"
