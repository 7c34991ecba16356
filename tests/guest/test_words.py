"""Texts from instance configuration and environment files, taken apart by the guest's shell."""

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.guest.guest_shell import GuestShell, items

pytestmark = pytest.mark.tools

WORD = st.text(
    st.characters(codec="utf-8", exclude_characters="\0")
    | st.sampled_from(list("\"'\\ \t\n$`;|&<>(){}[]*?~#=!%")),
    max_size=12,
)


def words(guest: GuestShell, text: str) -> list[str] | None:
    done = guest.run('words "$1"', text.encode())
    assert not done.stderr, done.stderr
    return [item.decode() for item in items(done.stdout)] if done.returncode == 0 else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n ", []),
        ("nginx -g 'daemon off;'", ["nginx", "-g", "daemon off;"]),
        ("a\tb\nc\r\nd", ["a", "b", "c", "d"]),
        (r"a\ b 'it'\''s' " + '"say \\"x\\" \\$y \\z"', ["a b", "it's", 'say "x" $y \\z']),
        ("'' \"\"", ["", ""]),
        ("$HOME `id` $(id) *", ["$HOME", "`id`", "$(id)", "*"]),
        ("x'y'\"z\"", ["xyz"]),
        ('["a", "b c",\n"$x"]', ["a", "b c", "$x"]),
        ("[]", []),
        (' [ "" ] ', [""]),
        (r'["\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00"]', ['"\\/\b\f\n\r\tAé€😀']),
        (r'["\u000a\n"]', ["\n\n"]),
    ],
)
def test_words(guest: GuestShell, text: str, expected: list[str]) -> None:
    assert words(guest, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("'", '"', "a 'b", 'a "b', "a\\", "[", "[1]", '["a"', '["a",]', '["a"]x', '["a" "b"]'),
        *('["\\x"]', '["\\u00"]', '["\\u0000"]', '["\\ud800"]', '["\\udc00"]', '["a', "[null]"),
    ],
)
def test_what_is_no_list_of_words_is_refused(guest: GuestShell, text: str) -> None:
    assert words(guest, text) is None


@given(st.lists(WORD, max_size=6))
def test_words_quoted_for_a_shell_come_back(shared_guest: GuestShell, texts: list[str]) -> None:
    # A word that starts with "[" would be JSON; quoted, it isn't.
    assert words(shared_guest, shlex.join(texts)) == texts


@given(st.lists(WORD, max_size=6), st.booleans())
def test_json_lists_come_back(shared_guest: GuestShell, texts: list[str], ascii_only: bool) -> None:
    assert words(shared_guest, json.dumps(texts, ensure_ascii=ascii_only)) == texts


def variables(guest: GuestShell, text: bytes) -> tuple[list[bytes], bool]:
    done = guest.run("env_file", given=text)
    return items(done.stdout), done.returncode == 0


def test_an_environment_file(guest: GuestShell) -> None:
    text = b"""
# a comment
PLAIN=a b  $HOME `id`
  export EXPORTED=1
EMPTY=
SINGLE='a "b" \\n $x # y'
DOUBLE="a \\"b\\" \\$x \\n"  # told
LINES="first
second"
WINDOWS=dos\r
odd.name-1=x=y=z
LAST=no newline"""
    assert variables(guest, text) == (
        [
            b"PLAIN=a b  $HOME `id`",
            b"EXPORTED=1",
            b"EMPTY=",
            b'SINGLE=a "b" \\n $x # y',
            b'DOUBLE=a "b" $x \\n',
            b"LINES=first\nsecond",
            b"WINDOWS=dos",
            b"odd.name-1=x=y=z",
            b"LAST=no newline",
        ],
        True,
    )


@pytest.mark.parametrize("line", [b"no equals", b"=x", b"A='x' y", b'A="x', b"two words=x"])
def test_a_useless_line_is_left_out_and_told(guest: GuestShell, line: bytes) -> None:
    assert variables(guest, b"GOOD=1\n" + line + b"\n") == ([b"GOOD=1"], False)


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True), WORD)))
def test_quoted_values_come_back_and_nothing_runs(
    shared_guest: GuestShell, pairs: list[tuple[str, str]]
) -> None:
    canary = shared_guest.directory / "canary"
    pairs = [*pairs, ("C", f"$(touch {canary})`touch {canary}`;touch {canary}")]
    # In single quotes a quote itself can't stand; double quotes take the rest.
    lines = []
    for name, value in pairs:
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        quoted = quoted.replace("`", "\\`")
        lines.append(f'{name}="{quoted}"' if "'" in value else f"{name}='{value}'")
    text = "".join(f"{line}\n" for line in lines).encode()
    expected = [f"{name}={value}".encode() for name, value in pairs]
    assert variables(shared_guest, text) == (expected, True)
    assert not canary.exists()
