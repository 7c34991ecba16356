"""What an image's own file says of it."""

import json

import pytest

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.image_facts import ImageFacts, parse_facts


def said(**fields: object) -> ImageFacts:
    return parse_facts(json.dumps(fields).encode())


def test_volumes_ports_and_health() -> None:
    found = said(
        volumes=["/data", "/data/"],
        ports=["80/tcp"],
        healthcheck={"Test": ["CMD", "true"]},
    )
    assert found == ImageFacts(volumes=("/data",), ports=("80/tcp",), health=True)


@pytest.mark.parametrize("check", [None, {}, {"Test": ["NONE"]}, {"Test": []}])
def test_no_health_check(check: object) -> None:
    assert said(healthcheck=check) == ImageFacts()


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b'{"volumes": ["x"]}', b'{"volumes": 1}'])
def test_another_file(content: bytes) -> None:
    with pytest.raises(VerificationError):
        parse_facts(content)
