"""Registry-shaped trees: what LXE asks for and people type leads to the right image."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import Product, Version
from lxdocker_lxd.interpretation import interpret
from lxdocker_lxd.reference import Reference
from lxdocker_lxd.serve.remotes import remotes
from lxdocker_lxd.serve.site import Site
from tests.harness.stream_reader import Reader
from tests.serve.trees import context_of, digest, made, minutes, named, site_of, stream

TOP, MANIFEST = digest("top"), digest("manifest")
TOP_HEX, MANIFEST_HEX = TOP.removeprefix("sha256:"), MANIFEST.removeprefix("sha256:")

# image of a pod | remote LXE needs | alias it asks there for
LXE = f"""
library/nginx:1.25 | library | nginx%1.25
library/nginx | library | nginx
docker.io/nginx:1.25 | docker.io | nginx%1.25
docker.io/nginx | docker.io | nginx
docker.io/nginx:latest | docker.io | nginx
docker.io/nginx@{TOP} | docker.io | nginx@sha256%{TOP_HEX}
docker.io/nginx:1.25@{TOP} | docker.io | nginx%1.25@{TOP}
index.docker.io/library/nginx:1.25 | index.docker.io | library/nginx%1.25
index.docker.io/nginx:1.25 | index.docker.io | nginx%1.25
index.docker.io/library/nginx@{TOP} | index.docker.io | library/nginx@sha256%{TOP_HEX}
grafana/grafana | grafana | grafana
grafana/grafana:10.4 | grafana | grafana%10.4
grafana/grafana@{TOP} | grafana | grafana@sha256%{TOP_HEX}
grafana/grafana@{MANIFEST} | grafana | grafana@sha256%{MANIFEST_HEX}
grafana/grafana:10.4@{TOP} | grafana | grafana%10.4@{TOP}
docker.io/grafana/grafana:10.4 | docker.io | grafana/grafana%10.4
docker.io/grafana/grafana | docker.io | grafana/grafana
ghcr.io/home-assistant/home-assistant:stable | ghcr.io | home-assistant/home-assistant%stable
ghcr.io/a/b@{TOP} | ghcr.io | a/b@sha256%{TOP_HEX}
ghcr.io/a/b@{MANIFEST} | ghcr.io | a/b@sha256%{MANIFEST_HEX}
ghcr.io/a/b:1@{TOP} | ghcr.io | a/b%1@{TOP}
localhost:5000/app | localhost%5000 | app
localhost:5000/app:1 | localhost%5000 | app:1
localhost:5000/app:1@{TOP} | localhost%5000 | app:1@{TOP}
reg:5000/team/app@{TOP} | reg%5000 | team/app@{TOP}
reg:5000/team/app@{MANIFEST} | reg%5000 | team/app@{MANIFEST}
"""
# Where LXE never gets as far as asking a server.
NEVER_ASKED = (
    "nginx",
    "nginx:1.25",
    "docker.io/library/nginx:1.25",
    f"nginx@{TOP}",
    f"nginx:1.25@{TOP}",
    "ubuntu/nginx:edge",
    "local/x",
)
ROWS = [[cell.strip() for cell in line.split("|")] for line in LXE.strip().splitlines()]


def others(reference: Reference) -> list[Product]:
    """Images that could be mistaken for it: another tag, an older version, another host."""
    name = reference.name
    return [
        named("other-tag", made("t", f"{name}:other-tag")),
        named("other-repository", made("r", f"{name}-not:1")),
        named("other-host", made("h", f"quay.example/{reference.repository}:1.25")),
    ]


def asked(text: str) -> tuple[str, str]:
    """Remote and alias that LXE makes of a pod's image."""
    readings = {reading.key: reading.meaning for reading in interpret(text)}
    return readings["lxe_remote"], readings["lxe_alias"]


