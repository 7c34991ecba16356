"""Runs of the converter, from specifications to a catalogue."""

import json
import os
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml

from lxdocker_lxd.catalogue import Catalogue
from lxdocker_lxd.convert.run import RunReport
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import InternalError, NotFoundError, StorageError, UsageError
from lxdocker_lxd.progress import BytesDone, Event, ImageFinished, Notice, StageStarted
from lxdocker_lxd.serve.pages import catalog
from lxdocker_lxd.serve.site import Site
from tests.convert.workshop import Events, Workshop, outcome, outcomes, static_program
from tests.harness.tiny_image import tiny_image, tiny_index
from tests.serve.trees import content_of, context_of


def test_a_first_run_builds_everything_and_a_second_one_nothing(workshop: Workshop) -> None:
    workshop.both("web", b"one")
    workshop.both("db", b"two")
    first = workshop.run()
    assert outcomes(first) == {"db": "built", "web": "built"}
    assert [one.reason for one in first.outcomes] == ["new", "new"]
    before = workshop.directory.document.read_bytes()
    second = workshop.run(hours_later=5)
    assert outcomes(second) == {"db": "unchanged", "web": "unchanged"}
    assert workshop.directory.document.read_bytes() == before
    assert workshop.directory.verify() == ()
    assert first.exit_code == second.exit_code == 0


def test_an_image_carries_its_files_the_guest_and_its_own_story(workshop: Workshop) -> None:
    made = workshop.image("web", {"etc/content": b"one"}, config={"Env": ["A=1"], "Cmd": ["x"]})
    workshop.spec("web", "env: {B: 2}\nvolumes: [/data]\nports: [80]\n")
    workshop.run()
    with tarfile.open(workshop.file("web")) as archive:
        names = archive.getnames()
        assert {"etc/content", "sbin/init", "busybox-lxd", "lxd-image.json"} <= set(names)
        member = archive.extractfile("lxd-image.json")
        assert member is not None
        story = json.load(member)
    assert story["manifest_digest"] == made.digest
    assert story["image"] == "oci:web.layout"
    assert story["config"]["Env"] == ["A=1", "B=2"]
    assert story["oci"]["config"] == {"Env": ["A=1"], "Cmd": ["x"]}
    assert (story["volumes"], story["ports"]) == (["/data"], ["80/tcp"])


def test_secrets_of_a_specification_are_warned_of_and_not_told(workshop: Workshop) -> None:
    workshop.image("web", {"etc/content": b"one"}, config={"Env": ["API_TOKEN=hunter1"]})
    workshop.spec(
        "web", "env: {DB_PASSWORD: hunter2, DB_PASSWORD_FILE: /run/db, B: 2}\nlxc: true\n"
    )
    workshop.run()
    warned = [event.text for event in workshop.events.all if isinstance(event, Notice)]
    assert len(warned) == 1
    assert "env: DB_PASSWORD looks like a secret" in warned[0]
    assert "as environment.DB_PASSWORD (lxdocker-lxd launch --env-file FILE)" in warned[0]
    assert "LXDOCKER_ENVFILE" in warned[0]
    told = ["API_TOKEN", "B=2", "DB_PASSWORD", "DB_PASSWORD_FILE=/run/db"]
    assert workshop.product("web").newest.config["Env"] == told
    assert b"hunter" not in workshop.directory.document.read_bytes()
    with tarfile.open(workshop.file("web")) as archive:
        story = archive.extractfile("lxd-image.json")
        variables = archive.extractfile(".lxdocker/image/env")
        assert story is not None
        assert variables is not None
        assert b"hunter" not in story.read()
        # The command gets them all the same; other users of the instance don't see them here.
        assert b"DB_PASSWORD=hunter2\0" in variables.read()
        assert archive.getmember(".lxdocker/image/env").mode == 0o600
    site = Site(catalog.entries(context_of(workshop.product("web"))), roots=(), servable={})
    for path in ("images.json", "feed.atom", "image/web/index.html"):
        assert b"hunter" not in content_of(site, path)
    assert b'"DB_PASSWORD":"[hidden]"' in content_of(site, "images.json")


