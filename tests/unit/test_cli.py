"""The commands as a user types them, in a process of their own where start-up matters."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lxdocker_lxd import cli

ROOT = Path(__file__).parents[2]
HEAVY = ("quart", "pylxd", "requests", "rich", "yaml", "cryptography", "hypercorn")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lxdocker_lxd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(flag: str) -> None:
    script = (
        "import sys\nfrom lxdocker_lxd import cli\n"
        f"code = cli.main(cli.parser(), [{flag!r}])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr == "[] 0\n"


def test_a_wrong_flag_is_wrong_usage() -> None:
    done = run("convert", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr
    assert done.stdout == ""


def test_lxdocker_takes_exactly_the_flags_of_the_ancestor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(cli.lxdocker_parser(), ["--help"]) == 0
    flags = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    assert flags == {"--help", "--cache", "--lxdimages", "--specs", "--imageformat"}
    assert cli.main(cli.lxdocker_parser(), ["--cache", "a", "--specs", "b"]) == 2


def test_imgserver_takes_exactly_the_flags_of_the_ancestor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(cli.imgserver_parser(), ["--help"]) == 0
    flags = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    assert flags == {"--help", "--address", "--lxdimages", "--key", "--cert"}
    for missing in ("--lxdimages", "--key", "--cert"):
        given = [f"{flag}=x" for flag in ("--lxdimages", "--key", "--cert") if flag != missing]
        assert cli.main(cli.imgserver_parser(), given) == 2
        assert missing in capsys.readouterr().err
    options = cli.imgserver_parser().parse_args(["--lxdimages=a", "--key=b", "--cert=c"])
    assert options.address == ":443"


def test_the_readme_shows_the_commands() -> None:
    text = run("--help").stdout
    block = f"```text\n$ lxdocker-lxd --help\n{text}```"
    # Python 3.13 lays usage lines out differently: compare words, not line breaks.
    assert " ".join(block.split()) in " ".join((ROOT / "README.md").read_text().split())


def test_documents_of_the_commands_are_those_in_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference, the man pages and the completions; else run packaging/command_documents.py."""
    # They are put back afterwards.
    for name in ("COLUMNS", "SOURCE_DATE_EPOCH"):
        monkeypatch.setenv(name, "80")
    given = ROOT / "packaging" / "command_documents.py"
    spec = importlib.util.spec_from_file_location("command_documents", given)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.documents().items():
        in_tree = (ROOT / name).read_text()
        assert in_tree.split() == text.split(), f"{name}: run packaging/command_documents.py"
    pages = {f"packaging/man/{path.name}" for path in (ROOT / "packaging/man").iterdir()}
    assert pages == {name for name in module.documents() if name.startswith("packaging/man/")}
