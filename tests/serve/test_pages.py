"""The pages: all that people ask of an image is there, and no image says more than its words."""

import base64
import json
import posixpath
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import Json, Product
from lxdocker_lxd.instance_keys import INSTANCE_KEYS
from lxdocker_lxd.serve.entry import Document, FileEntry
from lxdocker_lxd.serve.image_registry import certificates_by_path
from lxdocker_lxd.serve.pages import catalog
from lxdocker_lxd.serve.pages.catalog import search_page
from lxdocker_lxd.serve.pages.image_view import OLD_DAYS, images
from lxdocker_lxd.serve.site import Site
from tests.serve.page_images import HOSTILE, HOSTILE_TEXTS, built, catalogue, history, hostile, web
from tests.serve.page_reader import ReadPage
from tests.serve.trees import URL, content_of, context_of, named, site_of

CERTIFICATE = (
    b"-----BEGIN CERTIFICATE-----\n"
    + base64.b64encode(b"anything")
    + b"\n-----END CERTIFICATE-----\n"
)
ATOM = "{http://www.w3.org/2005/Atom}"
URL_ATTRIBUTES = ("href", "src", "action")


def page_of(site: Site, path: str) -> ReadPage:
    return ReadPage(content_of(site, path))


def nginx() -> ReadPage:
    return page_of(site_of(*web()), "image/nginx/index.html")


def html_paths(site: Site) -> list[str]:
    return [
        entry.path
        for entry in site.entries()
        if isinstance(entry, Document) and entry.media_type.startswith("text/html")
    ]


# ---- the list


def test_the_list_has_every_image() -> None:
    page = page_of(site_of(*catalogue()), "index.html")
    names = sorted({product.name for product in catalogue()})
    assert [element.text for element in page.of_class("name")] == names
    assert [element.attributes["href"] for element in page.of_class("name")] == [
        f"./image/{name}/" for name in names
    ]
    assert f"{len(names)} images" in page.text
    for expected in (
        "Home automation that puts local control and privacy first",
        "ghcr.io/home-assistant/home-assistant:stable",
        "512.3\N{NO-BREAK SPACE}MB".replace("\N{NO-BREAK SPACE}", " "),
        "also www, web/nginx",
        "20260410_040000",
        f"older than {OLD_DAYS} days",
    ):
        assert expected in page.text, expected
    assert "lxc launch lxdocker:home-assistant home-assistant" in page.copied


def test_a_list_of_nothing_says_how_images_come() -> None:
    page = page_of(site_of(), "index.html")
    assert "0 images" in page.text
    assert "Nothing is published yet" in page.text


def test_an_image_gets_old_and_the_site_knows_when() -> None:
    version = built("a", "docker.io/library/a:1", days=1)
    pinned = built("b", "docker.io/library/b@sha256:" + "1" * 64, days=1)
    due = version.published_at + timedelta(days=OLD_DAYS)
    products = (named("a", version), named("b", pinned))
    assert site_of(*products).next_change == due
    before, after = (
        {image.name: image.is_old for image in images(context_of(*products, at=at))}
        for at in (due - timedelta(seconds=1), due)
    )
    assert before == {"a": False, "b": False}
    assert after == {"a": True, "b": False}


# ---- searching


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("home", {"home-assistant"}),
        ("HOME Assistant", {"home-assistant"}),
        ("ghcr.io", {"home-assistant"}),
        ("www", {"nginx"}),
        ("arm64", {"nginx"}),
        ("data store", {"redis"}),
        ("store data", {"redis"}),
        ("data grafana", set()),
        ("<script>", {"evil"}),
        ("  ", {product.name for product in catalogue()}),
        ("\x00", set()),
    ],
)
def test_search(query: str, names: set[str]) -> None:
    page = ReadPage(search_page(context_of(*catalogue()), query))
    assert {element.text for element in page.of_class("name")} == names
    (field,) = page.named("input")
    assert field.attributes["value"] in (query, r"\x00")
    if not names:
        assert "No image matches" in page.text


def test_an_image_is_found_by_its_digests() -> None:
    newest = web()[0].newest
    for word in (newest.fingerprint, newest.source.top_digest, newest.source.manifest_digest[7:30]):
        page = ReadPage(search_page(context_of(*catalogue()), word))
        assert [element.text for element in page.of_class("name")] == ["nginx"]


