"""The main tree: what is listed, under which names, and when. Read as LXD and Incus read it."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import Catalogue, Product, Version
from lxdocker_lxd.serve.contents import site
from lxdocker_lxd.serve.entry import Document, FileEntry
from lxdocker_lxd.serve.pages.image_view import OLD_DAYS
from lxdocker_lxd.serve.site import Site
from lxdocker_lxd.serve.streams import next_change, roots
from tests.harness.stream_reader import Reader, check_files
from tests.serve.trees import (
    content_of,
    context_of,
    digest,
    file_contents,
    made,
    minutes,
    named,
    roots_of,
    site_of,
    stream,
)
from tests.unit.catalogues import hours

HOUR = 3600
EVERY_READER = pytest.mark.parametrize("reader", list(Reader))


def web() -> Product:
    return named("web", made("old"), made("new", at=hours(2)), aliases=("www",))


def document(site: Site, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(content_of(site, f"streams/v1/{name}.json"))
    return found


@EVERY_READER
def test_an_image_has_its_names_and_says_where_it_came_from(reader: Reader) -> None:
    product = web()
    found = stream(site_of(product), reader=reader)
    (newest,) = (image for image in found.images if image.aliases)
    assert newest.fingerprint == product.newest.fingerprint
    assert newest.aliases == tuple(
        f"{alias}{suffix}"
        for alias in ("web", "web/current", "web/current/default", "www")
        for suffix in ("", "/amd64")
    )
    properties = newest.properties
    assert (properties["os"], properties["release"]) == ("web", "current")
    assert (properties["variant"], properties["label"]) == ("default", "release")
    assert properties["requirements.lxdocker.image"] == "docker.io/library/web:latest"
    assert properties["requirements.lxdocker.digest"] == digest("new")
    assert properties["requirements.lxdocker.manifest"] == digest("manifest of new")
    assert properties["requirements.lxdocker.platform"] == "linux/amd64"


@EVERY_READER
def test_earlier_versions_are_found_by_fingerprint_and_say_their_own_source(
    reader: Reader,
) -> None:
    product = web()
    old, new = product.versions
    found = stream(site_of(product), reader=reader)
    image = found.image(old.fingerprint)
    assert image.aliases == ()
    assert image.properties["requirements.lxdocker.digest"] == digest("old")
    assert found.resolve("web") == new.fingerprint
    check_files(found, file_contents(product.versions).__getitem__)


@EVERY_READER
@pytest.mark.parametrize("image_format", ["gzip", "tar"])
def test_a_tarball_goes_by_the_name_every_reader_knows(reader: Reader, image_format: str) -> None:
    product = named("web", made("tar", image_format=image_format))
    (image,) = stream(site_of(product), reader=reader).images
    assert image.properties["type"] == "root.tar.xz"
    assert image.fingerprint == product.newest.fingerprint


@pytest.mark.parametrize(("native", "word"), [("x86_64", "pc"), ("aarch64", "pi")])
def test_each_machine_gets_its_own_architecture(native: str, word: str) -> None:
    pc, pi = made("pc"), made("pi")
    products = (named("web", pc), named("web", pi, architecture="arm64"))
    found = stream(site_of(*products), native=native)
    wanted = {"pc": pc, "pi": pi}
    assert found.resolve("web") == wanted[word].fingerprint
    assert found.resolve("web/arm64") == pi.fingerprint
    assert found.resolve("web/amd64") == pc.fingerprint


def test_names_go_before_aliases() -> None:
    greedy = named(
        "aaa",
        made("a"),
        aliases=("web", "web/current", "web/amd64", "comma,separated", " blank", "mine"),
    )
    site = site_of(greedy, named("web", made("w")))
    found = stream(site)
    assert found.resolve("web") == found.resolve("web/amd64") == made("w").fingerprint
    assert found.resolve("mine") == made("a").fingerprint
    aliases = [image.aliases for image in found.images if image.properties["os"] == "aaa"]
    assert "mine" in aliases[0]
    assert not any("blank" in alias or "comma" in alias for alias in aliases[0])


def test_nothing_published_yet_is_a_tree_too() -> None:
    site = site_of()
    assert stream(site).images == ()
    assert roots_of(site) == [""]


def test_one_image_in_two_products_is_listed_once() -> None:
    """A catalogue promises that this can't be; LXD would find neither."""
    same = made("same")
    site = site_of(named("one", same), named("two", same))
    for root in roots_of(site):
        assert [image.properties["os"] for image in stream(site, root).images] == ["one"]


