"""Which product of a run is the one that a LXD needs."""

from pathlib import Path

import pytest

from lxdocker_lxd.convert.run import ImageOutcome, RunReport
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.importing.conversion import OnTheWay, outcome_of, published
from lxdocker_lxd.progress import Event, ImageFinished, StageStarted


def outcome(name: str, architecture: str) -> ImageOutcome:
    return ImageOutcome(name=name, architecture=architecture, outcome="built", reason="")


def test_the_architecture_decides() -> None:
    report = RunReport(outcomes=(outcome("web", "amd64"), outcome("web", "arm64")))
    assert outcome_of(report, "web", "arm64") == report.outcomes[1]
    with pytest.raises(NotFoundError, match="made for amd64, arm64, and this LXD runs riscv64"):
        outcome_of(report, "web", "riscv64")
    with pytest.raises(NotFoundError, match="no architecture"):
        outcome_of(report, "shop", "amd64")


def test_a_specification_that_failed_has_no_architecture() -> None:
    report = RunReport(outcomes=(outcome("web", ""),))
    assert outcome_of(report, "web", "amd64") == report.outcomes[0]


def test_what_was_never_published(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no image web for amd64"):
        published(tmp_path, "web", "amd64")


def test_a_converted_image_is_still_on_its_way() -> None:
    seen: list[Event] = []

    class Listener:
        def emit(self, event: Event, /) -> None:
            seen.append(event)

    way = OnTheWay(Listener())
    started = StageStarted(image="web", stage="pack")
    way.emit(started)
    way.emit(ImageFinished(image="web", outcome="built", detail=""))
    assert seen == [started]
