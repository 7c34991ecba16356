"""The words of ``launch``: the instance's command stands behind ``--``, whatever comes before."""

from collections.abc import Sequence

import pytest

from lxdocker_lxd.cli import _split, parser


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("launch", "nginx", "web"), ()),
        (("launch", "nginx", "web", "--", "a", "-b"), ("a", "-b")),
        # argparse alone loses what follows options that stand behind the names.
        (("launch", "nginx", "web", "--publish", "80:80", "--", "a"), ("a",)),
        (("launch", "--wait", "nginx", "--user", "x", "web", "--", "sh", "--", "-c"),
         ("sh", "--", "-c")),
        (("launch", "nginx", "web", "--"), ()),
    ],
)  # fmt: skip
def test_the_command_of_a_launch(words: Sequence[str], command: Sequence[str]) -> None:
    ours, theirs = _split(words)
    options = parser().parse_args(ours)
    assert (options.source, options.name, tuple(theirs)) == ("nginx", "web", tuple(command))


def test_other_commands_keep_their_dashes() -> None:
    words = ("inspect", "--", "nginx")
    assert _split(words) == (words, ())
    assert parser().parse_args(words).reference == "nginx"


def test_import_is_a_word_that_python_keeps_for_itself() -> None:
    options = parser().parse_args(["import", "nginx", "--replace", "--alias", "a", "--alias", "b"])
    assert (options.verb, options.aliases, options.replace) == ("import_image", ["a", "b"], True)
