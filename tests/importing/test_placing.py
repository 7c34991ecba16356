"""An image under its names, all of it or nothing: every call to LXD is made to fail, one at a time."""

import io
import tarfile
from collections.abc import Callable

import pytest

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.importing.placing import AliasTakenError, Naming, Placed, Shelf
from lxdocker_lxd.lxd.calls import ImageUpload
from lxdocker_lxd.lxd.failures import ImageExistsError
from lxdocker_lxd.lxd.records import UpdateSource
from tests.harness.simulated_lxd import Fault, SimulatedLxd

FAULTS = (Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.BUSY, Fault.LXD_RESTARTED)
METADATA = b"architecture: x86_64\ncreation_date: 1\nproperties: {lxdocker.product: web}\n"
DIGEST = "sha256:" + "5" * 64


def archive(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def upload(version: str, properties: dict[str, str] | None = None) -> ImageUpload:
    return ImageUpload(
        metadata=archive("metadata.yaml", METADATA),
        rootfs=[archive("version", version.encode())],
        properties=properties or {},
    )


def sender(lxd: SimulatedLxd, version: str, **properties: str) -> Callable[[], str]:
    named = {key.replace("_", "."): value for key, value in properties.items()}
    return lambda: lxd.images.upload(upload(version, named))


State = tuple[dict[str, bool], dict[str, str]]


def state(lxd: SimulatedLxd) -> State:
    """Images with ``public``, and aliases."""
    images = {image.fingerprint: image.public for image in lxd.user.images.list()}
    return images, {alias.name: alias.fingerprint for alias in lxd.user.aliases.list()}


def fingerprint(version: str) -> str:
    return SimulatedLxd().images.upload(upload(version))


def furnished() -> tuple[SimulatedLxd, Naming]:
    """A LXD with an earlier version, a stranger's image, and what is wanted beside them."""
    lxd = SimulatedLxd()
    old = lxd.user.images.upload(upload("old"))
    lxd.user.aliases.create("web", old)
    stranger = lxd.user.images.upload(upload("stranger"))
    lxd.user.aliases.create("theirs", stranger)
    naming = Naming(
        aliases=("web", "web/1", "theirs"), ours=frozenset({old}), replace=True, delete_others=False
    )
    return lxd, naming


def place(lxd: SimulatedLxd, naming: Naming) -> Placed:
    return Shelf(lxd, "default").place(
        sender(lxd, "new"), naming, fingerprint=fingerprint("new"), public=False
    )


def test_names_move_and_the_earlier_version_goes() -> None:
    lxd, naming = furnished()
    placed = place(lxd, naming)
    new = fingerprint("new")
    assert (placed.sent, placed.moved) == (True, ("web", "theirs"))
    assert placed.deleted == (fingerprint("old"),)
    images, aliases = state(lxd)
    assert set(images) == {new, fingerprint("stranger")}
    assert aliases == dict.fromkeys(("web", "web/1", "theirs"), new)
    again = place(lxd, naming)
    assert (again.sent, again.named, again.deleted) == (False, False, ())


def test_whatever_fails_leaves_all_or_nothing() -> None:
    """Every call in turn fails in every way: what is left is either the start or the end."""
    lxd, naming = furnished()
    before = state(lxd)
    lxd.log.restart_count()
    place(lxd, naming)
    after, calls = state(lxd), lxd.log.number
    failed = 0
    for number in range(1, calls + 1):
        for fault in FAULTS:
            lxd, naming = furnished()
            lxd.log.restart_count()
            lxd.log.faults[number] = fault
            try:
                place(lxd, naming)
            except LxdockerError:
                failed += 1
                assert state(lxd) == before, (number, fault)
            else:
                # Only deleting the replaced image may be left undone.
                images, aliases = state(lxd)
                assert aliases == after[1], (number, fault)
                assert set(after[0]) <= set(images) <= {*after[0], fingerprint("old")}
    assert failed > calls


def test_an_upload_whose_answer_is_lost_is_recognised() -> None:
    lxd, naming = furnished()
    lxd.log.restart_count()
    calls = []
    lxd.log.before = lambda call: calls.append(call.name)
    place(lxd, naming)
    number = calls.index("images.upload") + 1
    lxd, naming = furnished()
    lxd.log.restart_count()
    lxd.log.faults[number] = Fault.ANSWER_LOST
    assert place(lxd, naming).sent
    assert set(state(lxd)[1]) == {"web", "web/1", "theirs"}


def test_a_stranger_s_name_is_found_out_before_any_work() -> None:
    lxd, _ = furnished()
    shelf = Shelf(lxd, "default")
    with pytest.raises(AliasTakenError, match="'theirs'"):
        shelf.check(Naming(aliases=("theirs",)))
    shelf.check(Naming(aliases=("web", "free"), ours=frozenset({fingerprint("old")})))


def test_an_image_that_came_meanwhile_is_used() -> None:
    lxd = SimulatedLxd()

    def fetch() -> str:
        there = lxd.user.images.upload(upload("new"))
        raise ImageExistsError("it exists", fingerprint=there)

    placed = Shelf(lxd, "default").place(fetch, Naming(aliases=("web",)), public=False)
    assert (placed.sent, placed.named) == (False, True)
    assert state(lxd)[1] == {"web": fingerprint("new")}


def test_an_image_that_is_there_becomes_public_when_asked() -> None:
    lxd = SimulatedLxd()
    there = lxd.user.images.upload(upload("new"))
    shelf = Shelf(lxd, "default")
    naming = Naming(aliases=("web",))
    shelf.place(sender(lxd, "new"), naming, fingerprint=there, public=True)
    assert state(lxd) == ({there: True}, {"web": there})


def test_a_name_by_digest_serves_whoever_has_the_same_content() -> None:
    pinned = f"nginx@{DIGEST.replace(':', '%')}"
    lxd = SimulatedLxd()
    shelf = Shelf(lxd, "default")
    key = {"requirements_lxdocker_digest": DIGEST}
    first = shelf.place(
        sender(lxd, "one", **key), Naming(aliases=("a",), extra=(pinned,)), public=False
    )
    # The second one of that digest leaves it; a name that is asked for by itself moves.
    shelf.place(sender(lxd, "two", **key), Naming(aliases=("b",), extra=(pinned,)), public=False)
    assert state(lxd)[1][pinned] == first.fingerprint
    third = shelf.place(sender(lxd, "three", **key), Naming(aliases=(pinned,)), public=False)
    assert state(lxd)[1][pinned] == third.fingerprint
    other = Naming(aliases=(f"nginx@sha256%{'6' * 64}",))
    lxd.user.aliases.create(other.aliases[0], first.fingerprint)
    with pytest.raises(AliasTakenError):
        shelf.check(other)


def test_images_that_lxd_follows_itself_are_nobody_s_earlier_version() -> None:
    lxd = SimulatedLxd()
    server = "https://shop.example"
    lxd.publish(server, "web", "1")
    pulled = lxd.user.images.pull(UpdateSource(server=server, alias="web"))
    mine = lxd.user.images.upload(upload("old"))
    assert Shelf(lxd, "default").without_source({pulled, mine}) == {mine}
