"""What the tests of the registry's client share."""

from collections.abc import Iterator

import pytest

from tests.harness.fake_registry import FakeRegistry, fake_registry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry
