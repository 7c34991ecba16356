"""Which image a name stands for: of the instance's own type and architecture, and nothing else's."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lxdocker_lxd.lxd.records import Alias, Image, UpdateSource
from lxdocker_lxd.update.plan import Choice, Scene, plan
from lxdocker_lxd.update.source import FollowedImage, Source, followed_image, newest
from tests.update.records import NOW, image, instance

SERVER = "https://images.example:8443"
DEBIAN = Source(alias="debian/12", server=SERVER, protocol="simplestreams")
ENROLLED = {"user.lxdocker.update": "auto", "user.lxdocker.image": str(DEBIAN)}


def fetched(
    fingerprint: str, *, hours: int, kind: str = "container", architecture: str = "x86_64"
) -> Image:
    """An image that LXD fetched from the server, ``hours`` ago."""
    held = image(
        fingerprint * 64,
        aliases=(),
        kind=kind,
        architecture=architecture,
        uploaded_at=NOW - timedelta(hours=hours),
    )
    origin = UpdateSource(server=SERVER, alias=DEBIAN.alias, image_type=kind)
    return replace(held, update_source=origin)


FOR_CONTAINERS = fetched("c", hours=5)
FOR_MACHINES = fetched("d", hours=1, kind="virtual-machine")
FOR_ARM = fetched("e", hours=2, architecture="aarch64")


def scene(*images: Image, kind: str = "container") -> Scene:
    one = instance(config=ENROLLED, kind=kind)
    return Scene(instances=(one,), images={"default": images}, aliases={"default": ()}, now=NOW)


def test_a_machines_image_of_the_same_alias_never_hides_a_containers() -> None:
    (decision,) = plan(scene(FOR_CONTAINERS, FOR_MACHINES))
    assert (decision.choice, decision.fingerprint) == (Choice.UPDATE, FOR_CONTAINERS.fingerprint)
    (decision,) = plan(scene(FOR_CONTAINERS, FOR_MACHINES, kind="virtual-machine"))
    assert (decision.choice, decision.fingerprint) == (Choice.UPDATE, FOR_MACHINES.fingerprint)


def test_another_architectures_image_never_hides_ones_own() -> None:
    (decision,) = plan(scene(FOR_CONTAINERS, FOR_ARM))
    assert (decision.choice, decision.fingerprint) == (Choice.UPDATE, FOR_CONTAINERS.fingerprint)


def test_where_only_others_images_are_held_one_is_still_to_be_fetched() -> None:
    (decision,) = plan(scene(FOR_MACHINES, FOR_ARM))
    assert decision.choice is Choice.WAIT
    assert "container" in decision.reason
    assert "x86_64" in decision.reason


def test_what_a_server_says_of_a_name_counts_for_the_type_that_was_asked_for() -> None:
    followed = FollowedImage(source=DEBIAN, type="container", architecture="x86_64")
    listed = frozenset({FOR_MACHINES.fingerprint})
    held = (FOR_CONTAINERS, FOR_MACHINES)
    assert newest(followed, held, (), listed) == FOR_CONTAINERS


@pytest.mark.parametrize(
    ("target", "words"), [(FOR_MACHINES, "a virtual-machine"), (FOR_ARM, "aarch64")]
)
def test_a_local_alias_that_moved_to_another_kind_of_image_is_told(
    target: Image, words: str
) -> None:
    one = instance(config=ENROLLED | {"user.lxdocker.image": "local|web"})
    held = Alias(name="web", fingerprint=target.fingerprint, project="default", type=target.type)
    (decision,) = plan(
        Scene(
            instances=(one,),
            images={"default": (target,)},
            aliases={"default": (held,)},
            now=NOW,
        )
    )
    assert decision.choice is Choice.REFUSE
    assert words in decision.reason


def test_the_same_name_is_another_image_for_another_type_or_architecture() -> None:
    one = instance()
    container = followed_image(DEBIAN, one)
    machine = followed_image(DEBIAN, replace(one, type="virtual-machine"))
    arm = followed_image(DEBIAN, replace(one, architecture="aarch64"))
    assert len({container, machine, arm}) == 3
