"""Text of strangers: what would deceive the eye is spelled out, and links lead where they say."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.annotations import web_address
from lxdocker_lxd.serve.pages.legible import MOST_CHARACTERS, legible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Web server", "Web server"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        (
            "Größe: 5\N{NO-BREAK SPACE}MB, 日本語\N{IDEOGRAPHIC SPACE}版",
            "Größe: 5\N{NO-BREAK SPACE}MB, 日本語\N{IDEOGRAPHIC SPACE}版",
        ),
        ("\x00\x1b[31m\x9b", r"\x00\x1b[31m\x9b"),
        ("exe.\u202egpj", r"exe.\u202egpj"),
        ("a\u2066b\u2069\u200b\ufeff", r"a\u2066b\u2069\u200b\ufeff"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_people_see(text: str, seen: str) -> None:
    assert legible(text) == seen


def test_an_endless_text_ends() -> None:
    shown = legible("x" * 10_000_000)
    assert len(shown) < MOST_CHARACTERS + 50
    assert shown.endswith("… (10000000 characters)")


@given(st.text(alphabet=st.characters()))
def test_nothing_invisible_is_left_and_all_can_be_encoded(text: str) -> None:
    shown = legible(text)
    shown.encode()
    for character in shown:
        category = unicodedata.category(character)
        assert character in "\n\t" or category not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    "address",
    ["https://nginx.org/", "http://a.example:8080/x?y=1&z#f", "HTTPS://A.EXAMPLE", "http://[::1]/"],
)
def test_addresses_that_become_links(address: str) -> None:
    assert web_address(address) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nginx.org",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " https://a.example/",
        "java\nscript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//evil.example/",
        "https://",
        "https:///path",
        "https://bank.example@evil.example/",
        "https://a.example/\u202e",
        "https://аpple.example/",  # noqa: RUF001 - a Cyrillic letter is the point
        "https://a.example/\x00",
        "https://a.example/ x",
        'https://a.example/"onmouseover="x',
        "https://a.example/<b>",
        "http://[::1",
        "https://a.example/" + "x" * 3000,
    ],
)
def test_what_becomes_no_link(text: str) -> None:
    assert web_address(text) is None


@given(st.text())
def test_a_link_is_always_http(text: str) -> None:
    found = web_address(text)
    assert found is None or found.lower().startswith(("http://", "https://"))