def test_secrets_in_a_catalogue_of_an_earlier_release_are_not_told(workshop: Workshop) -> None:
    workshop.both("web", b"one", "env: {DB_PASSWORD: x}\n")
    workshop.run()
    document = workshop.directory.document
    document.write_bytes(document.read_bytes().replace(b'"DB_PASSWORD"', b'"DB_PASSWORD=hunter2"'))
    assert workshop.product("web").newest.config["Env"] == ["DB_PASSWORD"]


def test_the_catalogue_tells_source_layers_sizes_and_configuration(workshop: Workshop) -> None:
    made = workshop.image("web", {"etc/content": b"one"}, config={"Cmd": ["x"], "User": "web"})
    workshop.spec("web", "description: The web\nproperties: {team: a}\naliases: [www]\n")
    workshop.run()
    product = workshop.product("web")
    version = product.newest
    assert (product.description, dict(product.properties)) == ("The web", {"team": "a"})
    assert product.aliases == ("www",)
    assert version.source.reference == "oci:web.layout"
    assert version.source.top_digest == version.source.manifest_digest == made.digest
    assert [layer.digest for layer in version.layers] == list(made.layer_digests)
    assert dict(version.config) == {"Cmd": ["x"], "User": "web", "WorkingDir": "/"}
    assert version.supervisor
    assert version.rootfs_entries > 10
    assert version.size_bytes == sum(
        workshop.directory.path(file).stat().st_size for file in version.files
    )


def test_metadata_names_the_product_so_that_twins_differ(workshop: Workshop) -> None:
    workshop.image("web", {"etc/content": b"one"})
    workshop.spec("one", "image: oci:web.layout\n")
    workshop.spec("two", "image: oci:web.layout\n")
    workshop.run()
    assert workshop.product("one").newest.fingerprint != workshop.product("two").newest.fingerprint
    with tarfile.open(workshop.file("one", "metadata")) as archive:
        member = archive.extractfile("metadata.yaml")
        assert member is not None
        document = yaml.safe_load(member)
    assert document["architecture"] == "amd64"
    assert document["creation_date"] == 1714979289
    assert "one" in document["properties"].values()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("image", "the image changed from sha256:"),
        ("spec", "the specification changed"),
        ("source file", "the specification changed"),
        ("source mode", "the specification changed"),
        ("busybox", "the guest files changed"),
        ("format", "packed as gzip gzip:6 by zlib"),
        ("compression", "the specification changed"),
        ("lost file", "its files are missing"),
    ],
)
def test_what_makes_an_image_be_built_again(workshop: Workshop, change: str, reason: str) -> None:
    extra = workshop.specs / "app.conf"
    extra.write_text("one")
    text = "files: [{path: /etc/app.conf, source: app.conf}]\n"
    workshop.both("web", b"one", text)
    workshop.run()
    if change == "image":
        workshop.image("web", {"etc/content": b"two"})
    elif change == "spec":
        workshop.spec("web", text + "env: {A: 1}\n")
    elif change == "source file":
        extra.write_text("two")
    elif change == "source mode":
        extra.chmod(0o600)
    elif change == "busybox":
        workshop.options.busybox["amd64"].write_bytes(static_program() + b"x")
    elif change == "compression":
        workshop.spec("web", text + "compression: zstd:1\n")
    elif change == "lost file":
        workshop.file("web").unlink()
    report = workshop.run(image_format="gzip" if change == "format" else None, hours_later=1)
    assert outcomes(report) == {"web": "built"}
    assert outcome(report, "web").reason.startswith(reason)
    assert workshop.directory.verify() == ()
    assert outcomes(workshop.run(image_format="gzip" if change == "format" else None)) == {
        "web": "unchanged"
    }