def test_what_is_searched_stays_text() -> None:
    for text in HOSTILE_TEXTS:
        page = ReadPage(search_page(context_of(*catalogue()), text))
        assert_harmless(page)


# ---- an image


def test_what_an_image_runs_and_offers() -> None:
    text = nginx().text
    for expected in (
        "Web server, reverse proxy and load balancer",
        "Entrypoint /docker-entrypoint.sh",
        "Command nginx -g 'daemon off;'",
        "User root",
        "Ports 80/tcp 443/tcp",
        "Volumes /var/cache/nginx",
        "Health check curl -fsS http://127.0.0.1/healthz || exit 1 (interval 30 s, retries 3)",
        "Stop signal SIGQUIT",
        "PID 1 the supervisor",
        "NGINX_VERSION",
        "maintainer",
    ):
        assert expected in text, expected


def test_where_an_image_comes_from() -> None:
    page = nginx()
    newest = web()[0].newest
    source = newest.source
    for expected in (
        "docker.io/library/nginx:stable",
        source.top_digest,
        source.manifest_digest,
        source.config_digest,
        "linux/amd64",
        source.created or "",
        *(layer.digest for layer in newest.layers),
        newest.fingerprint,
    ):
        assert expected in page.text, expected
    links = {element.attributes["href"] for element in page.named("a")}
    assert {"https://nginx.org/", "https://github.com/nginx/docker-nginx"} <= links


def test_every_version_and_what_changed() -> None:
    page = nginx()
    for version in web()[0].versions:
        assert page.text.count(version.serial) >= 1
        assert f"{version.published_at:%Y-%m-%d %H:%M} UTC" in page.text
    for expected in (
        "Layers: 1 new, 1 gone, 2 kept",
        "Layers: 2 new, 2 gone, 1 kept",
        "Ports: added 443/tcp",
        "Volumes: added /var/cache/nginx",
        "NGINX_VERSION 1.27.4 1.28.0",
        "DYNPKG_RELEASE 1 not set",
        "NJS_VERSION not set 0.9.0",
        "Download +1.1 MB, unpacked +3.0 MB, +330 files and directories",
        "Rebuilt because the source image changed.",
        "The oldest version that is listed.",
        "Command, user, environment, ports and volumes are the same.",
        *(layer.digest for version in web()[0].versions for layer in version.layers),
    ):
        assert expected in page.text, expected


def test_a_version_that_waits_says_until_when() -> None:
    versions = history(
        built("old", "docker.io/library/a:1", days=3),
        built("new", "docker.io/library/a:1", days=0.01),
    )
    site = site_of(named("a", *versions), publish_delay_seconds=7200)
    page = page_of(site, "image/a/index.html")
    until = versions[1].published_at + timedelta(hours=2)
    assert f"waits until {until:%Y-%m-%d %H:%M} UTC" in page.text
    assert versions[0].serial in page_of(site, "index.html").text


def test_commands_for_every_client() -> None:
    assert nginx().copied[:5] == [
        "lxc launch lxdocker:nginx nginx",
        "incus launch lxdocker:nginx nginx",
        (
            "lxc-create -t download -n nginx -- --server images.example:8443"
            " -d nginx -r current -a amd64"
        ),
        "lxc config device add nginx tcp-80 proxy listen=tcp:0.0.0.0:80 connect=tcp:127.0.0.1:80",
        "lxc config device add nginx tcp-443 proxy listen=tcp:0.0.0.0:443 connect=tcp:127.0.0.1:443",
    ]
    assert f"lxc remote add lxdocker {URL} --protocol=simplestreams --public" in nginx().copied


