"""The check of our own trees, signed and not, and the command."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lxdocker_lxd import cli
from lxdocker_lxd.clients.signature_check import signature_checker
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve import stream_rules
from lxdocker_lxd.serve.server_names import ServerNames
from lxdocker_lxd.serve.signing import gpg_signer
from lxdocker_lxd.serve.tree_directory import DirectoryTree
from lxdocker_lxd.serve.verify import VerifyReport, verify
from tests.serve.checked import (
    IMAGES,
    INDEX,
    all_files,
    change_byte,
    check,
    exported,
    problems,
    replace,
    without_record,
)
from tests.serve.openpgp import openpgp_home
from tests.serve.shop import Shop, for_lxc
from tests.serve.tree_web import fails, web
from tests.serve.trees import NOW, made, named


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return exported(tmp_path)


# ---- our own trees


def test_an_export_is_clean(tree: Path) -> None:
    report = check(tree)
    assert report.findings == ()
    assert report.documents > 10
    assert report.files > 10
    assert check(without_record(tree)).findings == ()


def test_a_served_view_is_a_tree_of_its_own(tree: Path) -> None:
    report = check(tree / "lxe" / "ghcr.io")
    assert report.findings == ()
    assert report.files == 2


def test_every_changed_byte_of_an_export_is_found(tree: Path, tmp_path: Path) -> None:
    files = [path for path in all_files(tree) if not path.startswith(".lxdocker-export/")]
    everything = os.environ.get("LXDOCKER_TEST_FULL") == "1"
    for path in files if everything else files[::7]:
        copy = tmp_path / "copy"
        shutil.copytree(tree, copy)
        change_byte(copy / path)
        assert problems(check(copy)), path
        shutil.rmtree(copy)


def become_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


FILES: dict[str, Callable[[Path], None]] = {
    "one byte": change_byte,
    "the first byte": lambda file: change_byte(file, 0),
    "the last byte": lambda file: change_byte(file, 0.999),
    "truncated": lambda file: replace(file, file.read_bytes()[:-1]),
    "empty": lambda file: replace(file, b""),
    "longer": lambda file: replace(file, file.read_bytes() + b"x"),
    "missing": lambda file: file.unlink(),
    "a directory": become_directory,
}


@pytest.mark.parametrize("change", FILES)
@pytest.mark.parametrize("kind", ["images/*.lxd.tar.xz", "images/*.squashfs"])
def test_a_wrong_file_is_found_by_what_documents_say(tree: Path, kind: str, change: str) -> None:
    without_record(tree)
    file = min(tree.glob(kind))
    FILES[change](file)
    found = problems(check(tree))
    assert any(str(file.relative_to(tree)) in one for one in found)


@pytest.mark.parametrize("change", FILES)
@pytest.mark.parametrize("kind", ["rootfs.tar.xz", "meta.tar.xz"])
def test_a_wrong_file_for_lxc_is_found_without_a_signature(
    tree: Path, kind: str, change: str
) -> None:
    without_record(tree)
    (file,) = tree.glob(f"lxc/web/amd64/*/{kind}")
    FILES[change](file)
    assert any(str(file.relative_to(tree)) in one for one in problems(check(tree)))


@pytest.mark.parametrize("path", [INDEX, IMAGES, "lxe/ghcr.io/streams/v1/images.json"])
def test_a_stale_gzip_twin_is_found(tree: Path, path: str) -> None:
    without_record(tree)
    with gzip.open(tree / f"{path}.gz", "wb") as twin:
        twin.write((tree / path).read_bytes().replace(b'"', b' "', 1))
    assert problems(check(tree)) == [f"{path}: its gzip form says something else"]
    change_byte(tree / f"{path}.gz")
    assert problems(check(tree))


def test_a_file_under_many_names_is_read_once(tree: Path) -> None:
    size = sum(
        status.st_size
        for status in {
            (tree / path).stat().st_ino: (tree / path).stat() for path in all_files(tree)
        }.values()
    )
    assert check(tree).size_bytes <= size


def test_an_unfinished_export_is_a_remark(tree: Path) -> None:
    record = tree / ".lxdocker-export" / "record.json"
    content = json.loads(record.read_text())
    content["files"][INDEX]["sha256"] = None
    record.write_text(json.dumps(content))
    report = check(tree)
    assert problems(report) == []
    assert "run it again" in problems(report, "remark")[0]
    record.write_text("{}")
    assert problems(check(tree))


def test_a_certificate_under_anothers_name_is_found(tree: Path) -> None:
    without_record(tree)
    index = tree / "1.0" / "index.json"
    key = x509.new_key()
    pem = x509.new_authority(key, ServerNames(), at=NOW, serial=1)
    document = json.loads(index.read_text())
    (tree / "certs").mkdir()
    for name, word in (
        (x509.facts(pem).fingerprint, ""),
        ("0" * 64, f"it is the certificate {x509.facts(pem).fingerprint}"),
    ):
        (tree / "certs" / name).write_bytes(pem)
        document["servers"][0]["trusted_certs"] = [f"/certs/{name}"]
        index.with_name("index.json.gz").unlink(missing_ok=True)
        index.unlink()
        index.write_text(json.dumps(document))
        assert problems(check(tree)) == ([f"certs/{name}: {word}"] if word else [])
    (tree / "certs" / name).write_bytes(b"none")
    assert "no certificate in PEM form" in problems(check(tree))[0]


# ---- signatures


@pytest.fixture(scope="module")
def signed_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A signed export without its record, and the key that signed it."""
    directory = tmp_path_factory.mktemp("signed")
    with openpgp_home() as home:
        key = home.make_key("server@example.org")
        home.make_key("other@example.org")
        home.export(key, directory / "keyring")
        shop = Shop(directory / "lxdimages")
        shop.signer = gpg_signer(key, directory / "lxdimages")
        shop.publish(
            named("web", for_lxc(made("one")), for_lxc(made("new", at=NOW))),
            named("db", made("two", "ghcr.io/a/db:1")),
        )
        shop.export(directory / "www")
        yield without_record(directory / "www"), directory / "keyring"