def test_a_comment_an_alias_or_another_platform_builds_nothing(workshop: Workshop) -> None:
    amd64 = tiny_image({"bin/app": b"one"})
    arm64 = tiny_image({"bin/app": b"two"}, architecture="arm64")
    layout = workshop.specs / "web.layout"
    tiny_index({"linux/amd64": amd64, "linux/arm64": arm64}).write_layout(layout)
    workshop.spec("web")
    workshop.run()
    fingerprint = workshop.product("web").newest.fingerprint
    newer = tiny_image({"bin/app": b"three"}, architecture="arm64")
    index = tiny_index({"linux/amd64": amd64, "linux/arm64": newer})
    index.write_layout(layout)
    workshop.spec("web", "# a comment\naliases: [www]\n")
    assert outcomes(workshop.run()) == {"web": "unchanged"}
    product = workshop.product("web")
    assert product.aliases == ("www",)
    assert (len(product.versions), product.newest.fingerprint) == (1, fingerprint)
    assert product.newest.source.top_digest == index.digest


def test_a_source_that_goes_back_gets_its_old_image_again_without_a_build(
    workshop: Workshop,
) -> None:
    workshop.both("web", b"one")
    workshop.run()
    workshop.both("web", b"two")
    workshop.run(hours_later=1)
    workshop.both("web", b"one")
    workshop.events.all.clear()
    report = workshop.run(hours_later=1)
    assert outcomes(report) == {"web": "built"}
    stages = {event.stage for event in workshop.events.all if isinstance(event, StageStarted)}
    assert "pack" not in stages
    serials = [version.serial for version in workshop.product("web").versions]
    assert serials == ["20260301_130000", "20260301_140000"]
    assert workshop.directory.verify() == ()


def test_one_failing_specification_stops_nothing_and_keeps_its_last_good_image(
    workshop: Workshop,
) -> None:
    for name in ("a", "b", "c", "d"):
        workshop.both(name, name.encode())
    workshop.run()
    last_good = workshop.product("b").newest
    workshop.spec("b", "image: oci:gone.layout\n")
    workshop.spec("c", "nonsense: 1\n")
    workshop.both("d", b"new")
    report = workshop.run(hours_later=1)
    assert outcomes(report) == {"a": "unchanged", "b": "failed", "c": "failed", "d": "built"}
    assert report.exit_code == 1
    assert outcome(report, "b").serial == last_good.serial
    assert isinstance(outcome(report, "c").error, UsageError)
    assert outcome(report, "c").reason.startswith(str(workshop.specs / "c.yaml:2:1"))
    assert workshop.product("b").newest == last_good
    assert {product.name for product in workshop.catalogue.products} == {"a", "b", "c", "d"}


def test_the_exit_code_says_why_when_everything_fails_for_one_reason(workshop: Workshop) -> None:
    workshop.spec("a", "nonsense: 1\n")
    assert workshop.run().exit_code == UsageError.exit_code
    workshop.spec("b", "image: oci:gone.layout\n")
    assert workshop.run().exit_code == 1


def test_an_image_without_a_specification_goes_after_a_complete_run(workshop: Workshop) -> None:
    for name in ("a", "b"):
        workshop.both(name, name.encode())
    workshop.run()
    (workshop.specs / "b.yaml").unlink()
    files = [workshop.file("b"), workshop.file("b", "metadata")]
    report = workshop.run(hours_later=1)
    assert outcomes(report) == {"a": "unchanged", "b": "removed"}
    assert workshop.catalogue.product("b", "amd64") is None
    assert all(file.exists() for file in files), "clients may still ask for them"
    assert workshop.run(hours_later=23).freed_bytes == 0
    assert workshop.run(hours_later=1.1).freed_bytes > 0
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("case", ["named", "failed", "broken", "empty", "missing"])
def test_nothing_is_removed_unless_the_run_was_complete(workshop: Workshop, case: str) -> None:
    for name in ("a", "b"):
        workshop.both(name, name.encode())
    workshop.run()
    (workshop.specs / "b.yaml").unlink()
    if case == "named":
        workshop.run("a")
    elif case == "failed":
        workshop.spec("c", "image: oci:gone.layout\n")
        workshop.run()
    elif case == "broken":
        workshop.spec("c", "nonsense: 1\n")
        workshop.run()
    elif case == "empty":
        (workshop.specs / "a.yaml").unlink()
        assert workshop.run().outcomes == ()
        assert any(isinstance(event, Notice) for event in workshop.events.all)
    else:
        workshop.specs.rename(workshop.root / "elsewhere")
        with pytest.raises(NotFoundError):
            workshop.run()
    assert {product.name for product in workshop.catalogue.products} == {"a", "b"}
    assert workshop.directory.verify() == ()


