"""The guest's shell for every test here."""

from pathlib import Path

import pytest

from tests.guest.guest_shell import GuestShell


@pytest.fixture
def guest(tmp_path: Path) -> GuestShell:
    return GuestShell(tmp_path)


@pytest.fixture(scope="module")
def shared_guest(tmp_path_factory: pytest.TempPathFactory) -> GuestShell:
    """One directory for all examples of a property."""
    return GuestShell(tmp_path_factory.mktemp("guest"))
