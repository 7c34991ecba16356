"""Names of images: the grammar of distribution/reference, its normalisation, and sources."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.reference import (
    ArchiveSource,
    InvalidReferenceError,
    LayoutSource,
    Reference,
    parse_source,
)

HEX = "0123456789abcdef" * 4
DIGEST = "sha256:" + HEX

# text, registry, repository, tag, digest
GOOD = [
    ("nginx", "docker.io", "library/nginx", "latest", None),
    ("nginx:1.27", "docker.io", "library/nginx", "1.27", None),
    ("library/nginx", "docker.io", "library/nginx", "latest", None),
    ("docker.io/nginx", "docker.io", "library/nginx", "latest", None),
    ("docker.io/library/nginx:V1", "docker.io", "library/nginx", "V1", None),
    ("index.docker.io/nginx", "docker.io", "library/nginx", "latest", None),
    ("index.docker.io/foo/bar", "docker.io", "foo/bar", "latest", None),
    ("dmcgowan/myapp", "docker.io", "dmcgowan/myapp", "latest", None),
    ("foo/foo/bar", "docker.io", "foo/foo/bar", "latest", None),
    ("ghcr.io/home-assistant/home-assistant:stable", "ghcr.io",
     "home-assistant/home-assistant", "stable", None),
    ("localhost/app", "localhost", "app", "latest", None),
    ("localhost", "docker.io", "library/localhost", "latest", None),
    ("localhost:5000/app", "localhost:5000", "app", "latest", None),
    ("localhost:5000", "docker.io", "library/localhost", "5000", None),
    ("test.com:tag", "docker.io", "library/test.com", "tag", None),
    ("test.com:5000", "docker.io", "library/test.com", "5000", None),
    ("test:5000/repo:tag", "test:5000", "repo", "tag", None),
    ("test:5000/repo@" + DIGEST, "test:5000", "repo", None, DIGEST),
    ("test:5000/repo:tag@" + DIGEST, "test:5000", "repo", "tag", DIGEST),
    ("nginx@" + DIGEST, "docker.io", "library/nginx", None, DIGEST),
    ("nginx@sha512:" + HEX + HEX, "docker.io", "library/nginx", None, "sha512:" + HEX + HEX),
    ("Foo/bar", "Foo", "bar", "latest", None),
    ("FOO.example.COM/bar", "FOO.example.COM", "bar", "latest", None),
    ("127.0.0.1:5000/a", "127.0.0.1:5000", "a", "latest", None),
    ("[::1]:5000/library/a", "[::1]:5000", "library/a", "latest", None),
    ("[2001:db8::1]/a:b", "[2001:db8::1]", "a", "b", None),
    ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com", None),
    ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux",
     "some-long-tag", None),
    ("foo_bar.com:8080", "docker.io", "library/foo_bar.com", "8080", None),
    ("foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com", "8080", None),
    ("foo__bar/baz", "docker.io", "foo__bar/baz", "latest", None),
    ("foo----bar/baz.qux", "docker.io", "foo----bar/baz.qux", "latest", None),
    ("aa/asdf$$^/aa".replace("$$^", "x"), "docker.io", "aa/asdfx/aa", "latest", None),
    ("a:_-.", "docker.io", "library/a", "_-.", None),
    ("a:" + "t" * 128, "docker.io", "library/a", "t" * 128, None),
    (HEX + "/x", "docker.io", HEX + "/x", "latest", None),
    (HEX + ":latest", "docker.io", "library/" + HEX, "latest", None),
    (HEX[1:], "docker.io", "library/" + HEX[1:], "latest", None),
    ("example.com/" + "a" * 255, "example.com", "a" * 255, "latest", None),
    ("a/" * 127 + "a", "docker.io", "a/" * 127 + "a", "latest", None),
    ("oci", "docker.io", "library/oci", "latest", None),
]  # fmt: skip

# text, the words the message must hold
BAD = [
    ("", "is empty"),
    (" nginx", "white space"),
    ("nginx\n", "white space"),
    ("ng\u0131nx", "character '\u0131'"),
    ("nginx\x07", "character '\\x07'"),
    ("docker://nginx", "start with docker://"),
    ("https://github.com/docker/docker", "start with https://"),
    (HEX, "image identifier"),
    ("NGINX", "must be lowercase"),
    ("docker.io/library/Nginx:1", "must be lowercase"),
    ("docker/Docker", "must be lowercase"),
    ("a" * 1025, "1025 characters"),
    ("a/" * 128 + "a", "more than 255"),
    ("a" * 256, "264 characters, more than 255"),
    (":tag", "repository name has an empty component"),
    ("@" + DIGEST, "repository name is missing"),
    ("/nginx", "empty component"),
    ("a//b", "empty component"),
    ("a/", "empty component"),
    ("nginx:", "tag after the colon is empty"),
    ("nginx:@" + DIGEST, "tag after the colon is empty"),
    ("nginx:a:b", "tag can't hold the character ':'"),
    ("nginx:.a", "tag must start"),
    ("nginx:-a", "tag must start"),
    ("nginx:a/b", "not a registry host name"),
    ("nginx:" + "t" * 129, "tag has 129 characters"),
    ("nginx@", "does not start with sha256"),
    ("nginx@sha256:", "needs 64"),
    ("nginx@sha256:" + HEX[:-1], "needs 64"),
    ("nginx@sha256:" + HEX.upper(), "needs 64"),
    ("nginx@md5:" + HEX, "does not start with sha256"),
    ("nginx@" + DIGEST + "@" + DIGEST, "more than one @"),
    ("nginx@" + DIGEST + ":tag", "needs 64"),
    ("-foo", "must start and end"),
    ("foo-", "must start and end"),
    ("foo/_bar", "must start and end"),
    ("foo..bar", "may separate words only by"),
    ("foo___bar", "may separate words only by"),
    ("foo.-bar", "may separate words only by"),
    ("foo$bar", "can't hold the character '$'"),
    ("-test.com/foo", "not a registry host name"),
    ("test-.com/foo", "not a registry host name"),
    ("a..b/foo", "not a registry host name"),
    ("reg:port/foo", "not a registry host name"),
    ("[fe80::1%eth0]:5000/foo", "not a registry host name"),
    ("[::1/foo", "not a registry host name"),
    ("[::1]5000/foo", "not a registry host name"),
]


@pytest.mark.parametrize(("text", "registry", "repository", "tag", "digest"), GOOD)
def test_good_names(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    reference = Reference.parse(text)
    assert reference == Reference(
        registry=registry,
        repository=repository,
        tag=tag,
        digest=Digest.parse(digest) if digest else None,
    )
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_names_say_which_rule_they_break(text: str, words: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)
    assert words in caught.value.message
    assert caught.value.hint


def test_upper_case_hint_is_the_name_to_write() -> None:
    """The hint once proposed the very same text for official images."""
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse("NGINX:Stable")
    assert caught.value.hint == "try nginx:Stable"


def test_upper_case_first_component_is_a_host_and_the_error_says_so() -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse("Foo_Bar/baz")
    assert "repository names must be lowercase" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/nginx", "nginx:latest"),
        ("docker.io/grafana/grafana:10.4", "grafana/grafana:10.4"),
        ("docker.io/library/a/b:1", "library/a/b:1"),
        ("ghcr.io/a/b:1@" + DIGEST, "ghcr.io/a/b:1@" + DIGEST),
        ("localhost/nginx", "localhost/nginx:latest"),
        ("docker.io/my.team/app", "docker.io/my.team/app:latest"),
        ("docker.io/localhost/app:1", "docker.io/localhost/app:1"),
    ],
)
def test_familiar_form(text: str, familiar: str) -> None:
    assert Reference.parse(text).familiar == familiar


def test_with_tag_and_digest_the_digest_selects() -> None:
    assert Reference.parse("nginx:1@" + DIGEST).selector == DIGEST
    assert Reference.parse("nginx:1").selector == "1"


SOURCES = [
    ("oci:/srv/image", LayoutSource(directory="/srv/image", tag=None)),
    ("oci:image:1.2", LayoutSource(directory="image", tag="1.2")),
    ("oci:/a:docker.io/b:1", LayoutSource(directory="/a", tag="docker.io/b:1")),
    ("oci-archive:/a.tar", ArchiveSource(file="/a.tar", kind="oci-archive", tag=None)),
    ("docker-archive:a.tar:b:1", ArchiveSource(file="a.tar", kind="docker-archive", tag="b:1")),
    ("nginx", Reference.parse("nginx")),
    ("docker.io/library/oci:1", Reference.parse("docker.io/library/oci:1")),
]


@pytest.mark.parametrize(("text", "source"), SOURCES)
def test_sources(text: str, source: object) -> None:
    assert parse_source(text) == source
    assert parse_source(str(parse_source(text))) == source


@pytest.mark.parametrize(
    "text", ["oci:", "oci-archive:", "docker-archive::tag", "oci:a:", "oci:a\0"]
)
def test_bad_sources(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text)


REFERENCE_TEXTS = st.builds(
    lambda host, path, tag, digest: host + path + tag + digest,
    st.from_regex(r"([a-z0-9]{1,5}(\.[A-Za-z0-9]{1,4}){0,2}(:[0-9]{1,5})?/)?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,4}(-{1,2}[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,2}", fullmatch=True),
    st.from_regex(r"(:[\w][\w.-]{0,8})?", fullmatch=True).filter(str.isascii),
    st.sampled_from(["", "@" + DIGEST]),
)


@given(REFERENCE_TEXTS)
@example("[::1]:5/a")
def test_parsing_the_canonical_form_changes_nothing(text: str) -> None:
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert str(Reference.parse(str(reference))) == str(reference)
    assert Reference.parse(reference.familiar) == reference


@given(st.one_of(st.text(max_size=80), st.text("aA0.:/@-_[]\n ", max_size=20)))
def test_any_other_text_is_one_clear_error(text: str) -> None:
    try:
        source = parse_source(text)
    except UsageError as error:
        seen = error
    else:
        assert parse_source(str(source)) == source
        return
    assert seen.message
    assert seen.hint or "NUL" in seen.message
