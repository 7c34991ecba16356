"""What of an image's own data decides the bytes of the built one."""

import json
import time
from collections.abc import Iterator

import pytest

from lxdocker_lxd.convert.build import created_seconds, rendered


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


def test_the_image_told_in_its_root_is_not_larger_than_its_configuration() -> None:
    """An indent for each bracket made 211 MB of 0.6, and took half a gigabyte of memory."""
    deep = "[" * 60 + ",".join(["1"] * 20_000) + "]" * 60
    fields = {"format": 1, "oci": {"x": json.loads(deep)}, "name": "a"}
    found = rendered(fields)
    assert json.loads(found) == fields
    assert len(found) < 2 * len(deep)
    assert found.startswith(b'{\n"format": 1,\n"name": "a",\n"oci": {')