def test_a_version_without_a_root_filesystem_spoils_no_listing() -> None:
    whole = made("whole")
    broken = replace(made("broken"), files=made("broken").files[:1])
    site = site_of(named("one", broken), named("two", whole))
    for root in roots_of(site):
        listed = [image.fingerprint for image in stream(site, root).images]
        assert listed == [whole.fingerprint]


def test_the_listed_files_are_entries_below_each_root() -> None:
    product = web()
    site = site_of(product)
    paths = {entry.path for entry in site.entries() if isinstance(entry, FileEntry)}
    listed = {file.path for version in product.versions for file in version.files}
    assert {f"{root}{path}" for root in roots_of(site) for path in listed} <= paths
    for path in paths:
        assert isinstance(site.find(path), FileEntry)
        assert isinstance(site.find(f"at/20260301/{path}"), FileEntry)


class TestStagedPublication:
    """A new version is listed by fingerprint before its aliases move to it."""

    def site(self, at: datetime) -> Site:
        return site_of(self.product(), at=at, publish_delay_seconds=HOUR)

    def product(self) -> Product:
        return named("web", made("old"), made("new", at=minutes(120)), aliases=("www",))

    @EVERY_READER
    def test_first_the_fingerprint_then_the_aliases(self, reader: Reader) -> None:
        old, new = self.product().versions
        for at, holder in ((150, old), (180, new)):
            found = stream(self.site(minutes(at)), reader=reader)
            assert found.resolve("web") == found.resolve("www/amd64") == holder.fingerprint
            assert {image.fingerprint for image in found.images} == {
                old.fingerprint,
                new.fingerprint,
            }
            digests = {
                image.fingerprint: image.properties["requirements.lxdocker.digest"]
                for image in found.images
            }
            assert digests == {old.fingerprint: digest("old"), new.fingerprint: digest("new")}

    def test_the_site_knows_when_it_changes(self) -> None:
        assert self.site(minutes(150)).next_change == minutes(180)
        # Next, the pages call the new one old.
        assert self.site(minutes(180)).next_change == minutes(120) + timedelta(days=OLD_DAYS)
        assert self.site(minutes(120) + timedelta(days=OLD_DAYS)).next_change is None
        both = context_of(
            self.product(),
            at=minutes(150),
            publish_delay_seconds=2 * HOUR,
            lxe_publish_delay_seconds=HOUR,
        )
        assert next_change(both) == minutes(180)
        assert next_change(context_of(self.product(), at=minutes(150))) is None

    def test_the_main_tree_and_the_views_have_their_own_delays(self) -> None:
        site = site_of(self.product(), at=minutes(150), lxe_publish_delay_seconds=HOUR)
        old, new = self.product().versions
        assert stream(site).resolve("web") == new.fingerprint
        assert stream(site, "lxe/docker.io/").resolve("web") == old.fingerprint


class TestSignedDocuments:
    """What a signer adds, beside each root's documents."""

    class Pen:
        """Signs by writing a word before the text."""

        long_id = "0123456789ABCDEF"

        def public_key(self) -> bytes:
            return b"the key"

        def clear_signed(self, content: bytes) -> bytes:
            return b"clear:" + content

        def detached(self, content: bytes) -> bytes:
            return b"detached:" + content

        def detached_file(self, file: object) -> bytes:
            return repr(file).encode()

    def test_without_a_signer_there_are_none(self) -> None:
        paths = [entry.path for entry in site_of(web()).entries()]
        assert not [path for path in paths if path.endswith((".sjson", ".gpg", ".asc"))]

    def test_every_root_has_both_forms(self) -> None:
        site = site_of(web(), signer=self.Pen())
        for root in roots_of(site):
            for name in ("index", "images"):
                path = f"{root}streams/v1/{name}"
                plain = content_of(site, f"{path}.json")
                assert content_of(site, f"{path}.json.gpg") == b"detached:" + plain
                assert content_of(site, f"{path}.sjson").startswith(b"clear:{")

    def test_the_signed_index_leads_to_the_signed_products(self) -> None:
        site = site_of(web(), signer=self.Pen())
        signed = content_of(site, "streams/v1/index.sjson").removeprefix(b"clear:")
        plain = content_of(site, "streams/v1/index.json")
        assert json.loads(signed)["index"]["images"]["path"] == "streams/v1/images.sjson"
        assert signed.replace(b".sjson", b".json") == plain
        products = content_of(site, "streams/v1/images.sjson").removeprefix(b"clear:")
        assert products == content_of(site, "streams/v1/images.json")


