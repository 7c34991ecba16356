"""``import`` and ``refresh`` against a real LXD: what arrives, under which names, and what never stays."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.annotations import URL, VERSION
from lxdocker_lxd.interpretation import interpret
from tests.harness.fake_registry import FakeRegistry, fake_registry
from tests.harness.image_server import free_port, image_server
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.harness.tiny_image import tiny_image
from tests.lxd.data_image import NOTES, write_data_layout
from tests.lxd.user import User

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

BUSYBOX = {"bin/busybox": Path("/bin/busybox").read_bytes()}
SLEEP = {"Entrypoint": ["/bin/busybox", "sleep", "1000000"]}
UPLOADED = 24 << 20


@pytest.fixture
def user(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[User]:
    """Somebody at a machine with LXD; what they make there ends with the test."""
    one = User(lxd=private_lxd, home=tmp_path / "home")
    one.clean()
    yield one
    one.clean()


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An image in a layout, tagged 1.0."""
    write_data_layout(tmp_path / "db")
    return tmp_path / "db"


@pytest.fixture
def hub(user: User) -> Iterator[FakeRegistry]:
    """A registry that stands in for Docker Hub, as a mirror would."""
    with fake_registry() as registry:
        settings = f"registries: {{docker.io: {{mirrors: [{registry.host}]}}}}\n"
        with (user.home / "config.yaml").open("a") as file:
            file.write(settings)
        yield registry


def test_an_image_is_sent_once_and_named(user: User, layout: Path) -> None:
    source = f"oci:{layout}:1.0"
    planned = user.image(source, "--dry-run")
    assert (planned["outcome"], user.images()) == ("would-import", {})
    assert not (user.home / "imports").exists()

    first = user.image(source)
    assert first["outcome"] == "imported"
    assert user.aliases() == {"db/1.0": first["fingerprint"]}
    properties = user.images()[first["fingerprint"]]["properties"]
    assert properties["requirements.lxdocker.image"] == source
    assert properties["serial"] == first["serial"]
    assert (properties[VERSION], properties[URL]) == ("1", NOTES)

    again = user.image(source, "--alias", "db")
    assert again["outcome"] == "renamed"
    assert user.aliases() == dict.fromkeys(("db/1.0", "db"), first["fingerprint"])
    assert user.image(source)["outcome"] == "unchanged"
    assert user.image(source, "--dry-run")["outcome"] == "would-keep"


def test_each_format_arrives_and_runs(user: User, layout: Path) -> None:
    for number, form in enumerate(("tar", "gzip")):
        more = {"LXDOCKER_LXD_IMAGEFORMAT": form}
        user.image(f"oci:{layout}:1.0", "--alias", form, more=more)
        name = user.lxd.launch(form, f"run{number}")
        user.lxd.wait_console(name, "1: started as 70")


def test_refresh_follows_the_source_and_forgets_what_was_deleted(user: User, layout: Path) -> None:
    old = user.image(f"oci:{layout}:1.0", "--alias", "db")["fingerprint"]
    (kept,) = user.run("refresh", "--format", "json").json["images"]
    assert kept["outcome"] == "unchanged"

    shutil.rmtree(layout)
    write_data_layout(layout, version="2")
    (planned,) = user.run("refresh", "--dry-run", "--format", "json").json["images"]
    assert planned["outcome"] == "would-import"
    (fresh,) = user.run("refresh", "--format", "json").json["images"]
    assert (fresh["outcome"], fresh["moved_aliases"]) == ("imported", ["db"])
    assert fresh["deleted_images"] == [old]
    assert user.aliases() == {"db": fresh["fingerprint"]}
    assert set(user.images()) == {fresh["fingerprint"]}

    user.lxd.lxc("image", "delete", "db")
    (gone,) = user.run("refresh", "--format", "json").json["images"]
    assert (gone["outcome"], user.images()) == ("forgotten", {})
    assert user.run("refresh", "--format", "json").json["images"] == []
    assert list((user.home / "imports/specs").iterdir()) == []


def test_one_import_that_fails_does_not_stop_the_others(
    user: User, layout: Path, tmp_path: Path
) -> None:
    write_data_layout(tmp_path / "other", version="other")
    user.image(f"oci:{layout}:1.0")
    user.image(f"oci:{tmp_path}/other:1.0")
    shutil.rmtree(layout)
    said = user.run("refresh", "--format", "json", code=1)
    outcomes = {one["aliases"][0]: one["outcome"] for one in said.json["images"]}
    assert outcomes == {"db/1.0": "failed", "other/1.0": "unchanged"}
    assert "error: db-1-0" in said.err
    # What could not be looked at stays as it was.
    assert set(user.aliases()) == {"db/1.0", "other/1.0"}