def root_of(remote: str, *products: Product) -> str:
    """The root of the tree to which the printed remotes send a client."""
    context = context_of(*products)
    places = {
        found.name: found.addr
        for found in remotes(context.catalogue, context.settings)
        if not found.remark
    }
    return places[remote].removeprefix(context.settings.base_url + "/") + "/"


def aliases(site: Site, root: str, version: Version) -> Sequence[str]:
    """The short aliases of a version in a tree."""
    shown = stream(site, root).image(version.fingerprint).aliases
    return [alias for alias in shown if not alias.endswith("/amd64")]


@pytest.mark.parametrize(("image", "remote", "alias"), ROWS)
@pytest.mark.parametrize("reader", [Reader.LXD_5_0_2, Reader.INCUS])
def test_the_table_of_lxe(image: str, remote: str, alias: str, reader: Reader) -> None:
    assert asked(image) == (remote, alias)
    reference = Reference.parse(image)
    wanted = made("wanted", str(reference), at=minutes(9), top="top", manifest="manifest")
    older = made("older", str(reference), top="older top", manifest="older manifest")
    products = (named("wanted", older, wanted), *others(reference))
    site = site_of(*products)
    found = stream(site, root_of(remote, *products), reader=reader)
    assert found.resolve(alias) == wanted.fingerprint
    assert found.resolve(f"{alias}/amd64") == wanted.fingerprint


@pytest.mark.parametrize("image", NEVER_ASKED)
def test_what_no_server_can_answer(image: str) -> None:
    remote, _ = asked(image)
    products = (named("x", made("x", str(Reference.parse(image)))),)
    with pytest.raises(KeyError):
        root_of(remote, *products)


@pytest.mark.parametrize(
    ("reference", "root", "typed"),
    [
        ("docker.io/library/nginx:1.27", "docker.io", ("nginx", "nginx:1.27", "library/nginx")),
        ("docker.io/library/nginx:1.27", "index.docker.io", ("library/nginx:1.27", "nginx")),
        ("docker.io/grafana/grafana:latest", "hub/grafana", ("grafana", "grafana:latest")),
        ("ghcr.io/a/b:latest", "ghcr.io", ("a/b", "a/b:latest", "a/b%latest")),
        ("localhost:5000/a:latest", "localhost:5000", ("a", "a:latest")),
        ("docker.io/deep/er/app:1", "hub/deep", ("er/app", "er/app:1")),
    ],
)
def test_what_people_type(reference: str, root: str, typed: Sequence[str]) -> None:
    wanted = made("wanted", reference)
    found = stream(site_of(named("wanted", wanted)), f"lxe/{root}/")
    assert {found.resolve(alias) for alias in typed} == {wanted.fingerprint}


def test_the_names_of_the_main_tree_are_not_in_the_views() -> None:
    site = site_of(named("spec-name", made("x", "ghcr.io/a/b:1"), aliases=("further",)))
    found = stream(site, "lxe/ghcr.io/")
    assert found.resolve("a/b") is not None
    assert found.resolve("spec-name") is found.resolve("further") is None
    assert {image.properties["os"] for image in found.images} == {"spec-name"}


def test_layouts_archives_and_texts_of_other_kinds_are_in_no_view() -> None:
    references = ("oci:/srv/x:latest", "docker-archive:/srv/y.tar", "no reference at all")
    products = [named(f"n{n}", made(str(n), text)) for n, text in enumerate(references)]
    site = site_of(*products)
    assert not [entry.path for entry in site.entries() if entry.path.startswith("lxe/")]
    assert len(stream(site).images) == 3


def test_a_namespace_that_looks_like_a_host_is_no_view_of_its_own() -> None:
    """A pod's look.alike/app means the host look.alike, so that remote would mislead."""
    site = site_of(named("x", made("x", "docker.io/look.alike/app:1")))
    assert site.find("lxe/hub/look.alike/streams/v1/index.json") is None
    assert site.find("lxe/look.alike/streams/v1/index.json") is None
    assert stream(site, "lxe/docker.io/").resolve("look.alike/app") is not None


