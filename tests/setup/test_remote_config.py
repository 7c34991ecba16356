"""Editing lxc's config.yml: our entry comes and goes, and nothing else moves."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.setup import remote_config
from lxdocker_lxd.setup.remote_config import (
    FRESH,
    RemoteConfigError,
    remote,
    with_remote,
    without_remote,
)

ENTRY = {"addr": "https://10.0.0.1:8443", "protocol": "simplestreams", "public": "true"}
ADDED = """\
  lxdocker:
    addr: https://10.0.0.1:8443
    protocol: simplestreams
    public: true
"""
ODD = """\
# my remotes
default-remote: prod
future-key: {a: [1, 2]}
remotes:
    # the big one
    prod:
        addr: https://prod:8443   # not the old one
        auth_type: tls
        project: web
        public: false

    images:
        addr: https://images.linuxcontainers.org
        protocol: simplestreams
        public: true

# aliases of mine
aliases:
    sh: exec @ARGS@ -- sh
"""


def test_an_entry_is_added_in_front_and_the_rest_keeps_its_bytes() -> None:
    added = with_remote(FRESH, "lxdocker", ENTRY, file="f")
    assert added == FRESH.replace("remotes:\n", "remotes:\n" + ADDED)
    assert remote(added, "lxdocker", file="f") == ENTRY


@pytest.mark.parametrize("text", [FRESH, ODD, "remotes:\n  a:\n    addr: x\n"])
def test_adding_and_removing_leaves_the_same_bytes(text: str) -> None:
    added = with_remote(text, "lxdocker", ENTRY, file="f")
    assert with_remote(added, "lxdocker", ENTRY, file="f") == added
    assert without_remote(added, "lxdocker", file="f") == text


def test_comments_order_and_unknown_keys_of_others_stay() -> None:
    added = with_remote(ODD, "lxdocker", ENTRY, file="f")
    assert [line for line in added.splitlines() if "lxdocker" in line] == ["    lxdocker:"]
    for line in ODD.splitlines():
        assert line in added.splitlines()


def test_an_entry_is_changed_where_it_stands() -> None:
    added = with_remote(ODD, "lxdocker", ENTRY, file="f")
    moved = with_remote(added, "lxdocker", {**ENTRY, "addr": "https://b"}, file="f")
    assert moved == added.replace("https://10.0.0.1:8443", "https://b")
    changed = with_remote(ODD, "prod", {"addr": "https://new", "public": "false"}, file="f")
    assert "# the big one" in changed
    assert remote(changed, "prod", file="f") == {"addr": "https://new", "public": "false"}
    assert remote(changed, "images", file="f") == remote(ODD, "images", file="f")


@pytest.mark.parametrize(
    "text",
    [
        *("", "# nothing\n", "remotes:\n", "remotes: {}\n", "remotes: ~\naliases: {}\n"),
        *("default-remote: local", "remotes: {a: {addr: x}}\n", "{remotes: {a: {addr: x}}}"),
        *("remotes:\n  a: &x\n    addr: x\n  b: *x\n", "remotes:\r\n  a:\r\n    addr: x\r\n"),
    ],
)
def test_other_forms_are_edited_too(text: str) -> None:
    before = yaml.safe_load(text) or {}
    added = yaml.safe_load(with_remote(text, "lxdocker", ENTRY, file="f"))
    assert added["remotes"].pop("lxdocker") == {**ENTRY, "public": True}
    assert {**added, "remotes": added["remotes"] or None} == {
        **before,
        "remotes": before.get("remotes") or None,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("remotes: [\n", "file is broken"),
        ("- a\n", "expected a mapping"),
        ("remotes: [a]\n", "remotes is no mapping"),
        ("remotes:\n  lxdocker: text\n", "lxdocker is no mapping"),
        ("a: !!python/object:os.system x\n", "file is broken"),
        ("a: \x00\n", "file is broken"),
    ],
)
def test_a_broken_file_is_told_with_the_next_step(text: str, problem: str) -> None:
    with pytest.raises(RemoteConfigError, match=problem) as caught:
        remote(text, "lxdocker", file="/home/u/.config/lxc/config.yml")
    assert "/home/u/.config/lxc/config.yml" in caught.value.message
    assert "lxc remote list" in caught.value.hint


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8)
SCALARS = WORDS | st.booleans() | st.integers(-9, 9) | st.none()
REMOTES = st.dictionaries(WORDS, st.dictionaries(WORDS, SCALARS, max_size=4), max_size=4)


@given(
    remotes=REMOTES,
    others=st.dictionaries(WORDS, SCALARS, max_size=3),
    indent=st.sampled_from([2, 4, 8]),
    flow=st.sampled_from([None, False, True]),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True),
)
def test_whatever_the_file_holds_only_our_entry_changes(
    remotes: dict[str, dict[str, object]],
    others: dict[str, object],
    indent: int,
    flow: bool | None,
    name: str,
) -> None:
    foreign = {key: value for key, value in remotes.items() if key != name}
    content = {**others, "remotes": foreign}
    text = yaml.safe_dump(content, indent=indent, default_flow_style=flow, allow_unicode=True)
    added = with_remote(text, name, ENTRY, file="f")
    meant = {**content, "remotes": {**foreign, name: {**ENTRY, "public": True}}}
    assert yaml.safe_load(added) == meant
    assert yaml.safe_load(without_remote(added, name, file="f")) == content
    assert remote_config.same(without_remote(added, name, file="f"), text)


def bomb(levels: int, shape: str = "[{}]") -> str:
    """A text of a few bytes a level, each level nine times the one before when it is written out."""
    lines = ["a0: &a0 x\n"]
    lines += [
        f"a{level}: &a{level} " + shape.format(", ".join([f"*a{level - 1}"] * 9)) + "\n"
        for level in range(1, levels)
    ]
    return "".join(lines)


MERGED = "b0: &b0 {k: v}\n" + "".join(
    f"b{level}: &b{level} {{<<: [{', '.join([f'*b{level - 1}'] * 9)}]}}\n" for level in range(1, 30)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        bomb(30),
        bomb(30) + "remotes:\n  lxdocker:\n    addr: *a29\n",
        MERGED,
        "a: &a [*a]\n",
        "a: " + "[" * 20_000 + "\n",
        "a: " + "[" * 20_000 + "]" * 20_000 + "\n",
        "".join(" " * level + "a:\n" for level in range(2_000)),
        "a: " + "9" * 500_000 + "\n",
        "a: 1" + ":1" * 200_000 + "\n",
        "a: 2001-99-99\n",
        "a: 0x" + "f" * 500_000 + "\n",
        "a: !!binary 'é'\n",
        "a: !!bool x\n",
        "? [a]\n: b\n",
        "a: =\n",
    ],
)
def test_a_text_that_grows_when_it_is_read_is_refused_at_once(text: str) -> None:
    for read in (
        lambda: remote(text, "lxdocker", file="f"),
        lambda: with_remote(text, "lxdocker", ENTRY, file="f"),
        lambda: without_remote(text, "lxdocker", file="f"),
    ):
        with pytest.raises(RemoteConfigError):
            read()
    assert remote_config.same(text, FRESH) is False


def test_anchors_that_a_person_writes_are_read() -> None:
    text = bomb(4) + "remotes:\n  lxdocker: &r {addr: x}\n  other: *r\n"
    assert remote(text, "other", file="f") == {"addr": "x"}
