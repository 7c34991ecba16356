"""Results are for programs and people; names from images must not drive a terminal."""

import io
import json

import pytest

from lxdocker_lxd.console import Console, document, human_size, printable, table
from lxdocker_lxd.errors import NotFoundError


def test_an_error_says_what_failed_and_what_to_do_next() -> None:
    out, err = io.StringIO(), io.StringIO()
    Console(out, err).error(NotFoundError("pull nginx:nope: no such tag", hint="look at the tags"))
    assert err.getvalue() == "error: pull nginx:nope: no such tag\nhint: look at the tags\n"
    assert out.getvalue() == ""


def test_an_error_without_a_next_step_is_one_line() -> None:
    err = io.StringIO()
    Console(io.StringIO(), err).error(NotFoundError("nothing there"))
    assert err.getvalue() == "error: nothing there\n"


def test_a_table_aligns_its_columns_and_marks_empty_cells() -> None:
    assert table(("name", "size"), [("nginx", "1 B"), ("a", "")]) == (
        "NAME   SIZE\nnginx  1 B\na      -\n"
    )


def test_a_table_cell_cannot_break_its_line_or_move_the_cursor() -> None:
    text = table(("name",), [("evil\x1b[2J\nnext",)])
    assert text == "NAME\nevil\\x1b[2J next\n"


def test_printable_keeps_letters_of_any_language() -> None:
    assert printable("größe 名前") == "größe 名前"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (2 * 10**15, "2000.0 TB"),
    ],
)
def test_sizes_have_decimal_units(size_bytes: int, text: str) -> None:
    assert human_size(size_bytes) == text


def test_a_document_is_json_with_a_final_newline() -> None:
    assert document({"a": ["b"]}) == '{\n  "a": [\n    "b"\n  ]\n}\n'


def test_a_name_that_is_no_utf_8_is_still_valid_json_and_a_table_cell() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert json.loads(document({"a": name}).encode("ascii")) == {"a": name}
    assert table(("name",), [(name,)]).encode() == b"NAME\ncaf\\udce9\n"