class TestWhoGetsAnAlias:
    """Several images could have it; one does, always the same."""

    ROOT = "lxe/ghcr.io/"

    def test_a_bare_name_means_latest(self) -> None:
        latest = made("latest", "ghcr.io/a/b:latest")
        site = site_of(named("zz", latest), named("b", made("1", "ghcr.io/a/b:1")))
        assert aliases(site, self.ROOT, latest)[:1] == ["a/b"]
        assert stream(site, self.ROOT).resolve("a/b") == latest.fingerprint

    def test_a_bare_name_of_an_only_tag(self) -> None:
        one = made("1", "ghcr.io/a/b:1")
        assert stream(site_of(named("b", one)), self.ROOT).resolve("a/b") == one.fingerprint

    def test_a_bare_name_of_several_tags_is_nobodys(self) -> None:
        site = site_of(
            named("b", made("1", "ghcr.io/a/b:1")), named("c", made("2", "ghcr.io/a/b:2"))
        )
        assert stream(site, self.ROOT).resolve("a/b") is None

    def test_a_pinned_source_is_found_by_its_name_too(self) -> None:
        pinned = made("p", f"ghcr.io/a/b@{TOP}", top="top")
        found = stream(site_of(named("b", pinned)), self.ROOT)
        assert found.resolve("a/b") == pinned.fingerprint

    def test_a_plain_tag_goes_before_a_pinned_one(self) -> None:
        pinned = made("p", f"ghcr.io/a/b:1@{TOP}", top="top")
        plain = made("q", "ghcr.io/a/b:1", top="new top")
        found = stream(site_of(named("b", pinned), named("zz", plain)), self.ROOT)
        assert found.resolve("a/b%1") == found.resolve("a/b:1") == plain.fingerprint
        assert found.resolve(f"a/b%1@{TOP}") == pinned.fingerprint

    def test_of_two_specifications_the_one_named_like_the_repository(self) -> None:
        source = "ghcr.io/a/b:latest"
        first, alike = made("1", source, top="one"), made("2", source, top="one")
        site = site_of(named("a-first", first), named("b", alike))
        found = stream(site, self.ROOT)
        assert found.resolve("a/b") == found.resolve("a/b%latest") == alike.fingerprint
        assert found.image(first.fingerprint).aliases == (
            f"a/b@{digest('manifest of 1').replace(':', '%')}",
            f"a/b@{digest('manifest of 1').replace(':', '%')}/amd64",
            f"a/b%latest@{digest('manifest of 1')}",
            f"a/b%latest@{digest('manifest of 1')}/amd64",
        )

    def test_of_two_others_the_first_by_name(self) -> None:
        source = "ghcr.io/a/b:latest"
        one, two = made("1", source), made("2", source)
        found = stream(site_of(named("y", one), named("x", two)), self.ROOT)
        assert found.resolve("a/b") == two.fingerprint
        assert {image.fingerprint for image in found.images} == {one.fingerprint, two.fingerprint}

    def test_a_repository_named_like_an_architecture(self) -> None:
        """Never the wrong image: a/b/amd64 is that repository, so a/b has no short name there."""
        inner, outer = made("i", "ghcr.io/a/b/amd64:latest"), made("o", "ghcr.io/a/b:latest")
        found = stream(site_of(named("b", outer), named("zz", inner)), self.ROOT)
        assert found.resolve("a/b/amd64") == inner.fingerprint
        assert found.resolve("a/b") is None
        assert found.resolve("a/b:latest") == outer.fingerprint


