"""Each contract test runs twice: on the simulation, always, and on a real LXD (marker ``lxd``)."""

from collections.abc import Iterator

import pytest

from tests.harness.image_server import image_server
from tests.harness.lxd import PrivateLxd
from tests.lxd_port.site import RealSite, SimulatedSite, Site


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSite]:
    """One daemon for these tests alone: they restart it, and remove everything in it."""
    with (
        PrivateLxd() as private,
        image_server(tmp_path_factory.mktemp("server")) as server,
    ):
        yield RealSite(private, server)


@pytest.fixture
def real(daemon: RealSite) -> Iterator[RealSite]:
    """The real LXD, empty before and after."""
    yield daemon
    daemon.clean()


@pytest.fixture
def simulated() -> SimulatedSite:
    """The simulation, empty."""
    return SimulatedSite()


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.lxd)])
def site(request: pytest.FixtureRequest) -> Site:
    """One of both."""
    chosen: Site = request.getfixturevalue(request.param)
    return chosen
