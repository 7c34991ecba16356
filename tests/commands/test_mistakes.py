"""What goes wrong for people: one clear line each, the next step, a documented code, no traceback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.small_image import write_layout

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Directories of one run, with one good image in an OCI layout."""

    directory: Path

    @property
    def specs(self) -> Path:
        return self.directory / "specs"

    @property
    def layout(self) -> Path:
        return self.directory / "layout"

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    @property
    def lxdimages(self) -> Path:
        return self.directory / "lxdimages"

    def spec(self, name: str, text: str) -> None:
        (self.specs / f"{name}.yaml").write_text(text)

    def convert(self, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        return lxdocker(
            "convert",
            *("--specs", str(self.specs)),
            *("--cache", str(self.cache)),
            *("--lxdimages", str(self.lxdimages)),
            *("--imageformat", "tar"),
            *arguments,
            path=path,
        )


def lxdocker(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": "/nonexistent"}
    if path is not None:
        environment["PATH"] = path
    done = subprocess.run(
        [sys.executable, "-m", "lxdocker_lxd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(directory=tmp_path)
    found.specs.mkdir()
    write_layout(found.layout, tag="good", files={"app": b"#!/bin/sh\n"}, entrypoint=("/app",))
    return found


BAD_SPECS = [
    ("image: nginx\nentrypont: [/a]\n", "web.yaml:2:1: unknown key 'entrypont'", "'entrypoint'"),
    ("imag: nginx\n", "web.yaml:1:1: unknown key 'imag'", "'image'"),
    ("image: [nginx\n", "web.yaml:2:1", ""),
    ("image: Nginx\n", "lower", ""),
    ("image: nginx@sha256:short\n", "digest", ""),
    ("image: a:b:c\n", "web.yaml:1:8", ""),
    ("", "web.yaml", "image"),
    ("image: nginx\nimage: redis\n", "appears twice", ""),
    ("image: nginx\nrestart: sometimes\n", "restart", ""),
    ("image: nginx\nfiles: [{path: ../x, content: a}]\n", "files[1].path", ""),
    ("image: nginx\narchitectures: [vax]\n", "vax", ""),
    ("image: &a nginx\n", "anchors", ""),
]


@pytest.mark.parametrize(("text", "complaint", "hint"), BAD_SPECS)
def test_a_bad_spec_is_named_with_its_line(
    place: Place, text: str, complaint: str, hint: str
) -> None:
    place.spec("web", text)
    done = place.convert()
    assert done.returncode == 2
    assert complaint in done.stderr
    assert hint in done.stderr


def test_one_bad_spec_does_not_stop_the_others(place: Place) -> None:
    place.spec("bad", "image: UPPER\n")
    place.spec("good", f"image: oci:{place.layout}:good\n")
    done = place.convert("--format", "json")
    assert done.returncode == 1
    outcomes = {image["name"]: image["outcome"] for image in json.loads(done.stdout)["images"]}
    assert outcomes == {"bad": "failed", "good": "built"}


def test_no_network_is_code_5_and_names_the_host(place: Place) -> None:
    place.spec("web", "image: 127.0.0.1:1/nginx\n")
    done = place.convert()
    assert done.returncode == 5
    assert "127.0.0.1:1" in done.stderr
    assert "hint:" in done.stderr


def test_a_missing_layout_is_code_3(place: Place) -> None:
    place.spec("web", f"image: oci:{place.directory}/nowhere\n")
    done = place.convert()
    assert done.returncode == 3
    assert "nowhere" in done.stderr


def test_a_missing_tag_is_code_3_and_names_those_that_exist(place: Place) -> None:
    place.spec("web", f"image: oci:{place.layout}:other\n")
    done = place.convert()
    assert done.returncode == 3
    assert "good" in done.stderr


def test_a_missing_spec_directory_is_named(place: Place) -> None:
    place.specs.rmdir()
    done = place.convert()
    assert done.returncode == 3
    assert str(place.specs) in done.stderr


def test_an_unknown_name_is_code_3(place: Place) -> None:
    place.spec("good", f"image: oci:{place.layout}:good\n")
    done = place.convert("--name", "goood")
    assert done.returncode == 3
    assert "goood" in done.stderr


def test_a_missing_packer_names_its_package(place: Place) -> None:
    place.spec("good", f"image: oci:{place.layout}:good\n")
    done = place.convert("--imageformat", "squashfs", path="/nonexistent")
    assert done.returncode == 9
    assert "squashfs-tools" in done.stderr


def test_a_damaged_blob_is_code_6_and_publishes_nothing(place: Place) -> None:
    place.spec("good", f"image: oci:{place.layout}:good\n")
    blobs = sorted(
        (place.layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size
    )
    content = bytearray(blobs[-1].read_bytes())
    content[-1] ^= 1
    blobs[-1].write_bytes(bytes(content))
    done = place.convert()
    assert done.returncode == 6
    assert "digest" in done.stderr
    assert (
        json.loads(
            lxdocker("images", "--lxdimages", str(place.lxdimages), "--format", "json").stdout
        )["images"]
        == []
    )


def test_a_foreign_architecture_names_the_busybox_package(place: Place) -> None:
    write_layout(
        place.layout, tag="arm", files={"app": b"x"}, entrypoint=("/app",), architecture="s390x"
    )
    place.spec("arm", f"image: oci:{place.layout}:arm\narchitectures: [s390x]\n")
    done = place.convert()
    assert done.returncode == 9
    assert "busybox-static" in done.stderr
    assert "--busybox" in done.stderr


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{options},mode=0755", "none", str(directory)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("full", ["cache", "lxdimages"])
def test_no_space_is_code_8_and_loses_nothing(place: Place, full: str) -> None:
    write_layout(
        place.layout, tag="big", files={"app": os.urandom(3_000_000)}, entrypoint=("/app",)
    )
    place.spec("big", f"image: oci:{place.layout}:big\n")
    with mounted(place.directory / full, "size=2m"):
        done = place.convert()
        assert done.returncode == 8
        assert "No space left" in done.stderr
        assert "hint: free some space" in done.stderr
        left = [path for path in (place.directory / full).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in left) < 200_000
    assert place.convert().returncode == 0


@pytest.mark.root
@pytest.mark.parametrize("read_only", ["cache", "lxdimages"])
def test_a_read_only_directory_is_code_8(place: Place, read_only: str) -> None:
    place.spec("good", f"image: oci:{place.layout}:good\n")
    with mounted(place.directory / read_only, "ro,size=1m"):
        done = place.convert()
        assert done.returncode == 8
        assert "Read-only file system" in done.stderr
        assert "hint: " in done.stderr


def test_a_reference_nobody_could_mean_is_code_2() -> None:
    for reference in ("nginx/UPPER", "a b", "", "nginx:", "nginx@sha256:zz", "x" * 300):
        done = lxdocker("resolve", reference)
        assert done.returncode == 2, reference
        assert "error: " in done.stderr


def test_settings_that_do_not_exist_are_named() -> None:
    done = lxdocker("images", "--config", "/nonexistent/config.yaml")
    assert done.returncode == 3
    assert "/nonexistent/config.yaml" in done.stderr


def test_a_missing_catalogue_directory_is_named() -> None:
    done = lxdocker("images", "--lxdimages", "/nonexistent/images")
    assert done.returncode == 3
    assert "lxdocker-lxd convert" in done.stderr


def test_settings_without_an_end_are_refused() -> None:
    done = lxdocker("images", "--config", "/dev/zero")
    assert done.returncode == 2
    assert "/dev/zero" in done.stderr


def test_a_name_given_in_two_flags_counts_twice(place: Place) -> None:
    for name in ("a", "b", "c"):
        place.spec(name, f"image: oci:{place.layout}:good\n")
    done = place.convert("--name", "a", "--name", "b", "--format", "json")
    assert [image["name"] for image in json.loads(done.stdout)["images"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("redirections", "code"),
    [
        (">/dev/full", 8),
        ("2>/dev/full", 0),
        (">&-", 0),
        ("2>&-", 0),
        ("2>&1 | true", 0),
        ("2>&1 | head -c 1 >/dev/null", 0),
    ],
)
def test_a_stream_that_takes_nothing_does_not_stop_the_work(
    place: Place, redirections: str, code: int
) -> None:
    place.spec("good", f"image: oci:{place.layout}:good\n")
    command = (
        f"set -o pipefail; {sys.executable} -m lxdocker_lxd convert --specs {place.specs}"
        f" --cache {place.cache} --lxdimages {place.lxdimages} --imageformat tar"
        f" --progress plain {redirections}"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    published = lxdocker("images", "--lxdimages", str(place.lxdimages), "--format", "json")
    assert [image["name"] for image in json.loads(published.stdout)["images"]] == ["good"]


def test_a_reader_that_went_away_does_not_hide_a_failure(place: Place) -> None:
    place.spec("bad", "image: UPPER\n")
    command = (
        f"set -o pipefail; {sys.executable} -m lxdocker_lxd convert --specs {place.specs}"
        f" --cache {place.cache} --lxdimages {place.lxdimages} | true"
    )
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2


@pytest.mark.parametrize("redirection", [">/dev/full", "| true"])
def test_help_that_nobody_reads_ends_without_a_traceback(redirection: str) -> None:
    command = f"{sys.executable} -m lxdocker_lxd --help {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_registry_that_never_answers_does_not_hold_up_an_interrupt(
    place: Place, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        place.spec("web", f"image: {host}/web\n")
        command = [sys.executable, "-m", "lxdocker_lxd", "convert", "--specs", str(place.specs)]
        command += ["--cache", str(place.cache), "--lxdimages", str(place.lxdimages)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(number)
                _, words = process.communicate(timeout=10)
    assert process.returncode == 130
    assert words == "interrupted; nothing half-made was published\n"
