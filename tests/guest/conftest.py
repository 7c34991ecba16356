"""The guest's scripts in a shell of this machine, and whole guests in a private LXD."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.guest_shell import GuestShell
from tests.guest.lxd_guest import Guests
from tests.harness.lxd import PrivateLxd


@pytest.fixture
def guest(tmp_path: Path) -> GuestShell:
    return GuestShell(tmp_path)


@pytest.fixture(scope="module")
def shared_guest(tmp_path_factory: pytest.TempPathFactory) -> GuestShell:
    """One directory for all examples of a property."""
    return GuestShell(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def guests(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Guests]:
    """Makes images and instances; the instances are gone after the test."""
    made = Guests(private_lxd, tmp_path)
    yield made
    made.close()
