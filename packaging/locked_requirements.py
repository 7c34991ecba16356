#!/usr/bin/env python3
"""Locks what is installed: each package's version and the hashes of its files.

``python packaging/locked_requirements.py`` takes the newest versions that ``pyproject.toml`` allows,
for every Python and machine at once, and writes:

- ``lxdocker_lxd/setup/requirements.txt``: what the program needs. It lies in the package, since
  ``setup --in-container`` installs by it;
- ``packaging/requirements-build.txt``: what builds the package;
- ``packaging/requirements-dev.txt``: what the tests and checks need besides;
- ``packaging/lxdocker-lxd.cdx.json``: the first of them as a bill of materials (CycloneDX).

Needs the ``release`` extra and a package index.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "pyproject.toml"
RUNTIME = ROOT / "lxdocker_lxd/setup/requirements.txt"
BUILD = ROOT / "packaging/requirements-build.txt"
DEVELOPMENT = ROOT / "packaging/requirements-dev.txt"
MATERIALS = ROOT / "packaging/lxdocker-lxd.cdx.json"


def main() -> None:
    """Write the files anew; raise CalledProcessError when a tool fails."""
    project = tomllib.loads(PROJECT.read_text())
    # Nobody but who looks for new faults needs a fuzzer.
    extras = [name for name in project["project"]["optional-dependencies"] if name != "fuzz"]
    _lock(DEVELOPMENT, ["pyproject.toml", *(f"--extra={name}" for name in extras)])
    same_versions = ["--constraints", str(DEVELOPMENT)]
    _lock(RUNTIME, ["pyproject.toml", *same_versions])
    _lock(BUILD, ["-", *same_versions], requirements=project["build-system"]["requires"])
    _list_materials()


def _lock(target: Path, words: list[str], *, requirements: Iterable[str] = ()) -> None:
    lines = _run(
        *("uv", "pip", "compile", "--quiet", "--no-config", *words),
        *("--universal", "--python-version", "3.11", "--generate-hashes"),
        # Where the packages were looked up is nobody's business, and differs from place to place.
        *("--no-emit-index-url", "--no-emit-find-links"),
        *("--custom-compile-command", "python packaging/locked_requirements.py"),
        given="".join(f"{line}\n" for line in requirements),
    )
    target.write_text(lines)


def _list_materials() -> None:
    """Describe an installation of what is locked: licences, and who needs whom."""
    with tempfile.TemporaryDirectory() as directory:
        _run("uv", "venv", "--quiet", "--python", sys.executable, directory)
        _run(
            *("uv", "pip", "install", "--quiet", "--python", directory),
            *("--require-hashes", "--requirements", str(RUNTIME)),
        )
        MATERIALS.write_text(
            _run(
                *("cyclonedx-py", "environment", directory, "--pyproject", str(PROJECT)),
                *("--mc-type", "application", "--output-reproducible", "--output-format", "JSON"),
            ).rstrip()
            + "\n"
        )


def _run(*words: str, given: str = "") -> str:
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        words, check=True, cwd=ROOT, input=given, stdout=subprocess.PIPE, text=True, env=environment
    )
    return done.stdout


if __name__ == "__main__":
    main()
