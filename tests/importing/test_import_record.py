"""Records of imports: the text they live in, and what becomes of a repeated one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.importing.import_record import (
    ImportRecord,
    ImportsError,
    parse,
    render,
    with_record,
)

texts = st.text(max_size=20)
records = st.builds(
    ImportRecord,
    kind=st.sampled_from(["source", "spec", "catalogue"]),
    name=st.from_regex(r"\A[^./\x00][^/\x00]{0,19}\Z"),
    source=texts,
    aliases=st.lists(texts, max_size=3).map(tuple),
    architecture=texts,
    fingerprint=texts,
    remote=texts,
    project=texts,
    public=st.booleans(),
    lxe=st.booleans(),
    keep_old=st.booleans(),
)
ONE = ImportRecord(
    kind="source",
    name="nginx",
    source="nginx",
    aliases=("nginx",),
    architecture="amd64",
    fingerprint="a" * 64,
)


@given(st.lists(records, max_size=5).map(tuple))
def test_the_text_gives_back_the_records(given_records: tuple[ImportRecord, ...]) -> None:
    assert parse(render(given_records), file="imports.json") == given_records


def test_a_repeated_import_keeps_its_place_and_all_its_aliases() -> None:
    other = replace(ONE, project="shop")
    again = replace(ONE, aliases=("web",), fingerprint="b" * 64, lxe=True)
    first, second = with_record((ONE, other), again)
    assert first == replace(ONE, aliases=("nginx", "web"), fingerprint="b" * 64, lxe=True)
    assert second == other
    assert with_record((), ONE) == (ONE,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'{"format": 2, "imports": []}',
        b'{"format": 1}',
        b'{"format": 1, "imports": [1]}',
        b"\xff",
        b"[" * 100_000,
        render((ONE,)).replace(b'"source"', b'"else"'),
        render((ONE,)).replace(b"false", b"0"),
        render((ONE,)).replace(b'"aliases": [\n', b'"aliases": [1,'),
    ],
)
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(ImportsError):
        parse(content, file="imports.json")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../specs", "a/b", "/etc/shadow", ".hidden", "a\0b"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ImportsError, match="is not a list of imports"):
        parse(render([replace(ONE, name=name)]), file="imports.json")