@pytest.fixture
def signed(signed_shop: tuple[Path, Path], tmp_path: Path) -> Path:
    shutil.copytree(signed_shop[0], tmp_path / "signed")
    return tmp_path / "signed"


def check_signed(tree: Path, keyring: Path | None) -> VerifyReport:
    with signature_checker(keyring) as checker:
        return verify(
            DirectoryTree(tree),
            jobs=2,
            checker=checker,
            strict=keyring is not None,
            progress=Silent(),
        )


@pytest.mark.tools
def test_a_signed_export_is_clean(signed: Path, signed_shop: tuple[Path, Path]) -> None:
    report = check_signed(signed, signed_shop[1])
    assert report.findings == ()
    assert report.signatures > 15


KINDS = (
    *("streams/v1/index.json", "streams/v1/images.json", "streams/v1/index.sjson"),
    *("streams/v1/images.sjson", "streams/v1/index.json.gpg", "streams/v1/images.json.gpg"),
    *("streams/v1/index.json.gz", "streams/v1/images.json.gz", "images/*.squashfs"),
    *("images/*.lxd.tar.xz", "lxe/ghcr.io/streams/v1/images.json", "meta/1.0/index-system"),
    *("meta/1.0/index-user.7", "meta/1.0/index-system.asc", "lxc/web/amd64/*/meta.tar.xz"),
    *("lxc/web/amd64/*/rootfs.tar.xz", "lxc/web/amd64/*/rootfs.tar.xz.asc", "1.0/index.json"),
    *("1.0/index.json.asc", "keys/????????????????", "keys/*.asc"),
)


@pytest.mark.tools
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_in_each_kind_of_signed_file_is_found(
    signed: Path, signed_shop: tuple[Path, Path], kind: str
) -> None:
    file = max(signed.glob(kind))
    # In the middle of a signature is its base64 text.
    change_byte(file)
    assert problems(check_signed(signed, signed_shop[1])), kind


@pytest.mark.tools
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.endswith((".gpg", ".asc", "images.sjson"))]
)
def test_a_missing_signature_is_found(
    signed: Path, signed_shop: tuple[Path, Path], kind: str
) -> None:
    file = max(signed.glob(kind))
    file.unlink()
    found = problems(check_signed(signed, signed_shop[1]))
    assert any(str(file.relative_to(signed)) in one and "missing" in one for one in found)


