"""Platforms: names, substitutes, choice among candidates, LXD's words."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.platform import Platform, choose, host_platform


@pytest.mark.parametrize(
    ("text", "canonical", "lxd"),
    [
        ("amd64", "linux/amd64", "amd64"),
        ("x86_64", "linux/amd64", "amd64"),
        ("LINUX/AMD64", "linux/amd64", "amd64"),
        ("linux/amd64/v1", "linux/amd64", "amd64"),
        ("linux/amd64/v3", "linux/amd64/v3", "amd64"),
        ("aarch64", "linux/arm64", "arm64"),
        ("linux/arm64/v8", "linux/arm64", "arm64"),
        ("linux/arm64/8", "linux/arm64", "arm64"),
        ("arm64/v9", "linux/arm64/v9", "arm64"),
        ("armhf", "linux/arm/v7", "armhf"),
        ("arm", "linux/arm/v7", "armhf"),
        ("linux/arm/7", "linux/arm/v7", "armhf"),
        ("arm/v8", "linux/arm/v8", "armhf"),
        ("armv7l", "linux/arm/v7", "armhf"),
        ("armel", "linux/arm/v6", "armel"),
        ("arm/v5", "linux/arm/v5", "armel"),
        ("i386", "linux/386", "i386"),
        ("i686", "linux/386", "i386"),
        ("386", "linux/386", "i386"),
        ("ppc64el", "linux/ppc64le", "ppc64el"),
        ("s390x", "linux/s390x", "s390x"),
        ("riscv64", "linux/riscv64", "riscv64"),
    ],
)
def test_names(text: str, canonical: str, lxd: str) -> None:
    platform = Platform.parse(text)
    assert str(platform) == canonical
    assert Platform.parse(canonical) == platform
    assert platform.lxd_architecture == lxd


@pytest.mark.parametrize("text", ["", "linux", "vax", "a/b/c/d", "linux//v7", "linux/arm v7", "é"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(UsageError):
        Platform.parse(text)


@pytest.mark.parametrize("text", ["windows/amd64", "linux/mips64le", "linux/loong64"])
def test_platforms_lxd_has_no_name_for(text: str) -> None:
    with pytest.raises(UsageError, match="LXD has no name"):
        _ = Platform.parse(text).lxd_architecture


def test_host_platform_is_read_from_the_machine_name() -> None:
    assert host_platform("x86_64") == Platform(os="linux", architecture="amd64")
    assert host_platform("armv7l") == Platform(os="linux", architecture="arm", variant="v7")
    with pytest.raises(UsageError):
        host_platform("vax")


ARM = "arm/v8 arm/v7 arm/v6 arm/v5"


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("amd64", "amd64 386"),
        ("amd64/v3", "amd64/v3 amd64/v2 amd64 386"),
        ("arm64", "arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
        ("arm64/v8.2", "arm64/v8.2 arm64/v8.1 arm64 " + ARM),
        (
            "arm64/v9.0",
            "arm64/v9 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 " + ARM,
        ),
        ("arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
        ("arm/v7", "arm/v7 arm/v6 arm/v5"),
        ("arm/v5", "arm/v5"),
        ("386", "386"),
        ("s390x", "s390x"),
    ],
)
def test_substitutes_from_the_best_down(wanted: str, order: str) -> None:
    assert list(Platform.parse(wanted).substitutes()) == [Platform.parse(p) for p in order.split()]


@dataclass(frozen=True)
class Entry:
    name: str
    platform: Platform | None


def entries(text: str) -> list[Entry]:
    return [
        Entry(f"{n}:{word}", None if word == "?" else Platform.parse(word))
        for n, word in enumerate(text.split())
    ]


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        ("arm64 amd64", "amd64", "1:amd64"),
        ("amd64 amd64/v2 amd64/v3 amd64/v4", "amd64/v3", "2:amd64/v3"),
        ("amd64 amd64/v4", "amd64/v3", "0:amd64"),
        ("amd64/v2 amd64", "amd64", "1:amd64"),
        ("arm/v5 arm/v6 arm/v7", "arm/v7", "2:arm/v7"),
        ("arm/v5 arm/v6", "arm/v7", "1:arm/v6"),
        ("arm/v7", "arm/v6", None),
        ("arm/v7 arm64", "arm64", "1:arm64"),
        ("arm/v6 arm/v7", "arm64", "1:arm/v7"),
        ("amd64 amd64", "amd64", "0:amd64"),
        ("? amd64", "amd64", "1:amd64"),
        ("? arm64", "amd64", "0:?"),
        ("windows/amd64 linux/amd64", "amd64", "1:linux/amd64"),
        ("windows/amd64", "amd64", None),
        ("amd64/v2", "amd64", None),
        ("", "amd64", None),
    ],
)
def test_choice(offered: str, wanted: str, chosen: str | None) -> None:
    entry = choose(entries(offered), Platform.parse(wanted))
    assert (entry and entry.name) == chosen


WORDS = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)


@given(WORDS, WORDS, st.one_of(st.just(""), WORDS))
def test_normalising_twice_changes_nothing(os: str, architecture: str, variant: str) -> None:
    once = Platform.normalised(os, architecture, variant)
    assert Platform.normalised(once.os, once.architecture, once.variant) == once


@given(st.text(max_size=30))
def test_any_text_is_a_platform_or_a_usage_error(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except UsageError:
        return
    assert Platform.parse(str(platform)) == platform
