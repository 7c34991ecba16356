"""Variables as docker run takes them, and values that no message repeats."""

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.launching.environment import as_config, variables

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
