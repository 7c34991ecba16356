"""Fixtures of the converter's tests."""

from pathlib import Path

import pytest

from tests.convert.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "workshop")
