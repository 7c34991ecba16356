"""What an import is called: names that never meet, aliases that lxc and LXE can say."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lxdocker_lxd.importing.naming import local_alias, lxe_aliases, pinned_digest, spec_name
from lxdocker_lxd.interpretation import interpret
from lxdocker_lxd.reference import Reference, parse_source
from lxdocker_lxd.spec_values import image_name

HEX = "5" * 64
DIGEST = f"sha256:{HEX}"

components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,2})[a-z0-9]{1,5}){0,2}", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
# Without a host, a first part with a dot would be taken for one.
hosts = st.sampled_from(["ghcr.io/", "localhost:5000/", "reg.example:443/", "docker.io/"])
references = st.builds(
    lambda host, path, tag, digest: Reference.parse(
        f"{host}{'/'.join(path)}{f':{tag}' if tag else ''}{f'@{DIGEST}' if digest else ''}"
    ),
    hosts,
    st.lists(components, min_size=1, max_size=4),
    st.none() | tags,
    st.booleans(),
)


@pytest.mark.parametrize(
    ("text", "name", "alias"),
    [
        ("nginx", "nginx", "nginx"),
        ("docker.io/library/nginx:latest", "nginx", "nginx"),
        ("nginx:1.25", "nginx%1.25", "nginx/1.25"),
        ("grafana/grafana:10.4", "grafana+grafana%10.4", "grafana/grafana/10.4"),
        ("ghcr.io/a/b", "ghcr.io+a+b", "ghcr.io/a/b"),
        ("localhost:5000/app:1", "localhost%5000+app%1", "localhost:5000/app/1"),
        (f"nginx@{DIGEST}", f"nginx@sha256%{HEX}", f"nginx@sha256%{HEX}"),
        ("oci:/srv/shop", "shop%1ff9e5d5c5b4", "shop"),
        ("docker-archive:/srv/shop.tar.gz:v1", None, "shop/v1"),
    ],
)
def test_names_of_what_people_write(text: str, name: str | None, alias: str) -> None:
    source = parse_source(text)
    assert local_alias(source) == alias
    if name is not None and not text.startswith("oci:"):
        assert spec_name(source) == name


@given(references, references)
def test_two_references_never_share_a_name(one: Reference, other: Reference) -> None:
    assume(one != other)
    assert spec_name(one) != spec_name(other)


@given(references)
def test_a_name_can_be_the_name_of_a_specification(reference: Reference) -> None:
    for architecture in ("", "arm64"):
        name = spec_name(reference, architecture)
        assert image_name(name) == name


def test_paths_that_look_alike_have_names_of_their_own() -> None:
    texts = ("oci:/a/shop", "oci:/b/shop", "oci:/a/shop:1", "oci-archive:/a/shop", "oci:/a/ü")
    assert len({spec_name(parse_source(text)) for text in texts}) == len(texts)


def test_the_machine_s_other_architecture_has_a_name_of_its_own() -> None:
    nginx = parse_source("nginx")
    assert spec_name(nginx, "arm64") == "nginx@arm64"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", ("nginx",)),
        ("docker.io/library/nginx:1.25", ("nginx%1.25",)),
        (f"nginx@{DIGEST}", (f"nginx@sha256%{HEX}",)),
        # LXE takes these for a remote's: no local alias helps.
        ("grafana/grafana", ()),
        ("ghcr.io/a/b", ()),
        ("oci:/srv/shop", ()),
    ],
)
def test_lxe_s_local_aliases(text: str, expected: tuple[str, ...]) -> None:
    assert lxe_aliases(parse_source(text)) == expected


def test_lxe_finds_what_a_name_stands_for_by_digest_too() -> None:
    found = lxe_aliases(parse_source("nginx:1.25"), (DIGEST, DIGEST))
    assert found == ("nginx%1.25", f"nginx@sha256%{HEX}")
    readings = {reading.key: reading.meaning for reading in interpret(f"nginx@{DIGEST}")}
    assert readings["lxe_alias"] == found[1]


def test_aliases_by_digest_are_known() -> None:
    assert pinned_digest(f"nginx@sha256%{HEX}") == DIGEST
    assert [pinned_digest(text) for text in ("nginx", "nginx%1.25", "a@b", "@")] == [""] * 4
