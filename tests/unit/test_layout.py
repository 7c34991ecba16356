"""Images in OCI layout directories."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.layout import open_layout, splits
from lxdocker_lxd.convert.oci import Index, parse_manifest
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.digest import Digest, DigestMismatchError
from lxdocker_lxd.errors import LxdockerError, NotFoundError, UsageError, VerificationError
from lxdocker_lxd.reference import LayoutSource, parse_source
from tests.harness.tiny_image import TinyImage, tiny_image, tiny_index

ONE = tiny_image({"one": b"1"}, config={"Cmd": ["/one"]})
TWO = tiny_image({"two": b"2"}, config={"Cmd": ["/two"]}, architecture="arm64")


def opened(text: str) -> Source:
    source = parse_source(text)
    assert isinstance(source, LayoutSource)
    return open_layout(source)


def entry(image: TinyImage, **annotations: str) -> dict[str, Any]:
    return {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": annotations,
    }


def layout(directory: Path, *entries: dict[str, Any]) -> Path:
    """A layout holding both images, whose index has these entries."""
    for image in (ONE, TWO):
        image.write_layout(directory)
    index = {"schemaVersion": 2, "manifests": list(entries)}
    (directory / "index.json").write_text(json.dumps(index))
    return directory


REF = "org.opencontainers.image.ref.name"
NAME = "io.containerd.image.name"


def test_the_only_image_needs_no_tag(tmp_path: Path) -> None:
    ONE.write_layout(tmp_path, "1.0")
    for text in (f"oci:{tmp_path}", f"oci:{tmp_path}:1.0"):
        source = opened(text)
        assert str(source.head()) == ONE.digest
        answer = source.manifest(None)
        assert (answer.raw, answer.media_type) == (ONE.manifest, oci.OCI_MANIFEST)
        assert source.manifest(Digest.parse(ONE.digest)).raw == ONE.manifest


@pytest.mark.parametrize(
    ("tag", "image"),
    [
        ("1", ONE),
        ("2", TWO),
        ("docker.io/library/two:2", TWO),
        ("two:2", TWO),
    ],
)
def test_tags_choose(tmp_path: Path, tag: str, image: TinyImage) -> None:
    first = entry(ONE, **{REF: "1", NAME: "docker.io/library/one:1"})
    second = entry(TWO, **{REF: "2", NAME: "docker.io/library/two:2"})
    layout(tmp_path, first, second)
    assert str(opened(f"oci:{tmp_path}:{tag}").head()) == image.digest


def test_without_tag_several_names_are_a_question(tmp_path: Path) -> None:
    layout(tmp_path, entry(ONE, **{REF: "1"}), entry(TWO, **{REF: "2"}))
    with pytest.raises(UsageError) as caught:
        opened(f"oci:{tmp_path}").head()
    assert caught.value.hint == "add one of these tags: 1, 2"


def test_an_unknown_tag_names_the_known_ones(tmp_path: Path) -> None:
    layout(tmp_path, entry(ONE, **{REF: "1"}), entry(TWO, **{REF: "2"}))
    with pytest.raises(NotFoundError, match="no image '3'") as caught:
        opened(f"oci:{tmp_path}:3").head()
    assert caught.value.hint == "it holds 1, 2"


@pytest.mark.parametrize("names", [{}, {REF: "same"}])
def test_several_entries_under_one_name_become_an_index(
    tmp_path: Path, names: dict[str, str]
) -> None:
    platforms = [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
    layout(
        tmp_path,
        entry(ONE, **names) | {"platform": platforms[0]},
        entry(TWO, **names) | {"platform": platforms[1]},
    )
    source = opened(f"oci:{tmp_path}")
    answer = source.manifest(None)
    index = parse_manifest(answer.raw, media_type=answer.media_type, what="index")
    assert isinstance(index, Index)
    assert [str(image.digest) for image in index.images] == [ONE.digest, TWO.digest]
    assert source.head() == answer.digest == Digest.of(answer.raw)
    assert source.manifest(answer.digest) == answer
    assert opened(f"oci:{tmp_path}").head() == answer.digest


def test_one_image_named_twice_is_one_image(tmp_path: Path) -> None:
    layout(tmp_path, entry(ONE, **{REF: "1"}), entry(ONE, **{REF: "1"}))
    assert str(opened(f"oci:{tmp_path}:1").head()) == ONE.digest


def test_an_index_in_a_layout(tmp_path: Path) -> None:
    both = tiny_index({"linux/amd64": ONE, "linux/arm64": TWO})
    both.write_layout(tmp_path)
    source = opened(f"oci:{tmp_path}:latest")
    assert source.manifest(None).media_type == oci.OCI_INDEX
    assert source.manifest(Digest.parse(TWO.digest)).raw == TWO.manifest


def test_a_changed_layout_is_seen(tmp_path: Path) -> None:
    ONE.write_layout(tmp_path)
    source = opened(f"oci:{tmp_path}")
    TWO.write_layout(tmp_path)
    assert str(source.head()) == TWO.digest


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("with:colon", "{}"),
        ("with:colon", "{}:latest"),
        ("a:b:c", "{}:latest"),
        ("plain", "{}:docker.io/library/x:1"),
    ],
)
def test_a_directory_may_hold_colons(tmp_path: Path, name: str, text: str) -> None:
    tag = "docker.io/library/x:1" if name == "plain" else "latest"
    ONE.write_layout(tmp_path / name, tag)
    assert str(opened("oci:" + text.format(tmp_path / name)).head()) == ONE.digest


def test_splits() -> None:
    assert list(splits("a", None)) == [("a", None)]
    assert list(splits("a", "b:c")) == [("a", "b:c"), ("a:b", "c"), ("a:b:c", None)]


# --- what is refused ---------------------------------------------------------------------------


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not an OCI image layout") as caught:
        opened(f"oci:{tmp_path}:1.0")
    assert "skopeo copy" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("oci-layout", b"{}", "imageLayoutVersion is missing"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', "'2.0.0' is not supported"),
        ("oci-layout", b" " * 5000, "larger than 4096 bytes"),
        ("index.json", b"[]", "must be an object"),
        ("index.json", b'{"schemaVersion":2,"manifests":[]}', "names no image"),
        ("index.json", b'{"schemaVersion":2,"manifests":[],"layers":[]}', "layers has no place"),
        ("index.json", b" " * (oci.MANIFEST_LIMIT_BYTES + 1), "larger than"),
    ],
)
def test_broken_layouts(tmp_path: Path, file: str, content: bytes, words: str) -> None:
    ONE.write_layout(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(LxdockerError, match=words):
        opened(f"oci:{tmp_path}").head()


def blob_path(directory: Path, digest: str) -> Path:
    return directory / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_a_manifest_with_other_content(tmp_path: Path) -> None:
    ONE.write_layout(tmp_path)
    blob_path(tmp_path, ONE.digest).write_bytes(b"?" * len(ONE.manifest))
    with pytest.raises(DigestMismatchError):
        opened(f"oci:{tmp_path}").manifest(None)


def test_a_manifest_of_another_size_than_described(tmp_path: Path) -> None:
    layout(tmp_path, entry(ONE) | {"size": 3})
    with pytest.raises(DigestMismatchError, match="expected 3 bytes"):
        opened(f"oci:{tmp_path}").manifest(None)


def test_a_missing_blob(tmp_path: Path) -> None:
    ONE.write_layout(tmp_path)
    blob_path(tmp_path, ONE.digest).unlink()
    with pytest.raises(NotFoundError, match=ONE.digest.removeprefix("sha256:")):
        opened(f"oci:{tmp_path}").manifest(None)


def test_a_pipe_in_a_blobs_place_does_not_hang(tmp_path: Path) -> None:
    ONE.write_layout(tmp_path)
    path = blob_path(tmp_path, ONE.digest)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(VerificationError, match="not a plain file"):
        opened(f"oci:{tmp_path}").manifest(None)


def test_a_digest_never_leads_out_of_the_layout(tmp_path: Path) -> None:
    layout(tmp_path, entry(ONE) | {"digest": "sha256:" + "../" * 20 + "etc/pass"})
    with pytest.raises(VerificationError, match="64 lower-case"):
        opened(f"oci:{tmp_path}").manifest(None)


def test_blobs_may_be_links(tmp_path: Path) -> None:
    """Build tools link blobs from their caches; the digest says whether they are right."""
    ONE.write_layout(tmp_path / "layout")
    path = blob_path(tmp_path / "layout", ONE.digest)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert opened(f"oci:{tmp_path}/layout").manifest(None).raw == ONE.manifest
