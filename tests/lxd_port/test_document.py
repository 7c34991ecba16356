"""Documents of LXD, which another server may write too."""

import json

import pytest

from lxdocker_lxd.lxd.calls import TransferStep
from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.images import _download_steps


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("7.9", 7),
        ("1e999", 0),
        ("1" + "0" * 400, 10**400),
        ("-1e999", 0),
        ("NaN", 0),
        ('"7"', 0),
        ("null", 0),
    ],
)
def test_what_is_no_number_is_none(text: str, number: int) -> None:
    assert Document(json.loads(f'{{"size": {text}}}')).number("size") == number


@pytest.mark.parametrize(
    ("text", "percent"),
    [("rootfs: 45% (12.3MB/s)", 45), ("rootfs: 45", 45), ("rootfs: ²%", None),
     (f"rootfs: {'9' * 5000}%", None), ("rootfs: 12.3MB", None), ("", None)],
)  # fmt: skip
def test_a_download_tells_how_far_it_is_or_nothing(text: str, percent: int | None) -> None:
    told: list[TransferStep] = []
    _download_steps(told.append)(Document({"download_progress": text}))
    steps = [TransferStep(stage="rootfs", percent=percent)] if percent is not None else []
    assert told == steps
