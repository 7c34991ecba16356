"""What a SOURCE names: the rules, in their order."""

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.lxc_remotes import LxcRemote, parse_remotes
from lxdocker_lxd.importing.source_choice import (
    CatalogueChoice,
    Choice,
    RemoteChoice,
    SourceChoice,
    SpecChoice,
    choose,
)
from lxdocker_lxd.reference import parse_source

OWN = "https://images.example:8443"
REMOTES = {
    **parse_remotes("", file=""),
    "grafana": LxcRemote(
        name="grafana", address=f"{OWN}/lxe/hub/grafana", protocol="simplestreams"
    ),
    "ghcr.io": LxcRemote(name="ghcr.io", address="https://x.example", protocol="simplestreams"),
}


def named(text: str) -> Choice:
    return choose(
        text,
        specs={"shop", "both"},
        products={"store": "shop2", "both": "both", "shop2": "shop2"},
        remotes=lambda: REMOTES,
        own_url=OWN,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop", SpecChoice(name="shop")),
        ("both", SpecChoice(name="both")),
        ("store", CatalogueChoice(name="shop2")),
        # Seed 000's rule; a tag means nothing there.
        ("images/ubuntu/14.04", RemoteChoice(remote=REMOTES["images"], alias="ubuntu/14.04")),
        ("images/ubuntu/14.04:x", RemoteChoice(remote=REMOTES["images"], alias="ubuntu/14.04")),
    ],
)
def test_names_that_are_known_here(text: str, expected: Choice) -> None:
    assert named(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "nginx",
        "nginx:1.25",
        "missingremote/example/ubuntu/14.04",
        # Looks like a host, whatever remotes there are.
        "ghcr.io/owner/app",
        "localhost:5000/app",
        "localhost/app",
        # A remote of that name is our own server's tree of the registry.
        "grafana/grafana:10.4",
        # The daemon itself is no place to copy from.
        "local/x",
        "oci:/srv/layout",
        "oci-archive:shop",
        "docker-archive:/srv/shop.tar:v1",
    ],
)
def test_everything_else_is_converted(text: str) -> None:
    assert named(text) == SourceChoice(source=parse_source(text))


def test_lxc_s_file_is_read_only_when_a_remote_could_be_meant() -> None:
    def broken() -> dict[str, LxcRemote]:
        raise AssertionError("not needed")

    for text in ("nginx:1.25", "ghcr.io/a/b", "oci:/a/b", "localhost:5000/a"):
        choose(text, specs=(), products={}, remotes=broken)


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "http://x/y", "oci:"])
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        named(text)
