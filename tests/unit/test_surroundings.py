"""The settings file of a run, as it lies on the disk."""

import argparse
import io
from pathlib import Path

import pytest

from lxdocker_lxd.console import Console
from lxdocker_lxd.verbs.surroundings import load_settings


@pytest.mark.parametrize(
    ("proxy", "mode", "is_told"),
    [
        ("http://user:hunter2@proxy.example.org:3128", 0o644, True),
        ("http://user:hunter2@proxy.example.org:3128", 0o604, True),
        ("http://user:hunter2@proxy.example.org:3128", 0o640, False),
        ("http://proxy.example.org:3128", 0o644, False),
        ("", 0o644, False),
    ],
)
def test_a_password_that_everybody_can_read_is_told_of_and_not_told(
    tmp_path: Path, proxy: str, mode: int, *, is_told: bool
) -> None:
    """Setup makes the settings file 0644, for all users and the server read it."""
    file = tmp_path / "config.yaml"
    file.write_text(f'registries:\n  docker.io:\n    proxy: "{proxy}"\n')
    file.chmod(mode)
    said = io.StringIO()
    settings = load_settings(
        argparse.Namespace(config=str(file)), Console(out=io.StringIO(), err=said)
    )
    assert settings.registries.by_host["docker.io"].proxy == proxy
    assert ("docker.io" in said.getvalue() and str(file) in said.getvalue()) is is_told
    assert "HTTPS_PROXY" in said.getvalue() or not is_told
    assert "hunter2" not in said.getvalue()
    assert bool(said.getvalue()) is is_told