def test_a_dry_run_tells_everything_and_changes_nothing(workshop: Workshop) -> None:
    for name in ("changed", "gone", "same"):
        workshop.both(name, name.encode())
    workshop.run()
    workshop.both("new", b"new")
    workshop.both("changed", b"two")
    (workshop.specs / "gone.yaml").unlink()
    before = {path: path.stat().st_mtime_ns for path in workshop.root.rglob("*")}
    report = workshop.run(dry_run=True)
    assert outcomes(report) == {
        "changed": "would-build",
        "gone": "would-remove",
        "new": "would-build",
        "same": "unchanged",
    }
    assert outcome(report, "changed").reason.startswith("the image changed from")
    assert {path: path.stat().st_mtime_ns for path in workshop.root.rglob("*")} == before


def test_a_dry_run_fails_where_a_run_would(workshop: Workshop) -> None:
    """An image without an index, for another machine: only its configuration tells."""
    workshop.image("web", {}, architecture="s390x")
    workshop.spec("web")
    for dry_run in (True, False):
        error = outcome(workshop.run(dry_run=dry_run), "web").error
        assert "it is offered for linux/s390x" in str(error)


def test_a_dry_run_needs_no_directories(workshop: Workshop) -> None:
    workshop.both("web", b"one")
    assert outcomes(workshop.run(dry_run=True)) == {"web": "would-build"}
    assert not workshop.options.lxdimages.exists()
    assert not workshop.options.cache.exists()


def test_only_named_images_are_converted(workshop: Workshop) -> None:
    for name in ("a", "b", "c"):
        workshop.both(name, name.encode())
    assert outcomes(workshop.run("a", "c")) == {"a": "built", "c": "built"}
    with pytest.raises(NotFoundError, match="no specification named 'bb'") as caught:
        workshop.run("bb")
    assert caught.value.hint == "did you mean 'b'?"


def test_each_architecture_is_a_product_and_fails_alone(workshop: Workshop) -> None:
    images = {
        f"linux/{name}": tiny_image({"bin/app": name.encode()}, architecture=name)
        for name in ("amd64", "arm64", "riscv64")
    }
    tiny_index(images).write_layout(workshop.specs / "web.layout")
    workshop.spec("web", "architectures: [amd64, arm64, riscv64]\n")
    foreign = workshop.root / "busybox-arm64"
    foreign.write_bytes(static_program("arm64"))
    busybox = {**workshop.options.busybox, "arm64": foreign}
    workshop.options = replace(workshop.options, busybox=MappingProxyType(busybox))
    report = workshop.run()
    assert outcomes(report) == {
        "web/amd64": "built",
        "web/arm64": "built",
        "web/riscv64": "failed",
    }
    (failed,) = [one for one in report.outcomes if one.error]
    assert failed.error is not None
    assert failed.error.message == "busybox for riscv64: none is given"
    assert "busybox-static:riscv64" in failed.error.hint
    assert "--busybox riscv64=PATH" in failed.error.hint
    prints = {product.newest.fingerprint for product in workshop.catalogue.products}
    assert len(prints) == 2


def test_an_image_not_offered_for_the_platform_says_for_which_it_is(workshop: Workshop) -> None:
    image = tiny_image({"bin/app": b"x"}, architecture="s390x")
    tiny_index({"linux/s390x": image}).write_layout(workshop.specs / "web.layout")
    workshop.spec("web")
    for dry_run in (True, False):
        error = outcome(workshop.run(dry_run=dry_run), "web").error
        assert isinstance(error, NotFoundError)
        assert "linux/s390x" in error.message


def test_aliases_that_mean_two_images_are_refused(workshop: Workshop) -> None:
    workshop.both("a", b"a", "aliases: [www]\n")
    workshop.both("b", b"b", "aliases: [www]\n")
    workshop.both("c", b"c", "aliases: [a]\n")
    report = workshop.run()
    assert outcomes(report) == {"a": "built", "b": "failed", "c": "failed"}
    assert "belongs to a already" in outcome(report, "b").reason
    assert "is the name of a specification" in outcome(report, "c").reason


