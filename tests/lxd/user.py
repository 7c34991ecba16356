"""A user of the program with a LXD of their own: commands as processes, what they print, what is left."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.lxd import PrivateLxd

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The result as a program reads it."""
        return json.loads(self.out)


@dataclass(kw_only=True)
class User:
    """One user with a settings file and directories below ``home``."""

    lxd: PrivateLxd
    home: Path
    settings: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("specs", "lxdimages", "lxc"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        text = "".join(
            f"{key}: {self.home / key}\n" for key in ("specs", "cache", "lxdimages", "imports")
        )
        (self.home / "config.yaml").write_text(text + self.settings)
        self.environment = {
            **self.lxd.environment,
            "LXD_CONF": str(self.home / "lxc"),
            "LXDOCKER_LXD_CONFIG": str(self.home / "config.yaml"),
            "PYTHONPATH": str(ROOT),
            **self.environment,
        }

    def start(self, *words: str | Path, **named: Any) -> subprocess.Popen[str]:
        """Begin a command; ``prefix`` are words before it, ``more`` is more environment."""
        prefix = named.pop("prefix", ())
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "lxdocker_lxd", *map(str, words)],
            env={**os.environ, **self.environment, **named.pop("more", {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            **named,
        )

    def run(self, *words: str | Path, code: int = 0, **named: Any) -> Said:
        """Run a command to its end, which must be with ``code``."""
        process = self.start(*words, **named)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{words}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return Said(code=process.returncode, out=out, err=err)

    def image(self, *words: str | Path, **named: Any) -> dict[str, Any]:
        """Run ``import`` and return what came of it."""
        (found,) = self.run("import", *words, "--format", "json", **named).json["images"]
        assert isinstance(found, dict)
        return found

    # ---- what is in LXD

    def images(self, project: str = "default") -> dict[str, dict[str, Any]]:
        """Images by fingerprint."""
        found = self.lxd.query("GET", f"/1.0/images?recursion=1&project={project}")
        return {image["fingerprint"]: image for image in found}

    def aliases(self, project: str = "default") -> Mapping[str, str]:
        """Fingerprints by alias."""
        found = self.lxd.query("GET", f"/1.0/images/aliases?recursion=1&project={project}")
        return {alias["name"]: alias["target"] for alias in found}

    def volumes(self, project: str = "default", pool: str = "default") -> set[str]:
        """Names of custom volumes."""
        path = f"/1.0/storage-pools/{pool}/volumes/custom?recursion=1&project={project}"
        return {volume["name"] for volume in self.lxd.query("GET", path)}

    def clean(self) -> None:
        """Remove all that tests, other files' too, made in the default project."""
        names = self.lxd.instances()
        if names:
            self.lxd.delete(*names)
        for fingerprint in self.images():
            self.lxd.lxc("image", "delete", fingerprint)
        for name in self.volumes():
            self.lxd.lxc("storage", "volume", "delete", "default", name)
