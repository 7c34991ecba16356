"""The whole way: convert, export with signatures, a real nginx, and the check through it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.serve.certificate_directory import CertificateDirectory
from lxdocker_lxd.serve.server_names import ServerNames, parse
from tests.harness.nginx import private_nginx
from tests.harness.processes import run
from tests.harness.small_image import write_layout
from tests.serve.checked import change_byte
from tests.serve.openpgp import openpgp_home

pytestmark = [pytest.mark.tools]
COMMAND = (sys.executable, "-m", "lxdocker_lxd")


@dataclass(frozen=True, kw_only=True)
class Served:
    """An exported tree and where nginx serves it."""

    url: str
    root: Path
    authority: Path
    keyring: Path
    export: tuple[str | Path, ...]

    def verify(self, *flags: str | Path) -> tuple[int, str]:
        keys = ["--ca", str(self.authority), "--keyring", str(self.keyring)]
        done = run(*COMMAND, "verify", self.url, *keys, *flags, check=False)
        return done.returncode, done.stdout + done.stderr

    def curl(self, path: str, *flags: str) -> str:
        command = ["curl", "-sS", "--path-as-is", "--cacert", str(self.authority)]
        return run(*command, *flags, f"{self.url}/{path}").stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    work = tmp_path_factory.mktemp("shop")
    specs = work / "specs"
    for name in ("web", "db"):
        files = {"app": f"the application {name}".encode() * 1000}
        write_layout(specs / f"{name}.layout", tag="1", files=files, entrypoint=["/app"])
        (specs / f"{name}.yaml").write_text(f"image: oci:{name}.layout:1\n")
    published = ("--lxdimages", work / "lxdimages")
    run(*COMMAND, "convert", "--lxc", "--specs", specs, "--cache", work / "cache", *published)
    names = ServerNames.of([parse("127.0.0.1")])
    CertificateDirectory(work / "tls").held(names, ServerNames(), at=datetime.now(UTC))
    with openpgp_home() as home:
        key = home.make_key("server@example.org")
        keyring = home.export(key, work / "keyring")
        command: tuple[str | Path, ...] = (
            *COMMAND,
            "export",
            work / "www",
            *published,
            "--gpg-key",
            key,
        )
        run(*command, "--url", "https://images.example")
        tls = work / "tls"
        with private_nginx(work / "www", tls / "server.crt", tls / "server.key") as url:
            yield Served(
                url=url,
                root=work / "www",
                authority=tls / "ca.crt",
                keyring=keyring,
                export=(*command, "--url", "https://images.example"),
            )


def test_an_export_behind_nginx_is_clean(served: Served) -> None:
    code, text = served.verify("--format", "json")
    assert code == 0, text
    report = json.loads(text)
    assert report["findings"] == []
    assert report["files"] == 4 + 4
    assert report["signatures"] > 15


def test_the_directory_is_clean_too(served: Served) -> None:
    done = run(*COMMAND, "verify", served.root, "--keyring", served.keyring)
    assert "nothing wrong" in done.stdout


def test_a_second_export_changes_nothing(served: Served) -> None:
    """Signatures included: a signature holds a time, and would be another one each time."""
    done = run(*served.export, "--format", "json")
    assert json.loads(done.stdout)["changes"] == []


@pytest.mark.parametrize(
    "kind",
    ["images/*.squashfs", "streams/v1/images.json", "streams/v1/index.sjson.gz", "1.0/index.json",
     "lxc/web/amd64/*/rootfs.tar.xz", "meta/1.0/index-user"],
)  # fmt: skip
def test_a_changed_byte_behind_nginx_is_found(served: Served, kind: str) -> None:
    file = min(served.root.glob(kind))
    before = file.read_bytes()
    change_byte(file)
    try:
        code, text = served.verify()
        assert code == 6
        assert str(file.relative_to(served.root)).removesuffix(".gz") in text
    finally:
        file.write_bytes(before)
    assert served.verify()[0] == 0


def test_what_nginx_does_with_the_tree(served: Served) -> None:
    index = (served.root / "streams/v1/index.json").read_text()
    assert served.curl("at/20260301_120000/streams/v1/index.json") == index
    # lxc-create asks with two slashes.
    system = (served.root / "meta/1.0/index-system").read_text()
    assert served.curl("/meta/1.0/index-system") == system
    assert "Content-Encoding: gzip" in served.curl(
        "streams/v1/index.json", "-i", "--compressed", "-o", "/dev/null", "-D", "-"
    )
    image = min(served.root.glob("images/*.squashfs")).relative_to(served.root)
    headers = served.curl(str(image), "-I")
    assert "immutable" in headers
    assert "200" in served.curl(str(image), "-o", "/dev/null", "-w", "%{http_code}")
    for hidden in (".lxdocker-export/record.json", "../lxdimages/catalogue.json"):
        assert "404" in served.curl(hidden, "-o", "/dev/null", "-w", "%{http_code}") or (
            "400" in served.curl(hidden, "-o", "/dev/null", "-w", "%{http_code}")
        )