def test_an_alias_of_another_image_is_taken_only_when_asked(
    user: User, layout: Path, tmp_path: Path
) -> None:
    write_data_layout(tmp_path / "other", version="other")
    theirs = user.image(f"oci:{tmp_path}/other:1.0", "--alias", "db")["fingerprint"]
    source = f"oci:{layout}:1.0"
    said = user.run("import", source, "--alias", "db", code=7)
    assert said.err.splitlines() == [
        f"error: the alias 'db' of project default names another image ({theirs[:12]})",
        "hint: move it with --replace, or choose another name with --alias",
    ]
    assert set(user.images()) == {theirs}

    planned = user.image(source, "--alias", "db", "--replace", "--dry-run")
    assert (planned["outcome"], planned["moved_aliases"]) == ("would-import", ["db"])
    moved = user.image(source, "--alias", "db", "--replace")
    assert (moved["moved_aliases"], moved["deleted_images"]) == (["db"], [])
    assert set(user.images()) == {theirs, moved["fingerprint"]}
    back = user.image(f"oci:{tmp_path}/other:1.0", "--alias", "db", "--replace", "--old", "delete")
    assert back["deleted_images"] == [moved["fingerprint"]]
    assert user.aliases() == {"db": theirs}


@pytest.mark.parametrize("alias", ["", "a b", "db:1.0", "a,b"])
def test_an_alias_that_nobody_could_name_never_reaches_lxd(
    user: User, layout: Path, alias: str
) -> None:
    said = user.run("import", f"oci:{layout}:1.0", "--alias", alias, code=2)
    assert said.err.startswith("error: --alias: ")
    assert user.images() == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_broken_upload_leaves_nothing(user: User, tmp_path: Path, number: signal.Signals) -> None:
    write_data_layout(tmp_path / "big", extra=os.urandom(UPLOADED))
    command = user.start("import", f"oci:{tmp_path}/big:1.0", "--progress", "json")
    assert command.stderr is not None
    for line in command.stderr:
        event = json.loads(line)
        if (event["event"], event.get("stage")) == ("bytes-done", "send"):
            break
    command.send_signal(number)
    command.communicate(timeout=60)
    assert command.returncode == (130 if number == signal.SIGINT else -number)
    store = user.lxd.directory / "images"
    eventually(lambda: not list(store.iterdir()), timeout_seconds=20, what="LXD to clean up")
    assert (user.images(), user.aliases()) == ({}, {})
    # The next try neither pulls nor builds again.
    assert user.image(f"oci:{tmp_path}/big:1.0")["outcome"] == "imported"


def test_a_project_has_images_of_its_own_or_those_of_the_default_one(
    user: User, layout: Path
) -> None:
    source = f"oci:{layout}:1.0"
    user.lxd.lxc("project", "create", "own", "-c", "features.images=true")
    user.lxd.lxc("project", "create", "shared", "-c", "features.images=false")
    try:
        mine = user.image(source, "--project", "own")
        assert mine["outcome"] == "imported"
        assert (set(user.aliases("own")), set(user.aliases())) == ({"db/1.0"}, set())
        assert user.image(source, "--project", "shared")["outcome"] == "imported"
        assert set(user.aliases()) == {"db/1.0"}
        outcomes = user.run("refresh", "--format", "json").json["images"]
        assert [(one["project"], one["outcome"]) for one in outcomes] == [
            ("own", "unchanged"),
            ("shared", "unchanged"),
        ]
        assert "hint: check the name and the project" in (
            user.run("import", source, "--project", "nosuch", code=3).err
        )
    finally:
        for fingerprint in user.images("own"):
            user.lxd.query("DELETE", f"/1.0/images/{fingerprint}?project=own")
        user.lxd.lxc("project", "delete", "own")
        user.lxd.lxc("project", "delete", "shared")


def test_a_catalogue_image_and_a_specification_go_by_their_names(user: User, layout: Path) -> None:
    spec = user.home / "specs" / "shop.yaml"
    spec.write_text(f"image: oci:{layout}:1.0\naliases: [store]\nenv: {{A: b}}\n")
    by_spec = user.image("shop")
    assert user.aliases() == dict.fromkeys(("shop", "store"), by_spec["fingerprint"])
    spec.rename(user.home / "shop.yaml")
    by_catalogue = user.image("store")
    assert (by_catalogue["name"], by_catalogue["outcome"]) == ("shop", "unchanged")
    assert by_catalogue["fingerprint"] == by_spec["fingerprint"]


