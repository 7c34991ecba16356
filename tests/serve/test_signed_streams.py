"""The signed documents before gpg itself, as somebody who was only given the server's address."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdocker_lxd.serve.signing import gpg_signer
from lxdocker_lxd.serve.site import Site
from tests.harness.processes import run
from tests.serve.trees import content_of, made, named, roots_of, site_of

pytestmark = [pytest.mark.tools]


@pytest.fixture(scope="module")
def homes() -> Iterator[tuple[Path, Path]]:
    """The server's GnuPG home with a new key, and a visitor's empty one."""
    # A path as short as that of the agent's socket has to be.
    place = Path(tempfile.mkdtemp(prefix="lxg-", dir="/tmp"))
    homes = place / "server", place / "visitor"
    try:
        for home in homes:
            home.mkdir(mode=0o700)
        command = ("--passphrase", "", "--quick-generate-key", "Images <i@example>", "ed25519")
        gpg(homes[0], *command, "sign", "never")
        yield homes
    finally:
        for home in homes:
            run("gpgconf", "--homedir", home, "--kill", "all", check=False)
        shutil.rmtree(place)


def gpg(home: Path, *arguments: str | Path) -> str:
    return run("gpg", "--batch", "--no-tty", "--homedir", home, *arguments).stdout


@pytest.fixture
def site(homes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("GNUPGHOME", os.fspath(homes[0]))
    signer = gpg_signer("i@example", tmp_path)
    return site_of(named("b", made("old", "ghcr.io/a/b:1")), signer=signer)


def test_gpg_accepts_every_signature_of_every_root(
    site: Site, homes: tuple[Path, Path], tmp_path: Path
) -> None:
    visitor = homes[1]
    (server,) = json.loads(content_of(site, "1.0/index.json"))["servers"]
    for trusted in server["trusted_keys"]:
        (tmp_path / "key").write_bytes(content_of(site, trusted.lstrip("/")))
        gpg(visitor, "--import", tmp_path / "key")
    text, signature = tmp_path / "text", tmp_path / "signature"
    roots = roots_of(site)
    assert roots == ["lxe/ghcr.io/", ""]
    for root in roots:
        plain = f"{root}streams/v1/images.json"
        for path in (f"{root}streams/v1/index.json", plain):
            text.write_bytes(content_of(site, path))
            signature.write_bytes(content_of(site, f"{path}.gpg"))
            gpg(visitor, "--verify", signature, text)
        text.write_bytes(content_of(site, f"{root}streams/v1/index.sjson"))
        path = json.loads(gpg(visitor, "--decrypt", text))["index"]["images"]["path"]
        text.write_bytes(content_of(site, root + path))
        assert gpg(visitor, "--decrypt", text).encode() == content_of(site, plain)
    text.write_bytes(content_of(site, "1.0/index.json"))
    signature.write_bytes(content_of(site, "1.0/index.json.asc"))
    gpg(visitor, "--verify", signature, text)


def test_gpg_refuses_a_changed_document(
    site: Site, homes: tuple[Path, Path], tmp_path: Path
) -> None:
    text, signature = tmp_path / "text", tmp_path / "signature"
    path = "streams/v1/images.json"
    text.write_bytes(content_of(site, path).replace(b"release", b"releasf", 1))
    signature.write_bytes(content_of(site, f"{path}.gpg"))
    with pytest.raises(AssertionError, match="BAD signature"):
        gpg(homes[0], "--verify", signature, text)