def test_the_documents_say_their_kind_and_moment() -> None:
    site = site_of(web())
    index, images = document(site, "index"), document(site, "images")
    assert (index["format"], images["format"]) == ("index:1.0", "products:1.0")
    listed = index["index"]["images"]["products"]  # type: ignore[index]  # an object
    assert listed == sorted(images["products"])  # type: ignore[call-overload]  # an object
    assert images["content_id"] in index["index"]  # type: ignore[operator]  # an object
    assert index["updated"] == images["updated"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    entry = site.find("streams/v1/index.json")
    assert isinstance(entry, Document)
    assert entry.media_type == "application/json"


def test_equal_catalogues_give_equal_bytes() -> None:
    first, second = (site_of(web(), named("zoo", made("z"))) for _ in range(2))
    for entry in first.entries():
        if isinstance(entry, Document):
            assert entry.render() == content_of(second, entry.path)


def test_ten_thousand_versions_take_well_under_two_seconds() -> None:
    products = [
        named(f"app{number}", *(made(f"{number} {n}", at=hours(n)) for n in range(10)))
        for number in range(1000)
    ]
    context = context_of(*products)
    # The processor's time: other programs on the machine don't count.
    began = time.process_time()
    found = site(context)
    content_of(found, "streams/v1/index.json")
    content_of(found, "streams/v1/images.json")
    assert time.process_time() - began < 2


# ---- any catalogue

NAMES = ("web", "app", "web-2", "amd64", "x@y%z+1")
ALIASES = ("web", "web/amd64", "app/current", "www", "www/arm64", "a,b", " c", "d:e", "amd64/amd64")
REFERENCES = (
    "docker.io/library/web:latest",
    "docker.io/library/web:1.2",
    f"docker.io/library/web:1.2@{digest('pinned')}",
    "docker.io/team/app:latest",
    "docker.io/team/app/amd64:latest",
    f"docker.io/team/app@{digest('pinned')}",
    "ghcr.io/team/app:2",
    "ghcr.io/team/app/amd64:2",
    "localhost:5000/app:latest",
    "[::1]:5000/app:1",
    "docker.io/look.alike/app:1",
    "oci:/srv/layout:latest",
    "docker-archive:/srv/saved.tar",
    "no reference at all",
)
WORDS = st.sampled_from(("one", "two", "three"))


@st.composite
def products(draw: st.DrawFn) -> tuple[Product, ...]:
    """Products as a catalogue may hold them, with sources and digests that meet each other."""
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from(NAMES), st.sampled_from(("amd64", "arm64", "armhf", "armel"))
            ),
            max_size=5,
            unique=True,
        )
    )
    found = []
    for name, architecture in keys:
        moments = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=4)))
        versions: Sequence[Version] = [
            made(
                f"{name} {architecture} {moment}",
                draw(st.sampled_from(REFERENCES)),
                at=hours(moment / 4),
                top=draw(WORDS),
                manifest=draw(WORDS),
                image_format=draw(st.sampled_from(("squashfs", "gzip", "tar"))),
            )
            for moment in moments
        ]
        aliases = draw(st.lists(st.sampled_from(ALIASES), max_size=3, unique=True))
        found.append(named(name, *versions, architecture=architecture, aliases=aliases))
    return tuple(found)


@given(given_products=products(), delay=st.sampled_from((0, 3900)), at=st.integers(0, 15))
def test_no_reader_loses_anything_of_any_catalogue(
    given_products: tuple[Product, ...], delay: int, at: int
) -> None:
    context = context_of(
        *given_products, at=hours(at), publish_delay_seconds=delay, lxe_publish_delay_seconds=3900
    )
    found = site(context)
    assert sorted(roots_of(found)) == sorted(roots(context))
    everything = {v.fingerprint for product in given_products for v in product.versions}
    contents = file_contents(v for product in given_products for v in product.versions)
    for reader in Reader:
        for root in roots(context):
            tree = stream(found, root, reader=reader)
            check_files(tree, contents.__getitem__)
            listed = {image.fingerprint for image in tree.images}
            assert listed == everything if not root else listed <= everything
    main = stream(found)
    for product in given_products:
        target = main.aliases[product.name, main.image(product.newest.fingerprint).architecture]
        assert target in {version.fingerprint for version in product.versions}


@given(given_products=products())
def test_the_order_of_products_does_not_matter(given_products: tuple[Product, ...]) -> None:
    one, other = site_of(*given_products), site_of(*reversed(given_products))
    for root in roots_of(one):
        path = f"{root}streams/v1/images.json"
        assert content_of(one, path) == content_of(other, path)


def test_an_empty_catalogue_has_only_the_main_root() -> None:
    assert roots(replace(context_of(), catalogue=Catalogue())) == ("",)
