"""Rules for every script of this repository: no command line is ever built from data."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LEFT_OUT = {".git", ".venv", "node_modules"}
# A shell that is given its program as an argument; what follows must be a constant text.
_PROGRAM = re.compile(r"\b(?:ba|da|a|k|z)?sh\s+(?:-\w+\s+)*-\w*c\s+(?P<text>\S+)")
_QUOTED = re.compile(r"'[^']*'?|\"[^$`\"]*\"")
# Their programs are written in the tests that call them.
_ALLOWED = {"tests/harness/programs/install.sh": ['"$script"']}


def scripts() -> Iterator[Path]:
    for folder in ("examples", "tests", "packaging", "lxdocker_lxd", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and not _LEFT_OUT & set(path.parts):
                with path.open("rb") as file:
                    first = file.readline(200)
                if path.suffix in {".sh", ".bash"} or re.match(rb"#!.*\b(ba|da)?sh\b", first):
                    yield path


SCRIPTS = {str(path.relative_to(ROOT)): path for path in scripts()}


def code(path: Path) -> Iterator[str]:
    """The lines that aren't comments."""
    for line in path.read_text().splitlines():
        if not line.lstrip().startswith("#"):
            yield line


def test_there_are_scripts() -> None:
    assert {"examples/quickstart.sh", "tests/run.sh"} < set(SCRIPTS)
    assert len([name for name in SCRIPTS if "/guest/" in name]) > 5


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_text_becomes_a_command_line(name: str) -> None:
    for line in code(SCRIPTS[name]):
        assert not re.search(r"(^|[;&|(\s])eval\s", line), line
        for found in _PROGRAM.finditer(line):
            text = found["text"]
            assert _QUOTED.match(text) or text in _ALLOWED.get(name, []), line
