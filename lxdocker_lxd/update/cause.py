"""Why something is decided about an instance, as programs read it. Pure."""

from enum import StrEnum


class Cause(StrEnum):
    """The one reason of a decision that counts; the decision's text says it to people."""

    NEW_VERSION = "new-version"
    CURRENT = "current"
    DEPENDENCY = "dependency"
    PROBLEM = "problem"
    INTERNAL_ERROR = "internal-error"
    CYCLE = "cycle"
    COPY = "copy"
    UNREADABLE_STAMP = "unreadable-stamp"
    NO_SOURCE = "no-source"
    NO_IMAGE = "no-image"
    OTHER_IMAGE_TYPE = "other-image-type"
    EPHEMERAL = "ephemeral"
    NO_BASE_IMAGE = "no-base-image"
    UNFINISHED = "unfinished"
    STATUS = "status"
    BUSY = "busy"
    MEMBER_OFFLINE = "member-offline"
    PINNED = "pinned"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    BREAKER = "breaker"
    SNOOZED = "snoozed"
    MINIMUM_AGE = "minimum-age"
    WINDOW = "window"


PASSING = frozenset({Cause.STATUS, Cause.BUSY})
"""What ends by itself, and without any event that tells of it: worth another look soon."""
