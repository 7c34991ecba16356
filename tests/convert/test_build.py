"""What of an image's own data decides the bytes of the built one."""

import time
from collections.abc import Iterator

import pytest

from lxdocker_lxd.convert.build import created_seconds


@pytest.fixture(params=["UTC", "Asia/Tokyo"])
def _time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_time_zone")
def test_a_creation_date_without_a_zone_is_utc_wherever_it_is_read() -> None:
    """It was taken for this machine's own time, so the same image had other bytes in Tokyo."""
    assert created_seconds("2026-01-02T03:04:05") == 1_767_323_045
    assert created_seconds("2026-01-02T03:04:05Z") == 1_767_323_045
    assert created_seconds("2026-01-02T03:04:05+09:00") == 1_767_323_045 - 9 * 3600