def test_two_files_of_one_name_are_refused(workshop: Workshop) -> None:
    workshop.both("a", b"a")
    (workshop.specs / "a.yml").write_text("image: oci:a.layout\n")
    error = outcome(workshop.run(), "a").error
    assert error is not None
    assert "a.yaml and a.yml both describe a" in error.message


def test_files_that_are_no_specifications_are_left_alone(workshop: Workshop) -> None:
    workshop.both("a", b"a")
    for name in (".hidden.yaml", "b.yaml~", "README.md"):
        (workshop.specs / name).write_text("nonsense: [")
    assert outcomes(workshop.run()) == {"a": "built"}


def test_file_changes_end_up_in_the_image(workshop: Workshop) -> None:
    workshop.image("web", {"etc/old": b"old", "etc/content": b"one"})
    (workshop.specs / "app.conf").write_bytes(b"from a file")
    (workshop.specs / "app.conf").chmod(0o640)
    workshop.spec(
        "web",
        """\
files:
  - {path: /etc/old, remove: true}
  - {path: /etc/motd, content: hi, mode: 0600, owner: 3:4}
  - {path: /opt/app/app.conf, source: app.conf}
  - {path: /etc/link, symlink: motd}
  - {path: /var/empty, directory: true, mode: 0700}
""",
    )
    workshop.run()
    with tarfile.open(workshop.file("web")) as archive:
        names = archive.getnames()
        assert "etc/old" not in names
        motd = archive.getmember("etc/motd")
        assert (motd.mode, motd.uid, motd.gid, motd.size) == (0o600, 3, 4, 2)
        assert archive.getmember("opt/app/app.conf").mode == 0o640
        assert archive.getmember("etc/link").linkname == "motd"
        assert archive.getmember("var/empty").mode == 0o700


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_source_file_that_is_none_is_told(workshop: Workshop, kind: str) -> None:
    if kind == "directory":
        (workshop.specs / "app.conf").mkdir()
    workshop.both("web", b"one", "files: [{path: /etc/app.conf, source: app.conf}]\n")
    error = outcome(workshop.run(), "web").error
    assert error is not None
    assert "source: " in error.message


def test_progress_tells_stages_bytes_and_ends(workshop: Workshop) -> None:
    workshop.both("web", os.urandom(200_000))
    workshop.run()
    stages = [event.stage for event in workshop.events.all if isinstance(event, StageStarted)]
    assert stages[0] == "resolve"
    assert stages[-4:] == ["download", "merge", "pack", "publish"]
    packed = [event for event in workshop.events.all if isinstance(event, BytesDone)]
    assert {event.stage for event in packed} == {"download", "pack"}
    assert all(event.done_bytes <= event.total_bytes for event in packed)
    last = workshop.events.all[-1]
    assert last == ImageFinished(image="web", outcome="built", detail="new")


def test_a_root_filesystem_for_lxc_is_made_on_request(workshop: Workshop) -> None:
    workshop.both("web", b"one", "lxc: true\n")
    workshop.both("db", b"two")
    workshop.run()
    with tarfile.open(workshop.file("web", "lxc-rootfs"), "r:xz") as archive:
        names = {name + "/" * (name == ".") for name in archive.getnames()}
        assert {"./", "etc/content", ".lxdocker/lxc-hook", "dev"} <= names
        # The image's own command is PID 1; the guest of LXD has no place here.
        assert "sbin/init" not in names
    assert [file.role for file in workshop.product("db").newest.files] == ["metadata", "rootfs"]
    assert workshop.directory.verify() == ()
    workshop.options = replace(workshop.options, lxc=True)
    report = workshop.run()
    assert outcomes(report) == {"db": "built", "web": "unchanged"}
    assert "with .tar.xz for LXC" in outcome(report, "db").reason


