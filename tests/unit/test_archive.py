"""Images in tar files: OCI archives, both forms of docker save, and broken ones."""

import contextlib
import gzip
import io
import json
import lzma
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert import archive_members, oci
from lxdocker_lxd.convert.archive import open_archive
from lxdocker_lxd.convert.archive_members import ArchiveFiles, InvalidArchiveError
from lxdocker_lxd.convert.layout import open_layout
from lxdocker_lxd.convert.pull import PulledImage, pull
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import DigestMismatchError
from lxdocker_lxd.errors import LxdockerError, NotFoundError, UsageError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.reference import ArchiveSource, LayoutSource, parse_source
from tests.harness.saved_image import docker_archive, docker_config, oci_archive, write_tar
from tests.harness.tiny_image import digest_of, layer_tar, tiny_image

LAYERS = ({"base": b"b" * 3000}, {"app": b"a" * 50})


def opened(text: str) -> Source:
    source = parse_source(text)
    assert isinstance(source, ArchiveSource)
    return open_archive(source)


def bring(source: Source, directory: Path) -> PulledImage:
    store = Store(directory / "cache")
    amd64 = Platform.parse("amd64")
    with store.using():
        return pull(source, amd64, store, image="app", jobs=2, progress=Silent())


def read(files: ArchiveFiles, name: str, offset_bytes: int = 0) -> bytes:
    with files.stream(name, offset_bytes) as stream:
        return stream.read()


# --- docker save -------------------------------------------------------------------------------


def test_docker_archive(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar", *LAYERS)
    pulled = bring(opened(f"docker-archive:{path}"), tmp_path)
    assert [layer.path.read_bytes() for layer in pulled.layers] == [layer_tar(f) for f in LAYERS]
    assert [layer.descriptor.digest for layer in pulled.layers] == list(pulled.config.diff_ids)
    assert {layer.descriptor.media_type for layer in pulled.layers} == {oci.OCI_LAYER}


def test_the_made_manifest_is_the_same_every_time(tmp_path: Path) -> None:
    one = docker_archive(tmp_path / "a.tar", *LAYERS)
    two = docker_archive(tmp_path / "b.tar", *LAYERS, names=["other:1"])
    three = docker_archive(tmp_path / "c.tar", LAYERS[0])
    digests = [opened(f"docker-archive:{path}").head() for path in (one, two, three)]
    assert digests[0] == digests[1] != digests[2]


def test_layers_may_be_links_to_other_members(tmp_path: Path) -> None:
    """Docker before 1.10 to 24 links a layer that occurs twice."""
    tar = layer_tar(LAYERS[0])
    manifest = [
        {"Config": "c.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar", "3.tar"]}
    ]
    path = write_tar(
        tmp_path / "a.tar",
        {
            "1/layer.tar": tar,
            "c.json": docker_config([tar, tar, tar]),
            "manifest.json": json.dumps(manifest).encode(),
        },
        links={"2/layer.tar": "../1/layer.tar"},
        hard_links={"3.tar": "1/layer.tar"},
    )
    pulled = bring(opened(f"docker-archive:{path}"), tmp_path)
    assert [layer.path.read_bytes() for layer in pulled.layers] == [tar] * 3


def test_compressed_layers_keep_their_own_digest(tmp_path: Path) -> None:
    tar = layer_tar(LAYERS[0])
    packed = gzip.compress(tar, mtime=0)
    manifest = [{"Config": "c.json", "RepoTags": [], "Layers": ["l.tar.gz"]}]
    members = {
        "l.tar.gz": packed,
        "c.json": docker_config([tar]),
        "manifest.json": json.dumps(manifest).encode(),
    }
    path = write_tar(tmp_path / "a.tar", members)
    (layer,) = bring(opened(f"docker-archive:{path}"), tmp_path).layers
    assert str(layer.descriptor.digest) == digest_of(packed)
    assert layer.descriptor.media_type == oci.OCI_LAYER + "+gzip"
    assert layer.path.read_bytes() == packed


def test_a_layer_that_is_not_what_the_configuration_says(tmp_path: Path) -> None:
    tar = layer_tar(LAYERS[0])
    manifest = [{"Config": "c.json", "RepoTags": [], "Layers": ["l.tar"]}]
    members = {
        "l.tar": tar.replace(b"b", b"c"),
        "c.json": docker_config([tar]),
        "manifest.json": json.dumps(manifest).encode(),
    }
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DigestMismatchError):
        bring(opened(f"docker-archive:{path}"), tmp_path)


def several(path: Path) -> Path:
    tar = layer_tar(LAYERS[0])
    manifest = [
        {"Config": f"{name}.json", "RepoTags": [f"{name}:1"], "Layers": ["l.tar"]}
        for name in ("one", "two")
    ]
    members = {
        "l.tar": tar,
        "one.json": docker_config([tar], "/one"),
        "two.json": docker_config([tar], "/two"),
        "manifest.json": json.dumps(manifest).encode(),
    }
    return write_tar(path, members)


@pytest.mark.parametrize("tag", ["two:1", "docker.io/library/two:1", "library/two:1"])
def test_tags_choose_by_what_they_mean(tmp_path: Path, tag: str) -> None:
    path = several(tmp_path / "a.tar")
    assert bring(opened(f"docker-archive:{path}:{tag}"), tmp_path).config.cmd == ("/two",)