def test_only_sensible_ports_get_a_command() -> None:
    ports = {
        "53/udp",
        "8080",
        "0/tcp",
        "65536/tcp",
        "99999/tcp",
        "1-9/tcp",
        "80/sctp",
        "x",
        "٣/tcp",
    }
    version = built(
        "a", "docker.io/library/a:1", config={"ExposedPorts": {port: {} for port in ports}}
    )
    found = page_of(site_of(named("a", version)), "image/a/index.html").copied
    proxies = [line for line in found if " proxy " in line]
    assert proxies == [
        "lxc config device add a tcp-1-9 proxy listen=tcp:0.0.0.0:1-9 connect=tcp:127.0.0.1:1-9",
        "lxc config device add a udp-53 proxy listen=udp:0.0.0.0:53 connect=udp:127.0.0.1:53",
        "lxc config device add a tcp-8080 proxy listen=tcp:0.0.0.0:8080 connect=tcp:127.0.0.1:8080",
    ]
    thousands = built(
        "b", "docker.io/library/a:1", config={"ExposedPorts": {str(n): {} for n in range(1, 5000)}}
    )
    found = page_of(site_of(named("b", thousands)), "image/b/index.html").copied
    assert len([line for line in found if " proxy " in line]) == 8


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("web.example", " web-example"),
        ("a_b", " a-b"),
        ("0web", ""),
        ("x" * 64, " " + "x" * 63),
        ("a" * 62 + "_b", " " + "a" * 62),
    ],
)
def test_the_instance_gets_a_name_lxd_takes(name: str, instance: str) -> None:
    site = site_of(named(name, built("a", "docker.io/library/a:1")))
    assert page_of(site, f"image/{name}/index.html").copied[0] == (
        f"lxc launch lxdocker:{name}{instance}"
    )


def test_commands_are_quoted_for_a_shell() -> None:
    context = context_of(named("web", built("a", "x:1")), remote_name="my remote;$(id)")
    copied = ReadPage(search_page(context, "")).copied
    assert copied[0] == "lxc launch 'my remote;$(id):web' web"
    assert f"lxc remote add 'my remote;$(id)' {URL} --protocol=simplestreams --public" in copied
    assert "install -Dm644 ca.crt ~/.config/lxc/servercerts/'my remote;$(id).crt'" in copied


def test_the_authority_is_offered_with_its_fingerprint() -> None:
    pem = CERTIFICATE
    (path,) = certificates_by_path(pem)
    found = site_of(*web(), certificates=pem)
    page = page_of(found, "image/nginx/index.html")
    (link,) = (element for element in page.named("a") if element.text == "ca.crt")
    assert link.attributes["href"] == f"../../{path}"
    assert found.find(path)
    assert path.removeprefix("certs/") in page.text


def test_settings_that_images_read() -> None:
    text = page_of(site_of(), "instance-keys/index.html").text
    for key in INSTANCE_KEYS:
        # One key's name may begin another's.
        named = re.search(rf"{re.escape(key.name)}(?![\w.])", text) is not None
        assert named == (key.read_by == "guest"), key.name


# ---- hostile images


def assert_harmless(page: ReadPage) -> None:
    """Nothing runs, loads or leads where it should not."""
    for element in page.elements:
        assert element.name not in {"iframe", "object", "embed", "style", "svg", "base", "b"}
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
        for name in URL_ATTRIBUTES:
            address = element.attributes.get(name, "")
            assert re.match(r"(https://|[./#])", address) or not address, address
            assert "evil.example" not in address
    assert [script.text for script in page.named("script")] == [""]
    assert len(list(page.named("img"))) == 1
    (policy,) = (meta for meta in page.named("meta") if "http-equiv" in meta.attributes)
    assert policy.attributes["http-equiv"] == "Content-Security-Policy"
    assert policy.attributes["content"].startswith("default-src 'none'; ")
    assert "unsafe" not in policy.attributes["content"]


def test_a_hostile_image_stays_text() -> None:
    found = site_of(*catalogue())
    for path in ("index.html", "image/evil/index.html"):
        page = page_of(found, path)
        assert_harmless(page)
        assert "<script>alert(1)</script>" in page.text
        assert "{{ 7 * 7 }}" in page.text
        for character in "\u202e\x00\x1b\x07":
            assert character not in page.text
    links = {element.attributes["href"] for element in page.named("a")}
    assert not [link for link in links if "alert" in link or "bank" in link]


def test_what_is_copied_of_a_hostile_image_is_quoted() -> None:
    page = page_of(site_of(hostile()), "image/evil/index.html")
    assert page.copied[:2] == ["lxc launch lxdocker:evil evil", "incus launch lxdocker:evil evil"]
    assert not [line for line in page.copied if "alert" in line]


@pytest.mark.parametrize(
    "name", ["a/b", "..", "a b", "<b>", "-x", "Ä", "a#b", "x" * 300, "a\nb", "\ud800"]
)
def test_an_image_of_an_impossible_name_breaks_nothing(name: str) -> None:
    found = site_of(named(name, built("a", "docker.io/library/a:1")), *web())
    assert "nginx" in page_of(found, "index.html").text
    for path in html_paths(found):
        assert_harmless(page_of(found, path))
        assert re.fullmatch(r"(image/[A-Za-z0-9._-]+/|instance-keys/)?index\.html", path)
    json.loads(content_of(found, "images.json"))
    ET.fromstring(content_of(found, "feed.atom"))  # noqa: S314 - our own document


