"""What is a port, for every part that reads what an image exposes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.image_config import parse_image_config
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.launching.ports import PublishedPort
from lxdocker_lxd.serve.run_config import RunConfig
from lxdocker_lxd.spec_values import port
from tests.harness.hostile_values import PORTS_NOT


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("80", "80/tcp"),
        ("80/tcp", "80/tcp"),
        ("53/udp", "53/udp"),
        ("53/UDP", "53/udp"),
        ("9/sctp", "9/sctp"),
        ("080", "80/tcp"),
        ("1", "1/tcp"),
        ("65535/udp", "65535/udp"),
        ("8000-8010/tcp", "8000-8010/tcp"),
        ("8000-8010", "8000-8010/tcp"),
        ("80-80", "80/tcp"),
    ],
)
def test_what_docker_takes_for_a_port(text: str, seen: str) -> None:
    assert str(ExposedPort.parse(text)) == seen
    assert port(text) == seen


@pytest.mark.parametrize("text", PORTS_NOT)
def test_what_no_part_takes_for_a_port(text: str) -> None:
    assert ExposedPort.parse(text) is None
    assert PublishedPort.exposed(text) == ()
    assert RunConfig.read({"ExposedPorts": {text: {}}}).ports == ()
    with pytest.raises(ValueError, match="expected a port"):
        port(text)


@given(st.text() | st.from_regex(r"\A[0-9]{1,6}(-[0-9]{1,6})?(/[a-zA-Z]{1,4})?\Z"))
def test_a_port_is_always_within_bounds_and_reads_back(text: str) -> None:
    found = ExposedPort.parse(text)
    if found is not None:
        assert 1 <= found.first <= found.last <= 65535
        assert ExposedPort.parse(str(found)) == found


def test_an_image_keeps_its_ports_and_loses_what_is_none() -> None:
    exposed = ["443", "80/tcp", "8000-8010/tcp", "80", *PORTS_NOT]
    raw = {
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"ExposedPorts": {text: {} for text in exposed}},
    }
    config = parse_image_config(json.dumps(raw).encode(), what="test")
    assert set(config.exposed_ports) == {"443/tcp", "80/tcp", "8000-8010/tcp"}
    assert set(config.ignored_ports) == set(PORTS_NOT)
