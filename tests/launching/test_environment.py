"""Variables as docker run takes them, and values that no message repeats."""

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.launching.environment import as_config, trimmed, variables

CALLER = {"HOME": "/root", "EMPTY": "", "LINES": "a\nb"}


def test_files_come_before_what_is_given() -> None:
    text = "# a comment\n\n  A=file\nB=with = and 'quotes'\r\n#C=no\nHOME\nNONE\nEMPTY\n"
    found = variables([("env", text)], ["A=given", "D="], CALLER)
    assert found == {
        "A": "given",
        "B": "with = and 'quotes'",
        "HOME": "/root",
        "EMPTY": "",
        "D": "",
    }
    # LXD would forget an empty one, and the image's value would stay.
    assert as_config({"A": ""}) == {"environment.A": " "}
    assert as_config({"A": "b"}) == {"environment.A": "b"}


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ([("env", "A=1\nB C=secret\n")], []),
        ([("env", "A=1\n=secret\n")], []),
        ([], ["=secret"]),
        ([], ["A B=secret"]),
        ([], ["A=secret\nmore"]),
        ([], ["LINES"]),
    ],
)
def test_what_cannot_be_set_is_told_without_its_value(
    files: list[tuple[str, str]], given: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        variables(files, given, CALLER)
    assert "secret" not in caught.value.message + caught.value.hint
    if files:
        assert "env:2" in caught.value.message


def test_only_newlines_end_lines() -> None:
    """What str.splitlines splits at ended the value, and named the caller's variables."""
    text = "\ufeffA=a\vb\fc\x85HOME\u2028HOME\r\nB=b\r\n"
    assert variables([("env", text)], [], CALLER) == {"A": "a\vb\fc\x85HOME\u2028HOME", "B": "b"}


def test_bytes_that_are_no_text() -> None:
    """They became U+FFFD on their way to LXD."""
    with pytest.raises(UsageError, match="A' is not UTF-8"):
        variables([], ["A=\udcff"], CALLER)


def test_blanks_at_the_end_are_told() -> None:
    config = {"environment.A": "a ", "environment.B": " ", "environment.C": " c", "user.d": "d "}
    assert trimmed(config) == ("A",)
