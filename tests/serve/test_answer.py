"""Ranges and conditions as RFC 9110 words them: each row of the table that stock servers get wrong."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.serve.answer import Facts, answer, takes_gzip

WRITTEN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
EARLIER = "Sun, 01 Mar 2026 11:59:59 GMT"
LATER = "Sun, 01 Mar 2026 12:00:01 GMT"
FACTS = Facts(
    etag="sha256:abc",
    size_bytes=1000,
    media_type="application/octet-stream",
    cache="no-cache",
    modified_at=WRITTEN,
)
TAG = '"sha256:abc"'


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-99", 206, (0, 100)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=999-", 206, (999, 1000)),
        ("bytes=0-", 206, (0, 1000)),
        ("bytes=500-999999999999", 206, (500, 1000)),
        ("bytes=-500", 206, (500, 1000)),
        ("bytes=-5000", 206, (0, 1000)),
        ("Bytes=1-2", 206, (1, 3)),
        ("bytes=1000-", 416, None),
        ("bytes=99999999999999999999999999-", 416, None),
        # Not understood, or not wanted: the whole, as if it had not been asked.
        ("bytes=0-1,5-6", 200, (0, 1000)),
        ("bytes=5-2", 200, (0, 1000)),
        ("bytes=-0", 200, (0, 1000)),
        ("bytes=-", 200, (0, 1000)),
        ("bytes=a-b", 200, (0, 1000)),
        ("bytes=" + "9" * 5000 + "-", 200, (0, 1000)),
        ("lines=1-2", 200, (0, 1000)),
        ("bytes", 200, (0, 1000)),
        ("", 200, (0, 1000)),
    ],
)
def test_one_range_is_served_and_several_get_the_whole(
    wanted: str, status: int, part: tuple[int, int] | None
) -> None:
    found = answer(FACTS, {"Range": wanted})
    assert found.status == status
    assert found.headers["Accept-Ranges"] == "bytes"
    if part is None:
        assert found.headers["Content-Range"] == "bytes */1000"
        assert found.stop == 0
    else:
        assert (found.start, found.stop) == part
        assert found.headers["Content-Length"] == str(part[1] - part[0])
        if status == 206:
            shown = f"bytes {part[0]}-{part[1] - 1}/1000"
            assert found.headers["Content-Range"] == shown
        else:
            assert "Content-Range" not in found.headers


@pytest.mark.parametrize(
    ("request_headers", "status"),
    [
        ({"If-None-Match": TAG}, 304),
        ({"If-None-Match": f"W/{TAG}"}, 304),
        ({"If-None-Match": f'"other", {TAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": "sha256:abc"}, 304),
        # An ETag that doesn't match outweighs any date.
        ({"If-None-Match": '"other"', "If-Modified-Since": LATER}, 200),
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": LATER}, 304),
        ({"If-Modified-Since": EARLIER}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Match": TAG}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": f"W/{TAG}"}, 412),
        ({"If-Unmodified-Since": DATE}, 200),
        ({"If-Unmodified-Since": EARLIER}, 412),
        ({"Range": "bytes=0-1", "If-None-Match": TAG}, 304),
        ({"Range": "bytes=0-1", "If-Range": TAG}, 206),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-Range": f"W/{TAG}"}, 200),
        ({"Range": "bytes=0-1", "If-Range": DATE}, 206),
        ({"Range": "bytes=0-1", "If-Range": LATER}, 200),
        ({"Range": "bytes=5000-", "If-Range": '"other"'}, 200),
    ],
)
def test_conditions_decide_in_the_order_of_the_standard(
    request_headers: dict[str, str], status: int
) -> None:
    found = answer(FACTS, request_headers)
    assert found.status == status
    assert found.headers["ETag"] == TAG
    assert found.headers["Last-Modified"] == DATE
    assert (found.stop == 0) == (status in (304, 412))


def test_a_page_without_a_date_has_none() -> None:
    facts = Facts(etag="x", size_bytes=5, media_type="text/html", cache="no-cache")
    found = answer(facts, {"If-Modified-Since": LATER, "If-Unmodified-Since": EARLIER})
    assert found.status == 200
    assert "Last-Modified" not in found.headers


def test_an_empty_file_has_no_ranges() -> None:
    facts = Facts(etag="x", size_bytes=0, media_type="text/plain", cache="no-cache")
    for wanted in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        found = answer(facts, {"Range": wanted})
        assert (found.status, found.headers["Content-Length"]) == (200, "0")


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 10))
def test_a_range_is_what_a_slice_is(first: int, last: int, size: int) -> None:
    content = bytes(range(size))
    facts = Facts(etag="x", size_bytes=size, media_type="a/b", cache="no-cache")
    found = answer(facts, {"Range": f"bytes={first}-{last}"})
    if found.status == 206:
        assert content[found.start : found.stop] == content[first : last + 1] != b""
    else:
        assert first >= size or last < first


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_header_breaks_it(wanted: str, condition: str) -> None:
    found = answer(
        FACTS, {"Range": f"bytes={wanted}", "If-Range": condition, "If-None-Match": condition}
    )
    assert found.status in (200, 206, 304, 416)
    assert 0 <= found.start <= found.stop <= 1000


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("GZIP", True),
        ("*", True),
        ("gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity;q=1, gzip;q=0.5", False),
        ("br", False),
        ("", False),
        ("gzip;q=nonsense", False),
    ],
)
def test_gzip_is_sent_to_whom_it_is_welcome(accepted: str, takes: bool) -> None:
    assert takes_gzip({"Accept-Encoding": accepted}) is takes
    assert not takes_gzip({})
