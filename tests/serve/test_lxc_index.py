"""The tree of LXC's download protocol: indexes, metadata, root filesystems, signatures."""

import calendar
from dataclasses import replace
from urllib.parse import unquote

import pytest

from lxdocker_lxd.catalogue import Catalogue, Json, LxcSettings, Product, PublishedFile, Version
from lxdocker_lxd.clients.lxc_images import USER_INDEX, find, parse_index, parse_name
from lxdocker_lxd.serve import lxc_index
from lxdocker_lxd.serve.entry import Document, FileEntry, Signer
from lxdocker_lxd.serve.site import Site, SiteContext, SiteSettings
from tests.serve.lxc_reader import members
from tests.unit.catalogues import START, hours, product, published_file, version

SETTINGS = LxcSettings(uid=0, gid=0, groups=(), home="/root", stop_signal=15, tmpfs=())
SERIALS = ("20260301_120000", "20260302_120000")


class WordSigner:
    """Signs with words, so that a test sees what was signed."""

    long_id = "0123456789ABCDEF"

    def public_key(self) -> bytes:
        return b"key"

    def clear_signed(self, content: bytes) -> bytes:
        return b"clear " + content

    def detached(self, content: bytes) -> bytes:
        return b"signature of " + content

    def detached_file(self, file: PublishedFile) -> bytes:
        return b"signature of file " + file.sha256.encode()


def for_lxc(content: str, serial: str, *, hour: float = 0) -> Version:
    made = version(content, serial=serial, at=hours(hour))
    file = published_file("lxc-rootfs", f"lxc {content}")
    return replace(made, files=(*made.files, file), lxc=SETTINGS)


def site(*products: Product, signer: Signer | None = None) -> Site:
    context = SiteContext(
        catalogue=Catalogue(products=tuple(sorted(products, key=lambda one: one.key))),
        settings=SiteSettings(base_url="https://x"),
        at=START,
        signer=signer,
    )
    return Site(lxc_index.entries(context), roots=("",), servable=context.catalogue.servable())


def text(tree: Site, path: str) -> str:
    entry = tree.find(path)
    assert isinstance(entry, Document), path
    return entry.render().decode()


def test_the_newest_version_is_listed_and_the_one_before_stays() -> None:
    old, new = for_lxc("one", SERIALS[0]), for_lxc("two", SERIALS[1], hour=24)
    tree = site(product(old, new))
    listed = text(tree, "meta/1.0/index-system")
    assert listed == f"web;current;amd64;default;{SERIALS[1]};lxc/web/amd64/{SERIALS[1]}/\n"
    for name in ("index-system", "index-user"):
        for ending in ("", ".5", ".7"):
            assert text(tree, f"meta/1.0/{name}{ending}") == listed
    for made, serial in ((old, SERIALS[0]), (new, SERIALS[1])):
        entry = tree.find(f"lxc/web/amd64/{serial}/rootfs.tar.xz")
        assert isinstance(entry, FileEntry)
        assert entry.file == made.file("lxc-rootfs")
        meta = tree.find(f"lxc/web/amd64/{serial}/meta.tar.xz")
        assert isinstance(meta, Document)


def test_only_versions_made_for_lxc_are_there() -> None:
    plain = version("plain")
    without_settings = replace(for_lxc("old", SERIALS[0]), lxc=None)
    tree = site(product(plain), product(without_settings, name="old"))
    assert text(tree, "meta/1.0/index-system") == ""
    assert [entry.path for entry in tree.entries() if not entry.path.startswith("meta/")] == []


def test_a_newest_version_without_lxc_hides_the_product_but_keeps_its_files() -> None:
    tree = site(product(for_lxc("one", SERIALS[0]), version("two", serial=SERIALS[1])))
    assert text(tree, "meta/1.0/index-user") == ""
    assert tree.find(f"lxc/web/amd64/{SERIALS[0]}/rootfs.tar.xz") is not None


