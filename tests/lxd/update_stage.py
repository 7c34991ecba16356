"""Images and instances for tests of the updater on the real LXD."""

import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.update.transaction import STAMP_KEY
from tests.guest.lxd_guest import image_config, import_guest, small_tree
from tests.harness.lxd import PrivateLxd

CHECKOUT = Path(__file__).parents[2]
QUICK_GATE = {
    "user.lxdocker.update.interval": "0.2",
    "user.lxdocker.update.start_period": "5",
    "user.lxdocker.update.stable": "1",
    "user.lxdocker.network_wait": "0",
    "user.lxdocker.stop_timeout": "2",
}
_NOT_KEPT = ("volatile.", "image.", STAMP_KEY, "user.lxdocker.rejected")
WORDS = ("one", "two", "good")
# The second version can be a broken one.
_APP = b"""#!/bin/sh
case $(cat /version)-$TWO in
two-ends) exit 3 ;;
two-crashes) sleep 3; exit 3 ;;
two-migrates) echo migrated >/data/rows; echo 2 >/data/format; exit 3 ;;
esac
exec sleep 1000
"""


class Stage:
    """A private LXD with one image for each of ``WORDS``, and instances of a test."""

    def __init__(
        self,
        lxd: PrivateLxd,
        directory: Path,
        *,
        words: tuple[str, ...] = WORDS,
        more_files: int = 0,
        volumes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.lxd = lxd
        self._more_files = more_files
        self._directory = directory
        self.fingerprints: dict[str, str] = {}
        for word in words:
            self.add_image(word, config=image_config(volumes=(volumes or {}).get(word, ())))
        self._names: list[str] = []

    def add_image(
        self,
        word: str,
        app: bytes = _APP,
        config: ImageConfig | None = None,
        *,
        restart: str = "no",
    ) -> None:
        """Import an image whose command is ``app``; it finds ``word`` in ``/version``."""
        files = {"version": word.encode(), "app": app}
        files |= {f"srv/{number}": b"" for number in range(self._more_files)}
        config = replace(config or image_config(), entrypoint=("/app",))
        alias, _ = import_guest(
            self.lxd, self._directory, small_tree(files), config, restart=restart
        )
        self.fingerprints[word] = self.lxd.query("GET", f"/1.0/images/aliases/{alias}")["target"]
        self.lxd.lxc("image", "alias", "rename", alias, word)

    def lxc_export(self, word: str, directory: Path) -> None:
        """Write the image's files into a directory."""
        self.lxd.lxc("image", "export", self.fingerprints[word], directory)

    def remove_images(self) -> None:
        """Delete the images from the store."""
        for fingerprint in self.fingerprints.values():
            self.lxd.lxc("image", "delete", fingerprint, check=False)

    def follow(self, alias: str, word: str) -> None:
        """Let ``alias`` name the image of ``word``, as an import does."""
        self.lxd.lxc("image", "alias", "delete", alias, check=False)
        self.lxd.lxc("image", "alias", "create", alias, self.fingerprints[word])

    def launch(
        self,
        word: str = "one",
        config: Mapping[str, str] | None = None,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        *,
        start: bool = True,
    ) -> str:
        """Launch an instance of the image of ``word``."""
        name = f"t{secrets.token_hex(4)}"
        self._names.append(name)
        self.lxd.launch(
            word, name, config=QUICK_GATE | dict(config or {}), devices=devices, start=start
        )
        return name

    def story(self, name: str) -> dict[str, Any]:
        """All that an update must preserve."""
        found = self.lxd.query("GET", f"/1.0/instances/{name}")
        kept = ("devices", "profiles", "description", "ephemeral", "expanded_devices")
        config = {
            key: value for key, value in found["config"].items() if not key.startswith(_NOT_KEPT)
        }
        macs = {key: value for key, value in found["config"].items() if key.endswith(".hwaddr")}
        return {key: found[key] for key in kept} | {"config": config, "macs": macs}

    def version(self, name: str) -> str:
        """The word of the image that the instance was made of, by its files."""
        return (self.lxd.file_pull(name, "/version") or b"").decode()

    def base_image(self, name: str) -> str:
        """The fingerprint of its image; empty while there is no instance of this name."""
        found = self.lxd.lxc("config", "get", name, "volatile.base_image", check=False)
        return found.stdout.strip()

    def clean(self) -> None:
        """Delete the instances of a test, and what updates left of them."""
        for name in self.lxd.instances():
            if any(name.startswith(mine) for mine in self._names):
                self.lxd.lxc("config", "unset", name, "security.protection.delete", check=False)
                self.lxd.lxc("delete", "--force", name, check=False)
        self._names.clear()

    # ---- the command

    def command(self, state: Path, action: str, *words: str) -> list[str]:
        """The words of ``lxdocker-lxd update ACTION``."""
        base = [sys.executable, "-m", "lxdocker_lxd", "update", action]
        return [*base, f"--state={state}", *words]

    def update(
        self, state: Path, action: str, *words: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``lxdocker-lxd update ACTION`` against the private LXD."""
        done = subprocess.run(
            self.command(state, action, *words),
            cwd=CHECKOUT,
            env=self.lxd.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def begin(self, state: Path, action: str, *words: str) -> "subprocess.Popen[str]":
        """Start it, to be stopped or killed; what it says is in a pipe."""
        return self._begin(self.command(state, action, *words), subprocess.PIPE)

    def serve(self, state: Path, log: Path) -> "subprocess.Popen[str]":
        """Start the service, to be stopped or killed; what it says is added to ``log``."""
        with log.open("a") as stream:
            return self._begin(self.command(state, "run", "--interval=600"), stream)

    def _begin(self, command: list[str], told: IO[str] | int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=self.lxd.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.DEVNULL,
            stderr=told,
            text=True,
            start_new_session=True,
        )
