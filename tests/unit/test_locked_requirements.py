"""What is installed is locked: versions without known holes, each file by its hash."""

import importlib.metadata
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = "packaging/requirements.txt"
BUILD = "packaging/requirements-build.txt"
DEVELOPMENT = "packaging/requirements-dev.txt"
FILES = (RUNTIME, BUILD, DEVELOPMENT)
AGAIN = "run packaging/locked_requirements.py"
# A fuzzer is for whoever looks for new faults; no test needs it.
EXTRAS = {
    name: needed
    for name, needed in PROJECT["project"]["optional-dependencies"].items()
    if name != "fuzz"
}
DECLARED = {
    RUNTIME: PROJECT["project"]["dependencies"],
    BUILD: PROJECT["build-system"]["requires"],
    DEVELOPMENT: [
        *PROJECT["project"]["dependencies"],
        *(line for lines in EXTRAS.values() for line in lines if "lxdocker" not in line),
    ],
}
# The newest version with each hole that the reasons in pyproject.toml name.
HOLES = [
    ("jinja2", "3.1.5"),
    ("h11", "0.14.0"),
    ("h2", "4.4.0"),
    ("urllib3", "2.6.3"),
    ("werkzeug", "3.1.5"),
    ("flask", "3.1.2"),
    ("idna", "3.13"),
    ("requests", "2.32.5"),
    ("cryptography", "46.0.6"),
]


def entries(path: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each locked package, and the hashes of its files."""
    text = re.sub(r"\\\n", " ", (ROOT / path).read_text())
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            words, *hashes = line.split(" --hash=")
            yield Requirement(words), [one.strip() for one in hashes]


def locked(path: str) -> dict[str, Version]:
    """Versions by name."""
    found = {}
    for requirement, _ in entries(path):
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        found[str(canonicalize_name(requirement.name))] = Version(pin.version)
    return found


@pytest.mark.parametrize("path", FILES)
def test_it_names_versions_and_hashes_and_no_place(path: str) -> None:
    for requirement, hashes in entries(path):
        assert requirement.url is None
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), requirement
    text = (ROOT / path).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE), "an option, such as an index"


@pytest.mark.parametrize("path", FILES)
def test_it_holds_everything_that_the_project_asks_for(path: str) -> None:
    versions = locked(path)
    for line in DECLARED[path]:
        wanted = Requirement(line)
        version = versions.get(str(canonicalize_name(wanted.name)))
        assert version is not None, f"{path} lacks {wanted.name}: {AGAIN}"
        assert version in wanted.specifier, f"{path} has {wanted.name} {version}: {AGAIN}"


@pytest.mark.parametrize("path", FILES)
def test_it_holds_what_its_packages_ask_for(path: str) -> None:
    """As far as they are installed here: their own metadata says what they need."""
    versions = locked(path)
    for name, version in versions.items():
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(installed.version) != version:
            continue
        for line in installed.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                has = versions.get(str(canonicalize_name(needed.name)))
                assert has is not None, f"{name} needs {needed}: {AGAIN}"
                assert has in needed.specifier, f"{name} needs {needed}, not {has}: {AGAIN}"


def test_the_files_agree() -> None:
    everything = locked(DEVELOPMENT)
    for path in (RUNTIME, BUILD):
        assert locked(path).items() <= everything.items()


@pytest.mark.parametrize(("name", "version"), HOLES)
def test_no_version_with_a_known_hole_is_accepted(name: str, version: str) -> None:
    (wanted,) = (one for line in DECLARED[RUNTIME] if (one := Requirement(line)).name == name)
    assert Version(version) not in wanted.specifier


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    listed = json.loads((ROOT / "packaging/lxdocker-lxd.cdx.json").read_text())
    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "lxdocker-lxd",
    )
    assert listed["metadata"]["component"]["version"] == PROJECT["project"]["version"], AGAIN
    components = {
        str(canonicalize_name(one["name"])): Version(one["version"]) for one in listed["components"]
    }
    assert components == locked(RUNTIME), AGAIN
    assert all(one["purl"].startswith("pkg:pypi/") for one in listed["components"])
    graph = {one["ref"]: one.get("dependsOn", []) for one in listed["dependencies"]}
    direct = {
        str(canonicalize_name(ref.split("==")[0]))
        for ref in graph[listed["metadata"]["component"]["bom-ref"]]
    }
    assert direct == {str(canonicalize_name(Requirement(line).name)) for line in DECLARED[RUNTIME]}


def test_what_installs_asks_for_hashes() -> None:
    """Whatever runs as root installs nothing that the lock files don't name."""
    for path in ("examples/quickstart.sh", "tests/run.sh", "lxdocker_lxd/setup/installation.py"):
        text = (ROOT / path).read_text()
        assert "--require-hashes" in text, path
        assert "--only-binary" in text, path
