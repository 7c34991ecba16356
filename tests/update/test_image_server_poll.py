"""Asking image servers: what their documents say, how often, and what a bad one can do."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.update.image_server_http import Answer, AskingError, NoSuchDocumentError
from lxdocker_lxd.update.image_server_poll import ImageServerPoll, Server
from lxdocker_lxd.update.stream_listing import (
    Listed,
    ListingError,
    Wanted,
    product_documents,
    standing_for,
)

WEB = Wanted(alias="web", architecture="x86_64")
SERVER = Server(url="https://images.example:8443", certificate="PEM")
DAY = "20261121_1200"


def fingerprint(word: str) -> str:
    return word.encode().hex().ljust(64, "0")


def product(
    *words: str, aliases: str = "web", arch: str = "amd64", **more: object
) -> dict[str, Any]:
    """A product with a version for each word, later ones newer."""
    versions = {}
    for number, word in enumerate(words):
        metadata = {"ftype": "lxd.tar.xz", "combined_squashfs_sha256": fingerprint(word)}
        items = {"meta": metadata, "root": {"ftype": "squashfs"}}
        versions[f"202611{number + 10}_1200"] = {"items": items}
    return {"aliases": aliases, "arch": arch, "os": "web", "versions": versions} | more


def products(**named: object) -> bytes:
    return json.dumps({"format": "products:1.0", "products": named}).encode()


def index(*paths: str) -> bytes:
    entries = {
        str(number): {"datatype": "image-downloads", "path": path, "products": ["p"]}
        for number, path in enumerate(paths)
    }
    return json.dumps({"format": "index:1.0", "index": entries}).encode()


# ---- documents


def stands_for(content: bytes, wanted: Wanted = WEB) -> str:
    listed = standing_for(content, frozenset({wanted})).get(wanted)
    return "" if listed is None else bytes.fromhex(min(listed.fingerprints)).decode().strip("\0")


def test_the_newest_usable_version_of_the_right_architecture_counts() -> None:
    content = products(a=product("one", "two"), b=product("arm", arch="arm64"))
    assert stands_for(content) == "two"
    assert stands_for(content, Wanted(alias="web", architecture="aarch64")) == "arm"
    assert stands_for(content, Wanted(alias="web/amd64", architecture="x86_64")) == "two"
    assert stands_for(content, Wanted(alias="other", architecture="x86_64")) == ""
    assert stands_for(content, Wanted(alias="web", architecture="s390x")) == ""
    machine = Wanted(alias="web", architecture="x86_64", type="virtual-machine")
    assert stands_for(content, machine) == ""


def test_a_version_without_a_date_or_files_is_passed_over() -> None:
    box = product("one", "two")
    box["versions"]["v9"] = box["versions"]["20261111_1200"]
    box["versions"]["20261230"] = {"items": {"meta": {"ftype": "lxd.tar.xz"}}}
    assert stands_for(products(a=box)) == "two"


def test_an_alias_of_two_products_goes_to_the_first_in_order() -> None:
    content = products(a=product("late", os="z"), b=product("early", os="a"))
    assert stands_for(content) == "early"


def test_an_index_leads_to_documents_below_the_server() -> None:
    assert product_documents(index("streams/v1/images.json")) == ("streams/v1/images.json",)
    for path in ("../secret", "/etc/passwd", "https://elsewhere/x", "a//b", "a b"):
        with pytest.raises(ListingError, match="isn't below"):
            product_documents(index(path))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["products", "index", "versions", "items", "aliases", "arch", "ftype", "path", DAY]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_any_document_is_read_or_refused(value: object) -> None:
    content = json.dumps(value).encode()
    for read in (product_documents, lambda one: standing_for(one, frozenset({WEB}))):
        try:
            read(content)
        except ListingError:
            continue


@given(st.binary(max_size=50))
def test_any_bytes_are_refused_or_read(content: bytes) -> None:
    try:
        standing_for(content, frozenset({WEB}))
    except ListingError:
        return


def test_a_deep_document_is_refused() -> None:
    with pytest.raises(ListingError):
        standing_for(b"[" * 200_000, frozenset({WEB}))


# ---- asking


class Site:
    """An image server's documents, and who asked for what."""

    def __init__(self, **documents: bytes) -> None:
        self.documents = {
            f"{SERVER.url}/{path.replace('__', '/')}": content
            for path, content in documents.items()
        }
        self.asked: list[tuple[str, str]] = []
        self.error: LxdockerError | None = None

    def put(self, path: str, content: bytes) -> None:
        self.documents[f"{SERVER.url}/{path}"] = content

    def ask(self, url: str, *, certificate: str = "", tag: str = "") -> Answer:
        assert certificate == "PEM"
        self.asked.append((url.removeprefix(SERVER.url), tag))
        if self.error is not None:
            raise self.error
        plain = url.replace("/at/updater-asks", "") if self.again else url
        if plain not in self.documents:
            raise NoSuchDocumentError("it answers 404")
        content = self.documents[plain]
        now = str(hash(content))
        return Answer(content=None if tag == now else content, tag=now)

    again = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def site() -> Site:
    site = Site()
    site.put("streams/v1/index.json", index("streams/v1/images.json"))
    site.put("streams/v1/images.json", products(a=product("one")))
    return site