@pytest.mark.tools
@pytest.mark.parametrize("ending", ["", ".asc"])
def test_an_earlier_build_for_lxc_is_checked_by_its_signature(
    signed: Path, signed_shop: tuple[Path, Path], ending: str
) -> None:
    """No document names it, but clients that read the index before may still ask for it."""
    listed = (signed / "meta/1.0/index-system").read_text()
    (old,) = (one for one in signed.glob("lxc/web/amd64/*") if one.name not in listed)
    for name in ("meta.tar.xz", "rootfs.tar.xz"):
        file = old / f"{name}{ending}"
        before = file.read_bytes()
        change_byte(file)
        found = problems(check_signed(signed, signed_shop[1]))
        assert [one.startswith(f"lxc/web/amd64/{old.name}/{name}.asc: ") for one in found] == [True]
        replace(file, before)


@pytest.mark.tools
def test_a_signature_by_somebody_else_beside_the_tree_harms_nobody(
    signed: Path, signed_shop: tuple[Path, Path]
) -> None:
    (signed / "notes and more").write_text("n")
    with openpgp_home() as home:
        key = home.make_key("x@example.org")
        signer = gpg_signer(key, signed)
        (signed / "notes and more.gpg").write_bytes(signer.detached(b"n"))
    report = check_signed(signed, signed_shop[1])
    assert problems(report) == []
    (found,) = problems(report, "remark")
    assert found.startswith("notes%20and%20more.gpg: signed with key")


@pytest.mark.tools
def test_keys_ask_for_signatures(
    signed: Path, signed_shop: tuple[Path, Path], tree: Path, tmp_path: Path
) -> None:
    without_record(tree)
    assert f"{INDEX}: it is not signed" in problems(check_signed(tree, signed_shop[1]))
    with openpgp_home() as home:
        stranger = home.export(home.make_key("x@example.org"), tmp_path / "stranger")
        assert problems(check_signed(signed, stranger))
        # Without keys a stranger's signature proves nothing and harms nobody.
        report = check_signed(signed, None)
        assert problems(report) == []
        assert "isn't in the keyring" in problems(report, "remark")[0]


@pytest.mark.tools
def test_a_signed_document_that_says_something_else(
    signed_shop: tuple[Path, Path], tmp_path: Path
) -> None:
    with openpgp_home() as home:
        key = home.make_key("server@example.org")
        keyring = home.export(key, tmp_path / "keyring")
        signer = gpg_signer(key, tmp_path)
        for name, old, new, word in (
            ("images", b"docker.io", b"docker.xx", "something else than streams/v1/images.json"),
            ("index", b"images.sjson", b"images.json", "a signed index leads to an unsigned"),
        ):
            shop = Shop(tmp_path / name / "lxdimages", signer)
            shop.publish(named("web", made("one")))
            shop.export(tmp_path / name / "www")
            tree = without_record(tmp_path / name / "www")
            document = tree / "streams" / "v1" / f"{name}.sjson"
            with signature_checker(keyring) as checker:
                said = checker.clear_signed(document.read_bytes())
            replace(document, signer.clear_signed(said.replace(old, new)))
            document.with_name(f"{name}.sjson.gz").unlink()
            found = problems(check_signed(tree, keyring))
            assert word in " ".join(found)


# ---- the command


def run_command(*arguments: str | Path) -> int:
    return cli.main(cli.parser(), ["verify", *map(str, arguments)])


def test_the_command_and_its_exit_codes(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(tree) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert run_command(tree, "--format", "json", "--jobs", "1") == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []
    change_byte(next(tree.glob("images/*.squashfs")))
    assert run_command(tree) == 6
    captured = capsys.readouterr()
    assert "expected sha256" in captured.out
    assert "error: verify" in captured.err
    assert run_command(tree, "--format", "json") == 6
    assert json.loads(capsys.readouterr().out)["findings"][0]["severity"] == "wrong"
    assert run_command(tmp_path / "none") == 3
    assert run_command("http://127.0.0.1:9") == 5
    assert run_command("gopher://x") == 2
    assert run_command(tree, "--keyring", tmp_path / "none") == 3
    with web(tree) as server:
        server.faults = {IMAGES: fails}
        assert run_command(server.url) == 5


def test_the_rules_know_every_name_the_reader_knows() -> None:
    assert stream_rules._KERNEL_NAMES["amd64"] == "x86_64"
    assert stream_rules._KERNEL_NAMES["riscv64"] == "riscv64"
