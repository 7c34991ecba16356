"""The commands as a user types them, in a process of their own where start-up matters."""

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


@pytest.mark.parametrize(
    "verb", ["", "convert", "images", "inspect", "resolve", "serve", "export", "verify"]
)
def test_the_readme_shows_the_help_of_each_command(verb: str) -> None:
    arguments = [verb] if verb else []
    text = run(*arguments, "--help").stdout
    readme = (ROOT / "README.md").read_text()
    block = f"```text\n$ lxdocker-lxd {' '.join([*arguments, '--help'])}\n{text}```"
    # Python 3.13 lays usage lines out differently: compare words, not line breaks.
    assert " ".join(block.split()) in " ".join(readme.split())