def poll_of(
    site: Site, clock: Clock, wanted: Mapping[Server, frozenset[Wanted]] | None = None
) -> ImageServerPoll:
    poll = ImageServerPoll(site.ask, clock=clock, draw=lambda: 0.5, interval_seconds=60)
    poll.follow({SERVER: frozenset({WEB})} if wanted is None else wanted)
    return poll


def listed(poll: ImageServerPoll) -> Listed:
    found = poll.listed(SERVER, WEB)
    assert found is not None
    return found


def test_a_new_version_is_noticed_and_unchanged_documents_arent_sent_again(site: Site) -> None:
    clock = Clock()
    poll = poll_of(site, clock)
    assert poll.look()
    assert listed(poll).fingerprints == {fingerprint("one")}
    assert not poll.look()
    clock.now += 61
    assert not poll.look()
    assert [bool(tag) for path, tag in site.asked if "/at/" not in path] == [False] * 2 + [True] * 2
    site.put("streams/v1/images.json", products(a=product("one", "two")))
    clock.now += 61
    assert poll.look()
    assert listed(poll).fingerprints == {fingerprint("two")}
    url = poll.again_url(SERVER, listed(poll))
    assert url == f"{SERVER.url}/at/updater-20261111_1200-{fingerprint('two')[:12]}"


def test_a_server_without_other_urls_offers_none(site: Site) -> None:
    site.again = False
    poll = poll_of(site, Clock())
    assert poll.look()
    assert poll.again_url(SERVER, listed(poll)) == ""


def test_another_name_of_the_server_is_looked_up_though_nothing_changed(site: Site) -> None:
    clock = Clock()
    site.put("streams/v1/images.json", products(a=product("one"), b=product("db", aliases="db")))
    poll = poll_of(site, clock)
    poll.look()
    database = Wanted(alias="db", architecture="x86_64")
    poll.follow({SERVER: frozenset({WEB, database})})
    assert poll.look()
    assert poll.listed(SERVER, database) is not None
    poll.follow({})
    assert not poll.look(at_once=True)
    assert poll.listed(SERVER, WEB) is None


def test_a_failing_server_is_asked_ever_more_rarely_and_told_of_once_an_hour(site: Site) -> None:
    clock = Clock()
    poll = poll_of(site, clock)
    poll.look()
    site.error = AskingError("it doesn't answer in time")
    site.asked.clear()
    told: list[str] = []
    for _ in range(24 * 360):
        clock.now += 10
        poll.look()
        told += poll.problems()
    assert 20 <= len(site.asked) <= 60
    assert 23 <= len(told) <= 25
    assert told[0] == f"ask {SERVER.url} for new images: it doesn't answer in time"
    # What was known long ago isn't believed any more.
    assert poll.listed(SERVER, WEB) is None
    site.error = None
    clock.now += 3601
    poll.look()
    assert poll.problems() == ()
    assert listed(poll).fingerprints == {fingerprint("one")}


def test_nonsense_keeps_what_was_known_and_is_told_once(site: Site) -> None:
    clock = Clock()
    poll = poll_of(site, clock)
    poll.look()
    for nonsense in (b"<html>", b"[]", b'{"products": 3}'):
        site.put("streams/v1/images.json", nonsense)
        clock.now += 61
        assert not poll.look()
    assert len(poll.problems()) == 1
    assert poll.problems() == ()
    assert listed(poll).fingerprints == {fingerprint("one")}


@pytest.mark.parametrize("failure", [AskingError("it can't be reached"), TypeError("a bug")])
def test_one_bad_server_doesnt_keep_another_from_being_asked(
    site: Site, failure: Exception
) -> None:
    bad = Server(url="https://bad.example")

    def ask(url: str, *, certificate: str = "", tag: str = "") -> Answer:
        if url.startswith(bad.url):
            raise failure
        return site.ask(url, certificate=certificate, tag=tag)

    poll = ImageServerPoll(ask, clock=Clock(), draw=lambda: 0.5, interval_seconds=60)
    poll.follow({bad: frozenset({WEB}), SERVER: frozenset({WEB})})
    assert poll.look()
    assert listed(poll)
    assert len(poll.problems()) == 1