class TestLxe:
    """The aliases under which LXE looks for official images in the local store."""

    def test_every_short_name_resolves(self, user: User, hub: FakeRegistry) -> None:
        image = tiny_image(BUSYBOX, config=SLEEP)
        for tag in ("latest", "1.25"):
            digest = hub.push("library/nginx", tag, image)
        user.image("nginx", "--lxe")
        user.image("docker.io/library/nginx:1.25", "--lxe")
        pods = ["nginx", "nginx:latest", "docker.io/library/nginx", "nginx:1.25"]
        pods += ("docker.io/library/nginx:1.25", f"nginx@{digest}")
        for pod in pods:
            readings = {reading.key: reading.meaning for reading in interpret(pod)}
            assert readings["lxe_remote"] == "default (local)"
            assert readings["lxe_alias"] in user.aliases(), pod
        # lxc itself finds them too.
        user.lxd.lxc("image", "info", "local:nginx%1.25")

    def test_a_digest_moves_on_with_its_name(self, user: User, hub: FakeRegistry) -> None:
        first = hub.push("library/nginx", "latest", tiny_image(BUSYBOX, config=SLEEP))
        user.image("nginx", "--lxe")
        later = {**SLEEP, "Env": ["A=b"]}
        second = hub.push("library/nginx", "latest", tiny_image(BUSYBOX, config=later))
        (fresh,) = user.run("refresh", "--format", "json").json["images"]
        assert fresh["outcome"] == "imported"
        assert f"nginx@{second.replace(':', '%')}" in user.aliases()
        # The name of the earlier bytes goes with them; it must not stand for the later ones.
        assert f"nginx@{first.replace(':', '%')}" not in user.aliases()
        assert set(user.images()) == {fresh["fingerprint"]}

    def test_names_of_one_digest_share_their_alias(self, user: User, hub: FakeRegistry) -> None:
        image = tiny_image(BUSYBOX, config=SLEEP)
        for tag in ("latest", "1.25"):
            digest = hub.push("library/nginx", tag, image)
        pinned = f"nginx@{digest.replace(':', '%')}"
        first = user.image("nginx", "--lxe")["fingerprint"]
        user.image("nginx:1.25", "--lxe")
        assert user.aliases()[pinned] == first
        by_digest = user.image(f"nginx@{digest}")
        assert user.aliases()[pinned] == by_digest["fingerprint"]
        outcomes = user.run("refresh", "--format", "json").json["images"]
        assert [one["outcome"] for one in outcomes] == ["unchanged"] * 3

    def test_other_names_are_told_to_be_served(self, user: User) -> None:
        said = user.run("import", "ghcr.io/owner/app", "--lxe", code=2)
        assert "it copies it from a remote" in said.err
        assert "--print-remotes" in said.err


class TestServers:
    """Images that the daemon fetches by itself."""

    def test_by_url_and_by_remote(self, user: User, tmp_path: Path) -> None:
        (tmp_path / "server").mkdir()
        with image_server(tmp_path / "server") as server:
            server.publish("web", files=BUSYBOX, entrypoint=["/bin/busybox", "sleep", "9"])
            got = user.image("web", "--from", server.url, "--ca", server.authority)
            assert (got["outcome"], set(user.aliases())) == ("imported", {"web"})
            source = user.images()[got["fingerprint"]]["update_source"]
            assert (source["alias"], bool(source["certificate"])) == ("web", True)
            # The same image, now by the name of a remote that lxc knows.
            certificates = user.home / "lxc" / "servercerts"
            certificates.mkdir()
            shutil.copy(server.authority, certificates / "shop.crt")
            (user.home / "lxc" / "config.yml").write_text(
                "default-remote: local\nremotes:\n  shop:\n"
                f"    addr: {server.url}\n    protocol: simplestreams\n    public: true\naliases: {{}}\n"
            )
            copied = user.image("shop/web:1.0")
            assert (copied["outcome"], copied["aliases"]) == ("renamed", ["shop/web"])
            assert copied["fingerprint"] == got["fingerprint"]

            said = user.run("import", "shop/nosuch", code=7)
            assert "nosuch" in said.err
            assert "hint: check the server, its certificate and the name" in said.err
            said = user.run("import", "web", "--from", f"{server.url}/./", "--alias", "x", code=7)
            assert "certificate" in said.err
        assert set(user.aliases()) == {"web", "shop/web"}

    def test_our_own_remotes_mean_the_registry(self, user: User, hub: FakeRegistry) -> None:
        hub.push("grafana/grafana", "latest", tiny_image(BUSYBOX, config=SLEEP))
        with (user.home / "config.yaml").open("a") as file:
            file.write("url: https://images.example:8443\n")
        (user.home / "lxc" / "config.yml").write_text(
            "remotes:\n  grafana:\n    addr: https://images.example:8443/lxe/hub/grafana\n"
            "    protocol: simplestreams\n    public: true\n"
        )
        assert user.image("grafana/grafana")["aliases"] == ["grafana/grafana"]
        (record,) = json.loads((user.home / "imports/imports.json").read_text())["imports"]
        assert record["kind"] == "source"