def test_several_images_without_a_tag_are_a_question(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        opened(f"docker-archive:{several(tmp_path / 'a.tar')}")
    assert caught.value.hint == "add one of these: one:1, two:1"


def test_an_unknown_tag_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        opened(f"docker-archive:{several(tmp_path / 'a.tar')}:three")
    assert caught.value.hint == "it holds one:1, two:1"


def test_newer_docker_save_holds_a_layout_whose_digests_are_the_true_ones(tmp_path: Path) -> None:
    image = tiny_image(*LAYERS)
    layout = image.write_layout(tmp_path / "layout")
    index = json.loads((layout / "index.json").read_text())
    name = {"io.containerd.image.name": "docker.io/library/app:1"}
    index["manifests"][0]["annotations"] = name | {"org.opencontainers.image.ref.name": "1"}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "manifest.json").write_text("[]")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(layout, "")
    for tag in ("", ":app:1", ":1"):
        source = opened(f"docker-archive:{tmp_path}/a.tar{tag}")
        assert str(source.head()) == image.digest


# --- OCI archives ------------------------------------------------------------------------------


def test_oci_archive(tmp_path: Path) -> None:
    image = tiny_image(*LAYERS)
    path = oci_archive(tmp_path / "a:b.tar", image, tmp_path / "scratch", "1.0")
    for tag in ("", ":1.0"):
        pulled = bring(opened(f"oci-archive:{path}{tag}"), tmp_path)
        assert str(pulled.top_digest) == image.digest
        assert [layer.path.read_bytes() for layer in pulled.layers] == list(image.layers)


def test_a_docker_archive_is_not_an_oci_archive(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar", *LAYERS)
    with pytest.raises(InvalidArchiveError) as caught:
        opened(f"oci-archive:{path}")
    assert caught.value.hint == f"write docker-archive:{path}"


# --- broken files ------------------------------------------------------------------------------


def tar_bytes(**files: bytes) -> bytes:
    return layer_tar(files)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither an OCI image layout nor"),
        (b"x" * 100, "ends in the middle of a header"),
        (b"x" * 1024, "not a tar archive: .*checksum"),
        (tar_bytes(a=b"b"), "neither an OCI image layout nor"),
        (tar_bytes(a=b"b" * 5000)[:2048], "cut short"),
        (gzip.compress(tar_bytes(a=b"b")), "compressed with gzip"),
        (lzma.compress(tar_bytes(a=b"b")), "compressed with xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed with zstd"),
        (tar_bytes(**{"manifest.json": b"{}"}), "must be a list"),
        (tar_bytes(**{"manifest.json": b"[]"}), "names no image"),
        (tar_bytes(**{"manifest.json": b"[{}]"}), "Config is missing"),
        (tar_bytes(**{"manifest.json": b'[{"Config":"c"}]'}), "there is no c in this archive"),
        (tar_bytes(**{"manifest.json": b'[{"Config":"/etc/passwd"}]'}), "there is no /etc/passwd"),
        (
            tar_bytes(**{"manifest.json": b'[{"Config":"c"}]', "c": docker_config([b""])}),
            "lists 0 layers, the configuration 1",
        ),
        (
            tar_bytes(
                **{"manifest.json": b'[{"Config":"c","Layers":["l"]}]', "c": docker_config([b""])}
            ),
            "the layer l is missing",
        ),
    ],
)
def test_broken_archives(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(LxdockerError, match=words):
        opened(f"docker-archive:{path}")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        opened(f"oci-archive:{tmp_path}/none.tar:tag")


def test_links_in_a_circle_are_missing_members(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {}, links={"a": "b", "b": "a", "out": "../../etc/passwd"})
    files = ArchiveFiles(path)
    assert files.size_bytes("a") is None
    assert files.size_bytes("out") is None


# --- members -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_every_tar_format(tmp_path: Path, format: int) -> None:  # noqa: A002 - tarfile's own word
    long = "d" * 90 + "/" + "f" * 90
    contents = {"a": b"1", "empty": b"", long: b"long" * 200, "./b/../c": b"c"}
    files = ArchiveFiles(write_tar(tmp_path / "a.tar", contents, format=format))
    assert read(files, "a") == b"1"
    assert read(files, "/a") == b"1"
    assert read(files, "empty") == b""
    assert read(files, long, 4) == b"long" * 199
    assert read(files, "c") == b"c"
    assert files.size_bytes("b") is None


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for content in (b"old", b"newer"):
            member = tarfile.TarInfo("a")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    assert read(ArchiveFiles(tmp_path / "a.tar"), "a") == b"newer"


def test_huge_extended_headers_are_refused_unread(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type = tarfile.XHDTYPE
    member.size = archive_members.HEADER_LIMIT_BYTES + 1
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.USTAR_FORMAT) + bytes(member.size + 1024))
    with pytest.raises(InvalidArchiveError, match="extended header of 1048577 bytes"):
        ArchiveFiles(path)


@given(st.integers(0, 3000), st.integers(0, 255))
def test_any_damaged_byte_is_read_or_refused(at: int, value: int) -> None:
    content = bytearray(layer_tar({"a" * 150: b"x" * 100, "b": b"y"}))
    content[at % len(content)] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(InvalidArchiveError):
            ArchiveFiles(Path(file.name))


# --- real tools --------------------------------------------------------------------------------


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_what_skopeo_writes(tmp_path: Path, kind: str) -> None:
    image = tiny_image(*LAYERS, config={"Cmd": ["/app"]})
    layout = image.write_layout(tmp_path / "layout", "1.0")
    name = "docker.io/library/app:1.0"
    target = f"{kind}:{tmp_path}/copied:{name}"
    copy = ["skopeo", "copy", "--quiet", "--insecure-policy"]
    subprocess.run([*copy, f"oci:{layout}:1.0", target], check=True)
    source = parse_source(target)
    found = open_layout(source) if isinstance(source, LayoutSource) else opened(target)
    assert bring(found, tmp_path).config.cmd == ("/app",)