def test_huge_texts_make_no_huge_page() -> None:
    big = "x" * 3_000_000
    version = built(
        "a",
        "docker.io/library/a:1",
        config={"Cmd": [big], "Labels": {"big": big}, "Env": [f"BIG={big}"], "User": big},
    )
    product = replace(named("a", version), description=big, properties={"p": big})
    found = site_of(product)
    for path in html_paths(found):
        assert len(content_of(found, path)) < 100_000


ANY_TEXT = st.text(
    alphabet=st.characters() | st.sampled_from("<>&\"'`={}%#\u202e\x00\n\ud800"), max_size=30
)


@given(texts=st.lists(ANY_TEXT, min_size=9, max_size=9), name=ANY_TEXT)
def test_no_text_breaks_a_page(texts: list[str], name: str) -> None:
    reference, user, label, variable, volume, alias, about, value, created = texts
    config: dict[str, Json] = {
        "User": user,
        "Cmd": [user, label],
        "Labels": {label: value, "org.opencontainers.image.url": value},
        "Env": [f"{variable}={value}"],
        "Volumes": {volume: {}},
        "ExposedPorts": {volume: {}},
        "Healthcheck": {"Test": [value, user]},
    }
    version = built("a", "a:1", config=config)
    source = replace(version.source, reference=reference, created=created)
    versions = history(built("b", "b:1", days=2), replace(version, source=source))
    odd = replace(
        named(name, *versions, aliases=(alias,)), description=about, properties={label: about}
    )
    context = context_of(odd, replace(odd, name="plain"))
    found = Site(catalog.entries(context), roots=(), servable={})
    for path in html_paths(found):
        assert_harmless(page_of(found, path))
    assert "image/plain/index.html" in html_paths(found)
    json.loads(content_of(found, "images.json"))
    ET.fromstring(content_of(found, "feed.atom"))  # noqa: S314 - our own document
    assert_harmless(ReadPage(search_page(context, about)))


# ---- the tree


def links_of(page: ReadPage) -> Iterator[str]:
    for element in page.elements:
        for name in URL_ATTRIBUTES:
            if name in element.attributes:
                yield element.attributes[name]


def test_every_link_leads_somewhere() -> None:
    """By relative paths alone: so it holds in an export, and below any prefix."""
    found = site_of(*catalogue(), certificates=CERTIFICATE)
    paths = {entry.path for entry in found.entries()}
    for path in html_paths(found):
        page = page_of(found, path)
        ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
        assert len(ids) == len(set(ids)), path
        for link in links_of(page):
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.hostname in {"nginx.org", "github.com", "www.home-assistant.io"}
                continue
            if not parts.path:
                assert unquote(parts.fragment) in ids, link
                continue
            assert link.startswith("."), link
            target = posixpath.normpath(
                posixpath.join(posixpath.dirname(path), unquote(parts.path))
            )
            target = "" if target == "." else target
            if parts.path.endswith("/"):
                target = f"{target}/index.html".lstrip("/")
            assert target in paths, (path, link)


def test_pages_are_the_same_each_time() -> None:
    first, second = site_of(*catalogue()), site_of(*catalogue())
    for path in [*html_paths(first), "images.json", "feed.atom"]:
        assert content_of(first, path) == content_of(second, path)


def test_what_pages_load_is_small_and_named_by_its_content() -> None:
    found = site_of()
    sizes = {
        entry.path: len(entry.render())
        for entry in found.entries()
        if entry.path.startswith("static/") and isinstance(entry, Document)
    }
    assert all(re.fullmatch(r"static/[a-z]+-[0-9a-f]{12}\.[a-z]+", path) for path in sizes)
    limits = {"css": 10_000, "js": 3_000, "svg": 1_000}
    assert len(sizes) == len(limits)
    for path, size in sizes.items():
        assert size < limits[path.rpartition(".")[2]], path


def test_files_on_a_page_are_those_the_site_serves() -> None:
    found = site_of(*web())
    page = page_of(found, "image/nginx/index.html")
    downloads = {
        element.attributes["href"]
        for element in page.named("a")
        if "download" in element.attributes
    }
    files = [found.find(link.removeprefix("../../")) for link in downloads]
    assert {entry.file for entry in files if isinstance(entry, FileEntry)} == {
        file for product in web() for version in product.versions for file in version.files
    }


