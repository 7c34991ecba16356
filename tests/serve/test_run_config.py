"""What an image's configuration says: used as it is written, and never trusted to be what it should be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import Json
from lxdocker_lxd.secret_value import HIDDEN
from lxdocker_lxd.serve.run_config import HealthCheck, RunConfig

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = (
    "Entrypoint",
    "Cmd",
    "Env",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "Healthcheck",
    "User",
    "Shell",
    "WorkingDir",
    "StopSignal",
)


def test_a_usual_configuration() -> None:
    config = RunConfig.read(
        {
            "Entrypoint": ["/init"],
            "Cmd": ["serve"],
            "Env": ["B=2", "A=x=y", "A=1", "EMPTY="],
            "ExposedPorts": {"443/tcp": {}, "80/tcp": {}, "8080/tcp": {}, "web": {}},
            "Volumes": {"/data": {}, "/cache": {}},
            "Labels": {"b": "2", "a": "1"},
            "User": "app",
        }
    )
    assert config.entrypoint == ("/init",)
    assert config.command == ("serve",)
    assert list(config.environment.items()) == [("A", "1"), ("B", "2"), ("EMPTY", "")]
    assert config.ports == ("80/tcp", "443/tcp", "8080/tcp")
    assert config.volumes == ("/cache", "/data")
    assert list(config.labels) == ["a", "b"]
    assert config.user == "app"


def test_a_value_that_isn_t_told_is_hidden() -> None:
    assert RunConfig.read({"Env": ["A=", "DB_PASSWORD"]}).environment == {
        "A": "",
        "DB_PASSWORD": HIDDEN,
    }


def test_a_health_check_in_seconds() -> None:
    check: dict[str, Json] = {
        "Test": ["CMD-SHELL", "x"],
        "Interval": 1_500_000_000,
        "Timeout": 0,
        "Retries": 3,
    }
    assert RunConfig.read({"Healthcheck": check}).health_check == HealthCheck(
        test=("CMD-SHELL", "x"), seconds={"interval": 1.5}, retries=3
    )


@pytest.mark.parametrize("test", [["NONE"], [], None, "CMD", [1]])
def test_no_health_check(test: Json) -> None:
    assert RunConfig.read({"Healthcheck": {"Test": test}}).health_check is None


@given(st.dictionaries(st.sampled_from(KEYS), ANY_JSON))
def test_any_json_is_read(config: dict[str, Json]) -> None:
    read = RunConfig.read(config)
    assert all(isinstance(word, str) for word in (*read.entrypoint, *read.ports, *read.volumes))
    assert all(isinstance(value, str) for value in read.labels.values())


@given(ANY_JSON)
def test_any_health_check_is_read(check: Json) -> None:
    RunConfig.read({"Healthcheck": check})
    RunConfig.read({"Healthcheck": {"Test": ["CMD", "x"], "Interval": check, "Retries": check}})
