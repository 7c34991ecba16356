"""The metadata tarball: what LXD reads of an image, the same bytes every time."""

import io
import tarfile
from dataclasses import replace

import yaml

from lxdocker_lxd.convert.metadata import ImageMetadata, metadata_tarball

WEB = ImageMetadata(
    product="web",
    architecture="amd64",
    created_seconds=1_700_000_000,
    description="a web: server é",
    properties={"os": "debian", "a": "1"},
    etc_templates=True,
)


def unpacked(metadata: ImageMetadata) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(metadata_tarball(metadata))) as archive:
        files = {}
        for member in archive:
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
            assert (member.uname, member.gname) == ("", "")
            content = archive.extractfile(member)
            if content is not None:
                files[member.name] = content.read().decode()
        return files


def test_the_document() -> None:
    document = yaml.safe_load(unpacked(WEB)["metadata.yaml"])
    assert document["architecture"] == "amd64"
    assert document["creation_date"] == 1_700_000_000
    assert document["expiry_date"] == 0
    assert document["properties"] == {
        "description": "a web: server é",
        "name": "web",
        "a": "1",
        "os": "debian",
        "lxdocker.product": "web",
    }


def test_templates_are_those_of_the_seeds_and_our_own() -> None:
    files = unpacked(WEB)
    templates = yaml.safe_load(files["metadata.yaml"])["templates"]
    naming = {"when": ["create", "copy", "rename"], "create_only": False, "properties": {}}
    starting = naming | {"when": ["start"]}
    assert templates == {
        "/etc/hostname": naming | {"template": "hostname.tpl"},
        "/etc/hosts": naming | {"template": "hosts.tpl"},
        "/lxd-prelaunch": starting | {"template": "prelaunch.tpl"},
        "/.lxdocker/in/settings": starting | {"template": "settings.tpl"},
    }
    for template in templates.values():
        assert f"templates/{template['template']}" in files


def test_templates_stay_out_of_an_etc_that_is_a_link() -> None:
    templates = yaml.safe_load(unpacked(replace(WEB, etc_templates=False))["metadata.yaml"])
    assert not [path for path in templates["templates"] if path.startswith("/etc")]
    assert "/.lxdocker/in/hostname" in templates["templates"]


def test_equal_input_gives_equal_bytes_and_another_product_others() -> None:
    assert metadata_tarball(WEB) == metadata_tarball(replace(WEB))
    # Two names for one digest must not share a fingerprint, whatever their properties say.
    twin = replace(WEB, product="twin", properties={**WEB.properties, "lxdocker.product": "web"})
    assert metadata_tarball(WEB) != metadata_tarball(twin)
    assert metadata_tarball(replace(WEB, properties={"a": "1", "os": "debian"})) == (
        metadata_tarball(WEB)
    )


def test_an_image_from_1970_has_a_date() -> None:
    """LXD refused it: "Missing creation date"."""
    document = yaml.safe_load(unpacked(replace(WEB, created_seconds=0))["metadata.yaml"])
    assert document["creation_date"] == 1


def test_hostile_texts_stay_texts() -> None:
    text = "x\n- &a ${{ instance.name }} : \"' # \\ é"
    metadata = replace(WEB, description=text, properties={text: text})
    properties = yaml.safe_load(unpacked(metadata)["metadata.yaml"])["properties"]
    assert properties["description"] == text
    assert properties[text] == text