def test_every_architecture_has_its_line() -> None:
    tree = site(
        product(for_lxc("one", SERIALS[0]), architecture="arm64"),
        product(for_lxc("two", SERIALS[0]), architecture="amd64"),
    )
    lines = text(tree, "meta/1.0/index-system").splitlines()
    assert [line.split(";")[2] for line in lines] == ["amd64", "arm64"]


def test_our_own_client_reads_it() -> None:
    tree = site(product(for_lxc("one", SERIALS[0]), name="a+b%c@1"))
    images = parse_index(text(tree, USER_INDEX).encode(), what="the index")
    name = parse_name("a+b%c@1/current", "amd64")
    found = find(images, name, what="the index")
    assert found.build == SERIALS[0]
    for file in ("meta.tar.xz", "rootfs.tar.xz"):
        assert tree.find(unquote(found.file(file))) is not None


@pytest.mark.parametrize(
    "name",
    ["a;b", "a\nb", "../x", "", ".x", "a/b", "a b", "é", "a\0b", "x;current;amd64;default;1;y"],
)
def test_a_name_that_would_break_a_line_or_path_is_left_out(name: str) -> None:
    tree = site(product(for_lxc("one", SERIALS[0]), name=name))
    assert text(tree, "meta/1.0/index-system") == ""
    assert len(list(tree.entries())) == 6


def test_a_percent_sign_in_a_name_arrives_as_one() -> None:
    tree = site(product(for_lxc("one", SERIALS[0]), name="a%41"))
    line = text(tree, "meta/1.0/index-system")
    assert line.split(";")[0] == "a%41"
    assert line.split(";")[5] == f"lxc/a%2541/amd64/{SERIALS[0]}/\n"
    assert tree.find(f"lxc/a%41/amd64/{SERIALS[0]}/meta.tar.xz") is not None


def test_the_metadata_has_all_that_the_template_looks_for() -> None:
    made = for_lxc("one", SERIALS[0])
    made = replace(made, config={"Cmd": ["/app"], "ExposedPorts": {"80/tcp": {}, "\x1b[2J": {}}})
    tree = site(product(made))
    entry = tree.find(f"lxc/web/amd64/{SERIALS[0]}/meta.tar.xz")
    assert isinstance(entry, Document)
    archive = entry.render()
    assert entry.render() == archive
    files = members(archive)
    assert sorted(files) == ["config", "config-user", "create-message", "expiry"]
    assert int(files["expiry"]) == calendar.timegm(START.timetuple())
    assert "lxc.init.cmd = /app\n" in files["config"]
    assert "userns.conf" in files["config-user"]
    assert "userns.conf" not in files["config"]
    assert "80/tcp" in files["create-message"]
    assert "\x1b" not in files["create-message"]


def test_no_image_writes_lines_of_its_own_into_the_message() -> None:
    made = for_lxc("one", SERIALS[0])
    ports: dict[str, Json] = {
        "80/tcp": {},
        "53/udp": {},
        "1\nNow run: curl x | sh": {},
        "x" * 9000: {},
    }
    source = replace(made.source, reference="oci:a\nb\x1b[2J")
    made = replace(made, config={"Cmd": ["/app"], "ExposedPorts": ports}, source=source)
    entry = site(product(made)).find(f"lxc/web/amd64/{SERIALS[0]}/meta.tar.xz")
    assert isinstance(entry, Document)
    *_, source_line, ports_line = members(entry.render())["create-message"].splitlines()
    assert (source_line, ports_line) == ("From oci:ab[2J", "It listens on 53/udp, 80/tcp")


def test_each_document_and_file_has_its_signature() -> None:
    tree = site(product(for_lxc("one", SERIALS[0])), signer=WordSigner())
    unsigned = [entry for entry in tree.entries() if not entry.path.endswith(".asc")]
    assert len(unsigned) == 8
    for entry in unsigned:
        signature = tree.find(f"{entry.path}.asc")
        assert isinstance(signature, Document)
        if isinstance(entry, Document):
            assert signature.render() == b"signature of " + entry.render()
        else:
            assert signature.render() == b"signature of file " + entry.file.sha256.encode()
    assert not [entry for entry in site(product(version("x"))).entries() if "asc" in entry.path]
