"""Inputs that a fuzzer found interesting, and those that each target begins with, replayed.

``python -m tests.fuzz.run`` looks for more.
"""

import random

import pytest

from tests.fuzz.corpus import CORPUS, MOST_BYTES, read_corpus
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

_MUTATIONS = 60
_FIRST_MOMENT = b"0001-01-01T00:00:00+23:59"
_FOR_ALL = (
    # Found by fuzzing: a moment that UTC has no room for, a header that commands a terminal.
    b'{"format":1,"files":{"a":{"sha256":"a","size_bytes":1,"mtime_ns":1,"unlisted_at":"'
    + _FIRST_MOMENT
    + b'"}}}',
    b'{"type":"lifecycle","timestamp":"9999-12-31T23:59:59-23:59"}',
    b'{"type":"lifecycle","metadata":{"source":"http://["}}',
    b"abcd\n0;w=20\xb800\n60\x08\n",
    b"",
    b"\0",
    b"\xff\xfe",
    b"\n" * 5000,
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"[]",
    b"{}",
    b"null",
    b'"a"',
    b"1e999",
    b'"\\ud800"',
    "\u0663\u00b2".encode(),
    b"%" * 3000,
    b"a" * 70_000,
)
"""What no parser may stumble over, whatever it reads."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_only_foreseen_errors(target: Target) -> None:
    for data in (*target.seeds, *read_corpus(target.name), *_FOR_ALL):
        target.check(data)


@pytest.mark.parametrize(
    "target", [one for one in TARGETS.values() if one.mutation], ids=lambda target: target.name
)
def test_documents_with_one_odd_value(target: Target) -> None:
    assert target.mutation is not None
    for number in range(_MUTATIONS):
        dice = random.Random(number)
        target.check(target.mutation(target.seeds[number % len(target.seeds)], dice))


def test_the_corpus_is_small_and_all_of_it_has_a_target() -> None:
    assert {path.stem for path in CORPUS.iterdir()} <= set(TARGETS)
    for name in TARGETS:
        assert sum(map(len, read_corpus(name))) <= MOST_BYTES