def test_progress_of_each_architecture_begins_and_ends_under_one_label(
    workshop: Workshop,
) -> None:
    image = tiny_image({"bin/app": b"x"})
    tiny_index({"linux/amd64": image}).write_layout(workshop.specs / "web.layout")
    foreign = workshop.root / "busybox-arm64"
    foreign.write_bytes(static_program("arm64"))
    busybox = {**workshop.options.busybox, "arm64": foreign}
    workshop.options = replace(workshop.options, busybox=MappingProxyType(busybox))
    workshop.spec("web", "architectures: [amd64, arm64]\n")
    workshop.run()
    begun = {event.image for event in workshop.events.all if isinstance(event, StageStarted)}
    ended = {
        event.image: event.outcome
        for event in workshop.events.all
        if isinstance(event, ImageFinished)
    }
    assert ended == {"web/amd64": "built", "web/arm64": "failed"}
    assert begun == set(ended)


def test_two_runs_at_once_wait_for_each_other(workshop: Workshop) -> None:
    for number in range(4):
        workshop.both(f"image{number}", bytes([number]))
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(workshop.run())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(one.outcome for report in reports for one in report.outcomes)
    assert found == ["built"] * 4 + ["unchanged"] * 8
    assert workshop.directory.verify() == ()


def test_old_versions_leave_the_disk_when_nobody_can_ask_for_them(workshop: Workshop) -> None:
    for number in range(6):
        workshop.both("web", str(number).encode())
        workshop.run(hours_later=30)
    assert len(workshop.product("web").versions) == 3
    workshop.run(hours_later=30)
    workshop.run(hours_later=30)
    kept = {workshop.directory.path(file) for file in workshop.catalogue.files()}
    assert set(workshop.directory.images.iterdir()) == kept


def test_layers_no_specification_needs_leave_the_cache(workshop: Workshop) -> None:
    workshop.both("a", os.urandom(1000))
    workshop.both("b", os.urandom(1000))
    workshop.run()
    blobs = workshop.options.cache / "blobs" / "sha256"
    before = len(list(blobs.iterdir()))
    (workshop.specs / "b.yaml").unlink()
    workshop.run()
    assert len(list(blobs.iterdir())) == before - 3


def test_a_cached_layer_that_the_disk_spoilt_is_fetched_again(workshop: Workshop) -> None:
    made = workshop.image("web", {"etc/content": b"one"})
    workshop.spec("web")
    workshop.run()
    blob = workshop.options.cache / "blobs" / made.layer_digests[0].replace(":", "/")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 0xFF
    blob.write_bytes(content)
    for path in (workshop.options.cache / "headers").rglob("*"):
        if path.is_file():
            path.unlink()
    workshop.spec("web", "env: {A: 1}\n")
    assert outcomes(workshop.run()) == {"web": "built"}
    assert blob.read_bytes() == made.layers[0]


def test_a_directory_nobody_may_write_to_is_one_clear_error(workshop: Workshop) -> None:
    workshop.both("web", b"one")
    workshop.options = replace(workshop.options, lxdimages=Path("/proc/lxdimages"))
    with pytest.raises(StorageError, match="create directory /proc/lxdimages"):
        workshop.run()


def test_an_image_for_which_the_memory_is_not_enough_fails_alone(workshop: Workshop) -> None:
    """It is no bug of the program's, and what to do about it is said."""

    class Crowded(Events):
        def emit(self, event: Event, /) -> None:
            super().emit(event)
            if event == StageStarted(image="large", stage="merge"):
                raise MemoryError

    workshop.both("good", b"one")
    workshop.both("large", b"two")
    workshop.events = Crowded()
    report = workshop.run()
    assert outcomes(report) == {"good": "built", "large": "failed"}
    error = outcome(report, "large").error
    assert isinstance(error, StorageError)
    assert "memory" in error.message
    assert "--jobs 1" in error.hint


def test_a_layout_that_cannot_even_be_looked_for_fails_alone(workshop: Workshop) -> None:
    workshop.both("good", b"one")
    for kind, path in (("oci", "a" * 300), ("docker-archive", "b" * 300), ("oci", "good.yaml/x")):
        (workshop.specs / "bad.yaml").write_text(f"image: {kind}:{path}\n")
        report = workshop.run()
        assert outcomes(report)["bad"] == "failed"
        assert outcomes(report)["good"] in ("built", "unchanged")
        bad = next(outcome for outcome in report.outcomes if outcome.name == "bad")
        assert bad.error is not None
        assert bad.error.exit_code != InternalError.exit_code