def test_a_thousand_images_make_a_list_in_no_time() -> None:
    products: list[Product] = [
        named(f"app{number}", built(f"app{number}", "docker.io/library/a:1"))
        for number in range(1000)
    ]
    context = context_of(*products)
    began = time.perf_counter()
    search_page(context, "")
    search_page(context, "app99")
    assert time.perf_counter() - began < 2


# ---- for programs


def test_every_key_is_described() -> None:
    text = (Path(__file__).parents[2] / "docs/pages.md").read_text()
    described = set(re.findall(r"`([a-z0-9_]+)`", text.partition("## images.json")[2]))
    document = json.loads(content_of(site_of(*web()), "images.json"))
    (image,) = document["images"]
    version = image["architectures"]["amd64"][0]
    parts = [document, image, version, version["source"], version["layers"][0]]
    parts += [version["files"][0], version["runs"], version["runs"]["health_check"]]
    parts += [version["changes"], version["changes"]["layers"]]
    assert {key for part in parts for key in part} <= described


def test_the_document_of_all_images() -> None:
    document = json.loads(content_of(site_of(*catalogue()), "images.json"))
    assert document["format"] == 1
    assert document["server"] == URL
    found = {image["name"]: image for image in document["images"]}
    assert set(found) == {product.name for product in catalogue()}
    newest, *older = found["nginx"]["architectures"]["amd64"]
    assert (newest["state"], [one["state"] for one in older]) == ("current", ["superseded"] * 2)
    assert newest["source"]["reference"] == "docker.io/library/nginx:stable"
    assert newest["runs"]["ports"] == ["80/tcp", "443/tcp"]
    assert newest["runs"]["health_check"]["retries"] == 3
    assert newest["changes"]["layers"]["kept"] == 2
    assert older[-1]["changes"] is None
    assert found["evil"]["description"] == HOSTILE


def test_the_feed_is_atom() -> None:
    """RFC 4287, 4.1: what a feed and its entries must have."""
    root = ET.fromstring(content_of(site_of(*catalogue()), "feed.atom"))  # noqa: S314 - our own
    assert root.tag == f"{ATOM}feed"
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    entries = root.findall(f"{ATOM}entry")
    versions = [version for product in catalogue() for version in product.versions]
    assert len(entries) == len(versions)
    for element in (root, *entries):
        for name in ("id", "title", "updated"):
            (found,) = element.findall(f"{ATOM}{name}")
            assert found.text
        assert moment.fullmatch(element.findtext(f"{ATOM}updated") or "")
    assert root.findtext(f"{ATOM}author/{ATOM}name")
    (own,) = (link for link in root.findall(f"{ATOM}link") if link.get("rel") == "self")
    assert own.get("href") == f"{URL}/feed.atom"
    ids = [entry.findtext(f"{ATOM}id") for entry in entries]
    assert len(set(ids)) == len(ids)
    updated = [entry.findtext(f"{ATOM}updated") or "" for entry in entries]
    assert updated == sorted(updated, reverse=True)
    text = "\n".join(entry.findtext(f"{ATOM}content") or "" for entry in entries)
    assert "layers: 1 new, 1 gone, 2 kept" in text
    assert "environment changed: DYNPKG_RELEASE, NGINX_VERSION, NJS_VERSION" in text


def test_links_of_the_feed_lead_to_pages() -> None:
    found = site_of(*catalogue())
    root = ET.fromstring(content_of(found, "feed.atom"))  # noqa: S314 - our own
    for link in root.iterfind(f".//{ATOM}entry/{ATOM}link"):
        address = (link.get("href") or "").removeprefix(f"{URL}/")
        assert found.find(f"{address}index.html"), address


def test_the_feed_has_the_newest_of_many() -> None:
    products = [
        named(
            f"app{number}",
            *history(*(built(f"{number} {n}", "a:1", days=number + 40 - n) for n in range(3))),
        )
        for number in range(60)
    ]
    root = ET.fromstring(content_of(site_of(*products), "feed.atom"))  # noqa: S314 - our own
    updated = [entry.findtext(f"{ATOM}updated") or "" for entry in root.iterfind(f"{ATOM}entry")]
    moments = sorted(
        (version.published_at for product in products for version in product.versions),
        reverse=True,
    )
    assert updated == [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in moments[:100]]
