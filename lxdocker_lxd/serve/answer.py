"""What a GET or HEAD of something with a known size and ETag is answered with (RFC 9110, 13 and 14).

Pure: the request's headers and the facts in, status, headers and the range of bytes out. One range
is served, also from the end; several, as RFC 9110 14.2 allows, get the whole. A range that begins beyond the
end is 416. Files and documents differ only in their facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from werkzeug.datastructures import Accept
from werkzeug.http import (
    http_date,
    parse_accept_header,
    parse_date,
    parse_etags,
    parse_if_range_header,
    parse_range_header,
)

IMMUTABLE = "public, max-age=31536000, immutable"
"""For what is named by its digest."""
REVALIDATE = "no-cache"
"""For documents: may be kept, and is asked for again each time, which costs a 304."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is to be answered with. ``etag`` without quotes; ``modified_at`` in whole seconds, UTC."""

    etag: str
    size_bytes: int
    media_type: str
    cache: str
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status, headers, and which bytes follow: ``start`` up to, without, ``stop``."""

    status: int
    headers: Mapping[str, str]
    start: int = 0
    stop: int = 0


def answer(facts: Facts, request: Mapping[str, str]) -> Answer:
    """Return the answer to a request with these headers (looked up by name, in any case)."""
    status = _precondition(facts, request)
    headers = {
        "ETag": f'"{facts.etag}"',
        "Cache-Control": facts.cache,
        "Accept-Ranges": "bytes",
    }
    if facts.modified_at is not None:
        headers["Last-Modified"] = http_date(facts.modified_at)
    if status is not None:
        return Answer(status=status, headers=headers)
    start, stop = _range(facts, request)
    size = facts.size_bytes
    if start >= stop and size:
        headers["Content-Range"] = f"bytes */{size}"
        return Answer(status=416, headers=headers)
    headers["Content-Type"] = facts.media_type
    headers["Content-Length"] = str(stop - start)
    if (start, stop) == (0, size) and not _is_ranged(facts, request):
        return Answer(status=200, headers=headers, stop=size)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(status=206, headers=headers, start=start, stop=stop)


def takes_gzip(request: Mapping[str, str]) -> bool:
    """Whether the client would rather have gzip than the plain text; a quality of 0 is a refusal."""
    wanted = parse_accept_header(request.get("Accept-Encoding"), Accept)
    quality = float(wanted.quality("gzip"))
    return quality > 0 and quality >= float(wanted.quality("identity") or 0)


def _precondition(facts: Facts, request: Mapping[str, str]) -> int | None:
    """Return 304 or 412 where a condition decides so, in the order of RFC 9110 13.2.2."""
    modified = facts.modified_at
    if "If-Match" in request:
        wanted = parse_etags(request["If-Match"])
        if not (wanted.star_tag or wanted.is_strong(facts.etag)):
            return 412
    elif modified and modified > (parse_date(request.get("If-Unmodified-Since")) or modified):
        return 412
    if "If-None-Match" in request:
        return 304 if parse_etags(request["If-None-Match"]).contains_weak(facts.etag) else None
    since = parse_date(request.get("If-Modified-Since"))
    return 304 if modified and since and modified <= since else None


def _range(facts: Facts, request: Mapping[str, str]) -> tuple[int, int]:
    """Return the bytes asked for; none when there are no such bytes."""
    size = facts.size_bytes
    if not _is_ranged(facts, request):
        return 0, size
    found = parse_range_header(request["Range"])
    if found is None:
        return 0, size
    begin, end = found.ranges[0]
    if begin < 0:
        return max(0, size + begin), size
    return begin, size if end is None else min(end, size)


def _is_ranged(facts: Facts, request: Mapping[str, str]) -> bool:
    """Whether one range is asked for that the server may serve."""
    found = parse_range_header(request.get("Range"))
    if found is None or found.units != "bytes" or len(found.ranges) != 1 or not facts.size_bytes:
        return False
    if "If-Range" not in request:
        return True
    condition = parse_if_range_header(request["If-Range"])
    if condition.date is not None:
        return facts.modified_at is not None and condition.date == facts.modified_at
    weak = request["If-Range"].lstrip().startswith("W/")
    return not weak and condition.etag == facts.etag


def whole_seconds(moment: datetime) -> datetime:
    """Return ``moment`` as HTTP can express it."""
    return moment - timedelta(microseconds=moment.microsecond)