def test_a_run_that_waited_reads_the_specifications_again(workshop: Workshop) -> None:
    workshop.both("a", b"one")
    workshop.both("b", b"two")
    workshop.run()
    spec = workshop.specs / "b.yaml"
    text = spec.read_text()
    spec.unlink()
    reports: list[RunReport] = []
    with workshop.directory.writing():
        waiting = threading.Thread(target=lambda: reports.append(workshop.run()))
        waiting.start()
        while not any(isinstance(event, Notice) for event in workshop.events.all):
            time.sleep(0.01)
        spec.write_text(text)
    waiting.join()
    assert outcomes(reports[0]) == {"a": "unchanged", "b": "unchanged"}


def test_foreign_files_and_a_lost_catalogue_cost_no_image(workshop: Workshop) -> None:
    workshop.both("a", b"one")
    workshop.run()
    (workshop.directory.images / "holiday.jpg").write_text("sun")
    before = set(workshop.directory.images.iterdir())
    workshop.directory.document.unlink()
    (workshop.specs / "a.yaml").unlink()
    workshop.run(hours_later=1)
    assert set(workshop.directory.images.iterdir()) == before


def test_a_new_way_to_make_images_builds_them_again(workshop: Workshop) -> None:
    workshop.both("a", b"one")
    workshop.run()

    def older(before: Catalogue) -> Catalogue:
        known = before.products[0]
        version = replace(known.newest, rebuild_key=str(Digest.of(b"another revision")))
        return before.described(replace(known, versions=(version,)), at=workshop.now)

    with workshop.directory.writing():
        workshop.directory.change(older)
    report = workshop.run()
    assert outcomes(report) == {"a": "built"}
    assert "another way" in report.outcomes[0].reason


def test_a_description_follows_its_specification_back(workshop: Workshop) -> None:
    workshop.image("a", {"etc/content": b"one"})
    for text in ("first", "second", "first"):
        workshop.spec("a", f"description: {text}\n")
        workshop.run(hours_later=1)
        assert workshop.product("a").description == text


def test_no_word_ever_stands_for_two_images(workshop: Workshop) -> None:
    workshop.image("web", {"etc/content": b"one"})
    workshop.image("web2", {"etc/content": b"two"})
    workshop.spec("web", "aliases: [x]\n")
    workshop.run()
    (workshop.specs / "web.yaml").unlink()
    workshop.spec("web2", "aliases: [web, x]\n")
    workshop.run("web2")
    words = {product.name: product.aliases for product in workshop.catalogue.products}
    assert words == {"web": (), "web2": ("x",)}
    workshop.run()
    workshop.run()
    assert workshop.product("web2").aliases == ("web", "x")


def test_a_pipe_among_the_specifications_fails_alone(workshop: Workshop) -> None:
    workshop.both("good", b"one")
    os.mkfifo(workshop.specs / "pipe.yaml")
    assert outcomes(workshop.run()) == {"good": "built", "pipe": "failed"}


def test_a_cache_that_cannot_be_cleaned_up_costs_no_report(workshop: Workshop) -> None:
    workshop.both("a", b"one")
    workshop.run()
    stray = workshop.options.cache / "partial" / "sha256-stray"
    stray.mkdir(parents=True)
    os.utime(stray, times=(0, 0))
    assert outcomes(workshop.run()) == {"a": "unchanged"}


def test_what_compresses_is_part_of_what_decides_the_bytes(workshop: Workshop) -> None:
    workshop.image("a", {"etc/content": b"one"})
    found = {}
    for compression in ("zstd", "gzip", "xz", "none"):
        workshop.spec("a", f"compression: {compression}\n")
        workshop.run()
        found[compression] = workshop.product("a").newest.inputs.packer
    assert "by zstd 1." in found["zstd"]
    assert "by zlib 1." in found["gzip"]
    assert "liblzma" in found["xz"]