class TestDigests:
    """A digest always means the same image, also when the tag has moved on."""

    ROOT = "lxe/ghcr.io/"
    SOURCE = "ghcr.io/a/b:1"

    def test_an_older_version_keeps_its_digests_and_nothing_else(self) -> None:
        old = made("old", self.SOURCE, top="top", manifest="manifest")
        new = made("new", self.SOURCE, at=minutes(5))
        found = stream(site_of(named("b", old, new)), self.ROOT)
        assert found.resolve("a/b%1") == new.fingerprint
        for alias in (
            f"a/b@sha256%{TOP_HEX}",
            f"a/b@sha256%{MANIFEST_HEX}",
            f"a/b%1@{TOP}",
            f"a/b%1@{MANIFEST}",
        ):
            assert found.resolve(alias) == old.fingerprint

    def test_a_rebuild_of_the_same_source_takes_its_digests(self) -> None:
        old = made("old", self.SOURCE, top="top", manifest="manifest")
        new = made("new", self.SOURCE, at=minutes(5), top="top", manifest="manifest")
        found = stream(site_of(named("b", old, new)), self.ROOT)
        assert found.resolve(f"a/b@sha256%{TOP_HEX}") == new.fingerprint
        assert found.image(old.fingerprint).aliases == ()

    def test_an_index_has_one_digest_for_all_architectures(self) -> None:
        pc, pi = (made(word, self.SOURCE, top="top", manifest=word) for word in ("pc", "pi"))
        site = site_of(named("b", pc), named("b", pi, architecture="arm64"))
        for native, wanted in (("x86_64", pc), ("aarch64", pi)):
            found = stream(site, self.ROOT, native=native)
            assert found.resolve(f"a/b@sha256%{TOP_HEX}") == wanted.fingerprint

    def test_a_source_that_moved_leaves_its_old_view_to_the_digests(self) -> None:
        old = made("old", self.SOURCE, top="top")
        new = made("new", "quay.io/a/b:1", at=minutes(5))
        site = site_of(named("b", old, new))
        before, after = stream(site, self.ROOT), stream(site, "lxe/quay.io/")
        assert before.resolve("a/b") is before.resolve("a/b%1") is None
        assert before.resolve(f"a/b@sha256%{TOP_HEX}") == old.fingerprint
        assert after.resolve("a/b%1") == new.fingerprint
        assert len(before.images) == len(after.images) == 1


def test_a_staged_version_has_no_alias_at_all() -> None:
    old = made("old", "ghcr.io/a/b:1")
    new = made("new", "ghcr.io/a/b:1", at=minutes(100), top="top")
    for at, holder in ((120, old), (165, new)):
        site = site_of(named("b", old, new), at=minutes(at), lxe_publish_delay_seconds=3900)
        found = stream(site, "lxe/ghcr.io/")
        assert found.resolve("a/b%1") == holder.fingerprint
        assert (found.resolve(f"a/b@sha256%{TOP_HEX}") is None) == (holder is old)
        assert found.image(new.fingerprint).fingerprint == new.fingerprint


COMPONENT = st.sampled_from(("a", "nginx", "team", "x-y", "library", "grafana"))


@given(
    host=st.sampled_from(("", "docker.io/", "index.docker.io/", "ghcr.io/", "localhost:5000/")),
    path=st.lists(COMPONENT, min_size=1, max_size=3),
    tag=st.sampled_from(("", ":latest", ":1.25")),
    pin=st.sampled_from(("", f"@{TOP}", f"@{MANIFEST}")),
)
def test_whatever_pod_asks_the_remote_it_needs_has_the_alias(
    host: str, path: list[str], tag: str, pin: str
) -> None:
    image = host + "/".join(path) + tag + pin
    reference = Reference.parse(image)
    # LXE drops "docker.io/library/" also where it is another repository. The Hub has none so deep.
    assume(not reference.repository.startswith("library/") or reference.repository.count("/") == 1)
    remote, alias = asked(image)
    assume(remote != "default (local)" and "@" not in remote)
    wanted = made("wanted", str(reference), top="top", manifest="manifest")
    products = (named("wanted", wanted), *others(reference))
    found = stream(site_of(*products), root_of(remote, *products))
    assert found.resolve(alias) == wanted.fingerprint