class TestRemoteLxd:
    """A LXD somewhere else, over HTTPS with certificates on both sides."""

    @pytest.fixture
    def remote(self, user: User) -> Iterator[User]:
        config = user.home / "lxc"
        key, certificate = config / "client.key", config / "client.crt"
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
            *("-nodes", "-days", "2", "-subj", "/CN=tester", "-keyout", key, "-out", certificate),
        )
        user.lxd.lxc("config", "trust", "add", certificate, "--name", "tester")
        user.lxd.lxc("config", "set", "core.https_address", f"127.0.0.1:{free_port()}")
        server = user.lxd.query("GET", "/1.0")
        (config / "servercerts").mkdir()
        (config / "servercerts/far.crt").write_text(server["environment"]["certificate"])
        self.write_config(user, server["environment"]["addresses"][0])
        yield user
        user.lxd.lxc("config", "unset", "core.https_address")
        for one in user.lxd.query("GET", "/1.0/certificates?recursion=1"):
            user.lxd.lxc("config", "trust", "remove", one["fingerprint"])

    @staticmethod
    def write_config(user: User, address: str) -> None:
        (user.home / "lxc/config.yml").write_text(
            f"default-remote: local\nremotes:\n  far:\n    addr: https://{address}\n"
            "    auth_type: tls\n    project: default\n    protocol: lxd\n    public: false\n"
        )

    def test_an_image_gets_there_and_is_refreshed_there(self, remote: User, layout: Path) -> None:
        # The socket is out of reach; only HTTPS leads there.
        far = ("--target-remote", "far")
        there = {"LXD_DIR": "/nonexistent"}
        got = remote.image(f"oci:{layout}:1.0", *far, more=there)
        assert (got["outcome"], got["remote"]) == ("imported", "far")
        shutil.rmtree(layout)
        write_data_layout(layout, version="2")
        (fresh,) = remote.run("refresh", "--format", "json", more=there).json["images"]
        assert (fresh["remote"], fresh["outcome"]) == ("far", "imported")
        assert set(remote.images()) == {fresh["fingerprint"]}

    def test_an_instance_is_launched_and_read_there(self, remote: User, layout: Path) -> None:
        far, there = ("--target-remote", "far"), {"LXD_DIR": "/nonexistent"}
        remote.run("launch", f"oci:{layout}:1.0", "db", *far, "--wait", more=there)
        (found,) = remote.run("ps", *far, "--format", "json", more=there).json["instances"]
        assert (found["name"], found["health"]) == ("db", "healthy")
        assert "started as 70" in remote.run("logs", "db", *far, more=there).out
        # The project is the remote's own unless another one is named.
        config = remote.home / "lxc" / "config.yml"
        config.write_text(config.read_text().replace("project: default", "project: nosuch"))
        remote.run("logs", "db", *far, code=3, more=there)
        remote.run("logs", "db", *far, "--project", "default", more=there)

    def test_certificates_that_are_not_trusted_say_what_to_do(
        self, remote: User, layout: Path
    ) -> None:
        source, far = f"oci:{layout}:1.0", ("--target-remote", "far")
        pinned = remote.home / "lxc/servercerts/far.crt"
        good = pinned.read_text()
        trustme.CA().cert_pem.write_to_path(str(pinned))
        said = remote.run("import", source, *far, code=5)
        assert len(said.err.splitlines()) == 2
        assert "certificate" in said.err
        pinned.write_text(good)
        for one in remote.lxd.query("GET", "/1.0/certificates?recursion=1"):
            remote.lxd.lxc("config", "trust", "remove", one["fingerprint"])
        said = remote.run("import", source, *far, code=4)
        assert "hint: add it there: `lxc config trust add client.crt`" in said.err
        assert remote.images() == {}
