"""A throw-away home of GnuPG with its own keys and agent."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.harness.processes import run


class OpenPgpHome:
    """One home; ``use`` makes it this process's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def gpg(self, *arguments: str | Path, text: str = "", check: bool = True) -> str:
        """Run gpg here and return what it wrote, its words included."""
        done = run(
            *("gpg", "--homedir", self.directory, "--batch", "--no-tty", *arguments),
            text_input=text,
            check=check,
        )
        return done.stdout + done.stderr

    def make_key(self, name: str, *, passphrase: str = "", algorithm: str = "ed25519") -> str:
        """Make a key that signs and return its fingerprint."""
        self.gpg(
            *("--pinentry-mode", "loopback", "--passphrase", passphrase),
            *("--quick-gen-key", name, algorithm, "sign", "never"),
        )
        listed = self.gpg("--with-colons", "--list-secret-keys", f"={name}")
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def export(self, fingerprint: str, place: Path) -> Path:
        """Write a public key to a file."""
        place.unlink(missing_ok=True)
        self.gpg("--armor", "--output", place, "--export", fingerprint)
        return place

    def forget_passphrases(self) -> None:
        """End the agent, which remembers what was typed."""
        run("gpgconf", "--homedir", self.directory, "--kill", "gpg-agent", check=False)


@contextlib.contextmanager
def openpgp_home() -> Iterator[OpenPgpHome]:
    """A home that is gone afterwards, its agent too; the environment leads to it for the block."""
    # The path of the agent's socket may have 107 characters only.
    directory = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
    before = os.environ.get("GNUPGHOME")
    os.environ["GNUPGHOME"] = str(directory)
    home = OpenPgpHome(directory)
    try:
        yield home
    finally:
        home.forget_passphrases()
        del os.environ["GNUPGHOME"]
        if before is not None:
            os.environ["GNUPGHOME"] = before
        shutil.rmtree(directory, ignore_errors=True)
