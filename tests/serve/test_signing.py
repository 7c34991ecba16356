"""Signatures with the real GnuPG: made by a signer, judged by gpg itself."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from lxdocker_lxd.catalogue import PublishedFile
from lxdocker_lxd.clients.gpg import Gpg, GpgFailedError, GpgMissingError
from lxdocker_lxd.clients.signature_check import (
    BadSignatureError,
    UnknownSignerError,
    signature_checker,
)
from lxdocker_lxd.errors import NotFoundError, StorageError, ToolError, UsageError
from lxdocker_lxd.serve.entry import Signer
from lxdocker_lxd.serve.signature_directory import SignatureDirectory
from lxdocker_lxd.serve.signing import (
    GpgSigner,
    SignaturesInMemory,
    SigningFailedError,
    SigningKeyError,
    gpg_signer,
)
from tests.serve.openpgp import OpenPgpHome, openpgp_home
from tests.unit.catalogues import sha256

pytestmark = pytest.mark.tools
DOCUMENT = b'{"index": {}}\n- dash\nFrom here\n'


@pytest.fixture(scope="module")
def home() -> Iterator[OpenPgpHome]:
    with openpgp_home() as home:
        home.make_key("server@example.org")
        yield home


@pytest.fixture
def signer(home: OpenPgpHome, tmp_path: Path) -> GpgSigner:
    return gpg_signer("server@example.org", tmp_path)


def published(directory: Path, content: bytes) -> PublishedFile:
    (directory / "images").mkdir(exist_ok=True)
    digest = sha256(content.decode())
    (directory / "images" / digest).write_bytes(content)
    return PublishedFile(
        role="rootfs", path=f"images/{digest}", sha256=digest, size_bytes=len(content)
    )


def test_gpg_accepts_a_clear_signed_document(
    home: OpenPgpHome, signer: GpgSigner, tmp_path: Path
) -> None:
    port: Signer = signer
    message = tmp_path / "index.sjson"
    message.write_bytes(port.clear_signed(DOCUMENT))
    said = home.gpg("--verify", message)
    assert "Good signature" in said
    assert "Hash: SHA512" in message.read_text()
    home.gpg("--output", tmp_path / "plain", "--decrypt", message)
    assert (tmp_path / "plain").read_bytes() == DOCUMENT


def test_gpg_accepts_a_detached_signature(
    home: OpenPgpHome, signer: GpgSigner, tmp_path: Path
) -> None:
    (tmp_path / "document").write_bytes(DOCUMENT)
    (tmp_path / "document.gpg").write_bytes(signer.detached(DOCUMENT))
    assert "Good signature" in home.gpg(
        "--verify", tmp_path / "document.gpg", tmp_path / "document"
    )
    (tmp_path / "document").write_bytes(DOCUMENT.replace(b"index", b"Index"))
    said = home.gpg("--verify", tmp_path / "document.gpg", tmp_path / "document", check=False)
    assert "BAD signature" in said


def test_gpg_accepts_the_signature_of_a_file(
    home: OpenPgpHome, signer: GpgSigner, tmp_path: Path
) -> None:
    file = published(tmp_path, b"x" * 3_000_000)
    (tmp_path / "signature").write_bytes(signer.detached_file(file))
    said = home.gpg("--verify", tmp_path / "signature", tmp_path / file.path)
    assert "Good signature" in said
    (tmp_path / file.path).unlink()
    with pytest.raises(StorageError):
        gpg_signer("server@example.org", tmp_path).detached_file(file)


def test_the_public_key_and_its_id(home: OpenPgpHome, signer: GpgSigner, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(signer.public_key())
    shown = home.gpg("--with-colons", "--show-keys", tmp_path / "key")
    assert signer.fingerprint in shown
    assert signer.fingerprint.endswith(signer.long_id)
    assert len(signer.long_id) == 16


def test_the_same_content_keeps_its_signature(signer: GpgSigner, tmp_path: Path) -> None:
    """A signature holds the time: without this every export would write every signature again."""
    assert signer.clear_signed(DOCUMENT) is signer.clear_signed(DOCUMENT)
    file = published(tmp_path, b"abc")
    first = signer.detached_file(file)
    (tmp_path / file.path).unlink()
    assert signer.detached_file(file) == first


def test_a_file_that_takes_long_holds_up_no_other_signature(
    signer: GpgSigner, tmp_path: Path
) -> None:
    """All signatures had one lock, also while gigabytes were read."""
    file = published(tmp_path, b"abc")
    path = tmp_path / file.path
    path.unlink()
    os.mkfifo(path)
    with ThreadPoolExecutor(3) as threads:
        large = [threads.submit(signer.detached_file, file) for _ in range(2)]
        try:
            assert threads.submit(signer.detached, DOCUMENT).result(20)
            assert not any(one.done() for one in large)
        finally:
            path.write_bytes(b"abc")
        # Both wait for one signature: the pipe was read once.
        assert large[0].result(20) == large[1].result(20)


def test_signatures_outlive_the_process_in_a_directory(home: OpenPgpHome, tmp_path: Path) -> None:
    kept = SignatureDirectory(tmp_path / "kept")
    first = gpg_signer("server@example.org", tmp_path, kept)
    signed, other = first.detached(b"one"), first.detached(b"two")
    again = SignatureDirectory(tmp_path / "kept")
    second = gpg_signer("server@example.org", tmp_path, again)
    assert second.detached(b"one") == signed
    again.forget_unused()
    assert len(list((tmp_path / "kept").iterdir())) == 1
    # Looking into a directory without writing to it.
    looking = gpg_signer("server@example.org", tmp_path, SignaturesInMemory(before=kept))
    assert looking.detached(b"one") == signed
    assert looking.detached(b"two") is not other
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_memory_for_signatures_is_bounded() -> None:
    kept = SignaturesInMemory(most_bytes=1000)
    for number in range(50):
        kept.put(str(number), b"x" * 100)
    assert [kept.get(str(number)) is not None for number in range(50)].count(True) == 10
    assert kept.get("49") is not None


def test_an_unknown_key(home: OpenPgpHome, tmp_path: Path) -> None:
    for name in ("nobody@example.org", "0123456789ABCDEF", "--version", ""):
        with pytest.raises(SigningKeyError, match="no secret key") as caught:
            gpg_signer(name, tmp_path)
        assert isinstance(caught.value, NotFoundError)
        assert "--list-secret-keys" in caught.value.hint


def test_a_public_key_alone_signs_nothing(home: OpenPgpHome, tmp_path: Path) -> None:
    with openpgp_home() as other:
        public = other.export(other.make_key("public@example.org"), tmp_path / "public")
    home.gpg("--import", public)
    with pytest.raises(SigningKeyError):
        gpg_signer("public@example.org", tmp_path)


def test_a_key_of_several_names_is_ambiguous(tmp_path: Path) -> None:
    with openpgp_home() as home:
        one = home.make_key("a@example.org")
        two = home.make_key("b@example.org")
        with pytest.raises(UsageError, match=f"{one}.*{two}|{two}.*{one}"):
            gpg_signer("example.org", tmp_path)
        assert gpg_signer(one, tmp_path).fingerprint == one
        assert gpg_signer(two[-16:], tmp_path).fingerprint == two


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    with openpgp_home() as home:
        home.make_key("locked@example.org", passphrase="secret")
        home.forget_passphrases()
        signer = gpg_signer("locked@example.org", tmp_path)
        with pytest.raises(SigningFailedError, match="passphrase") as caught:
            signer.clear_signed(DOCUMENT)
        assert "gpg-preset-passphrase" in caught.value.hint
        assert isinstance(caught.value, ToolError)


def test_an_expired_key_is_refused(tmp_path: Path) -> None:
    with openpgp_home() as home:
        home.gpg(
            *("--pinentry-mode", "loopback", "--passphrase", ""),
            *("--faked-system-time", "20200101T000000", "--quick-gen-key", "old@example.org"),
            *("ed25519", "sign", "1d"),
        )
        with pytest.raises(UsageError, match="has expired"):
            gpg_signer("old@example.org", tmp_path)


def test_an_rsa_key_works_too(tmp_path: Path) -> None:
    with openpgp_home() as home:
        home.make_key("rsa@example.org", algorithm="rsa2048")
        signer = gpg_signer("rsa@example.org", tmp_path)
        with signature_checker(None) as checker:
            assert checker.clear_signed(signer.clear_signed(DOCUMENT)) == DOCUMENT


def test_gpg_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpgMissingError) as caught:
        gpg_signer("any", tmp_path)
    assert "apt-get install gnupg" in caught.value.hint


def test_a_gpg_that_hangs_or_cannot_start(tmp_path: Path) -> None:
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(GpgFailedError, match="didn't end"):
        Gpg(path=str(program)).run("--version", timeout_seconds=0.2)
    with pytest.raises(GpgFailedError, match="can't be started"):
        Gpg(path=str(tmp_path)).run("--version")


# ---- checking


def test_a_checker_believes_the_keys_it_was_given(
    home: OpenPgpHome, signer: GpgSigner, tmp_path: Path
) -> None:
    message, detached = signer.clear_signed(DOCUMENT), signer.detached(DOCUMENT)
    keyring = home.export(signer.fingerprint, tmp_path / "keyring")
    with signature_checker(keyring) as checker:
        assert checker.clear_signed(message) == DOCUMENT
        with (tmp_path / "document").open("w+b") as file:
            file.write(DOCUMENT)
            file.seek(0)
            checker.detached(detached, file)
            file.seek(0)
            file.write(DOCUMENT.upper())
            file.seek(0)
            with pytest.raises(BadSignatureError, match="wrong"):
                checker.detached(detached, file)
        with pytest.raises(BadSignatureError, match="wrong"):
            checker.clear_signed(message.replace(b"index", b"Index"))
    with openpgp_home() as other:
        stranger = other.export(other.make_key("stranger@example.org"), tmp_path / "stranger")
    with signature_checker(stranger) as checker, pytest.raises(UnknownSignerError):
        checker.clear_signed(message)


def test_only_clear_signed_text_counts(home: OpenPgpHome, signer: GpgSigner) -> None:
    message = signer.clear_signed(DOCUMENT)
    with signature_checker(None) as checker:
        for bad in (
            b"",
            DOCUMENT,
            DOCUMENT + message,
            message + message,
            signer.detached(DOCUMENT),
            b"-----BEGIN PGP SIGNED MESSAGE-----\n\n" + DOCUMENT,
        ):
            with pytest.raises(BadSignatureError):
                checker.clear_signed(bad)
        for bad in (b"", b"x", message):
            with pytest.raises(BadSignatureError), Path(os.devnull).open("rb") as nothing:
                checker.detached(bad, nothing)


def test_each_changed_byte_of_a_signature_counts(home: OpenPgpHome, signer: GpgSigner) -> None:
    """GnuPG takes a signature whose last lines are damaged for a good one."""
    signature, message = signer.detached(DOCUMENT), signer.clear_signed(DOCUMENT)
    end, begin = len(b"-----END PGP SIGNATURE-----\n"), b"-----BEGIN PGP SIGNATURE-----"
    with signature_checker(None) as checker:
        for text in (signature, signature.replace(b"\n", b"\r\n"), signature + b"\n"):
            checker.detached(text, DOCUMENT)
        # From the checksum on, in the first lines, and a few of the rest.
        places = [*range(-end - 7, 0), *range(0, 40, 3), *range(40, len(signature) - end, 37)]
        for place in places:
            for bit in (1, 0x20, 0x80):
                bad = bytearray(signature)
                bad[place] ^= bit
                with pytest.raises(BadSignatureError):
                    checker.detached(bytes(bad), DOCUMENT)
        for place in (-1, -5, -end - 1, message.index(begin) + 3 - len(message)):
            bad = bytearray(message)
            bad[place] ^= 0x20
            with pytest.raises(BadSignatureError):
                checker.clear_signed(bytes(bad))


def test_a_binary_signature_counts_too(home: OpenPgpHome, signer: GpgSigner) -> None:
    done = signer._gpg.run("--dearmor", content=signer.detached(DOCUMENT))
    with signature_checker(None) as checker:
        checker.detached(done.output, DOCUMENT)
        with pytest.raises(BadSignatureError):
            checker.detached(done.output[:-1], DOCUMENT)


def test_a_signature_by_a_key_that_has_expired(tmp_path: Path) -> None:
    """GnuPG itself ends without an error then."""
    document = tmp_path / "document"
    document.write_bytes(DOCUMENT)
    with openpgp_home() as home:
        expired = partial(pytest.raises, BadSignatureError, match="key that signed it has expired")
        then = ("--pinentry-mode", "loopback", "--passphrase", "", "--faked-system-time")
        home.gpg(
            *(*then, "20200101T000000", "--quick-gen-key", "old@example.org"),
            *("ed25519", "sign", "1d"),
        )
        home.gpg(*then, "20200101T010000", "--armor", "--clearsign", document)
        with signature_checker(None) as checker, expired():
            checker.clear_signed((tmp_path / "document.asc").read_bytes())
        document.with_suffix(".asc").unlink()
        home.gpg(*then, "20200101T010000", "--armor", "--detach-sign", document)
        with signature_checker(None) as checker, expired():
            checker.detached((tmp_path / "document.asc").read_bytes(), DOCUMENT)


def test_a_keyring_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError), signature_checker(tmp_path / "none"):
        pass
    (tmp_path / "text").write_text("no key")
    with (
        pytest.raises(UsageError, match="no OpenPGP public key"),
        signature_checker(tmp_path / "text"),
    ):
        pass


def test_looking_makes_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "none"))
    with signature_checker(None) as checker, pytest.raises(BadSignatureError):
        checker.clear_signed(b"-----BEGIN PGP SIGNED MESSAGE-----\n")
    assert not (tmp_path / "none").exists()


def test_content_may_be_in_memory(home: OpenPgpHome, signer: GpgSigner) -> None:
    with signature_checker(None) as checker:
        checker.detached(signer.detached(DOCUMENT), DOCUMENT)
