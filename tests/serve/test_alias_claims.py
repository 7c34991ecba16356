"""Each alias goes to one image, and the loser hears of it here, not from LXD."""

import pytest

from lxdocker_lxd.serve.alias_claims import Claim, expressible, settled


def claim(holder: str, alias: str, architecture: str = "amd64") -> Claim:
    return Claim(holder=holder, architecture=architecture, alias=alias)


def test_the_first_claim_wins() -> None:
    assert settled([claim("a", "web"), claim("b", "web"), claim("b", "zoo")]) == {
        "a": ("web",),
        "b": ("zoo",),
    }


def test_architectures_are_apart() -> None:
    given = [claim("a", "web"), claim("b", "web", "arm64")]
    assert settled(given) == {"a": ("web",), "b": ("web",)}


def test_an_alias_is_also_itself_with_the_architecture() -> None:
    assert settled([claim("a", "web"), claim("b", "web/amd64")]) == {"a": ("web",)}
    assert settled([claim("a", "web/amd64"), claim("b", "web")]) == {"a": ("web/amd64",)}
    assert settled([claim("a", "web"), claim("b", "web/arm64")]) == {
        "a": ("web",),
        "b": ("web/arm64",),
    }


def test_a_holder_never_stands_in_its_own_way() -> None:
    given = [claim("a", "web/amd64"), claim("a", "web"), claim("a", "web")]
    assert settled(given) == {"a": ("web/amd64", "web")}


@pytest.mark.parametrize("alias", ["", "a,b", " a", "a\n"])
def test_what_a_stream_cannot_carry_is_left_out(alias: str) -> None:
    assert not expressible(alias)
    assert settled([claim("a", alias), claim("a", "web")]) == {"a": ("web",)}
