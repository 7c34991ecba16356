"""Manifests, indexes and configurations: what is read, and what is refused and why."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.oci import Descriptor, Index, Manifest, UnsupportedImageError
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.platform import Platform

EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
DIGEST = "sha256:" + "a" * 64


def entry(**fields: Any) -> dict[str, Any]:
    return {"mediaType": oci.OCI_LAYER + "+gzip", "digest": DIGEST, "size": 3} | fields


def manifest(**fields: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": entry(mediaType=oci.OCI_CONFIG),
        "layers": [entry()],
    } | fields


def index(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": list(entries)} | fields


def parse(document: object, media_type: str | None = None) -> Manifest | Index:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return oci.parse_manifest(raw, media_type=media_type, what="image")


def config(run: object = None, **fields: Any) -> oci.ImageConfig:
    document = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "config": run,
    } | fields
    return oci.parse_image_config(json.dumps(document).encode(), what="image")


# --- manifests and indexes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "served", "kind"),
    [
        (manifest(), oci.OCI_MANIFEST, oci.OCI_MANIFEST),
        (manifest(), None, oci.OCI_MANIFEST),
        (manifest(), oci.OCI_MANIFEST + "; charset=utf-8", oci.OCI_MANIFEST),
        (manifest(), "application/json", oci.OCI_MANIFEST),
        (manifest(mediaType=oci.DOCKER_MANIFEST), oci.DOCKER_MANIFEST, oci.DOCKER_MANIFEST),
        (manifest(mediaType=None), oci.OCI_MANIFEST, oci.OCI_MANIFEST),
        (manifest(mediaType=None), None, oci.OCI_MANIFEST),
        (index(), oci.OCI_INDEX, oci.OCI_INDEX),
        (index(mediaType=None), "text/plain", oci.OCI_INDEX),
        (index(mediaType=oci.DOCKER_LIST), oci.DOCKER_LIST, oci.DOCKER_LIST),
    ],
)
def test_kinds(document: dict[str, Any], served: str | None, kind: str) -> None:
    assert parse(document, served).media_type == kind


def test_a_manifest_is_read() -> None:
    read = parse(manifest(annotations={"a": "b"}, layers=[entry(urls=["https://x"], size=0)]))
    assert isinstance(read, Manifest)
    assert read.annotations == {"a": "b"}
    assert read.config.media_type == oci.OCI_CONFIG
    assert read.layers == (
        Descriptor(
            media_type=oci.OCI_LAYER + "+gzip",
            digest=Digest.parse(DIGEST),
            size_bytes=0,
            platform=None,
            annotations={},
            urls=("https://x",),
            data=None,
        ),
    )


@pytest.mark.parametrize("layers", [None, []])
def test_an_image_may_have_no_layers(layers: object) -> None:
    read = parse(manifest(layers=layers))
    assert isinstance(read, Manifest)
    assert read.layers == ()


@pytest.mark.parametrize(
    ("document", "served", "words"),
    [
        (b"", None, "not valid JSON"),
        (b"\xff\xfe{}", None, "not UTF-8"),
        (b"[]", None, "must be an object, got a list"),
        (b'{"schemaVersion":2,"schemaVersion":2}', None, "'schemaVersion' occurs twice"),
        (b'{"a":{"b":1,"b":1}}', None, "'b' occurs twice"),
        (b'{"a":NaN}', None, "NaN is not a number"),
        (b'{"a":-1e999}', None, "the number -1e999 is too large"),
        (b"[" * 100_000, None, "nested too deeply"),
        (b'{"size":' + b"9" * 5000 + b"}", None, "not valid JSON"),
        (b'{"mediaType":"\\ud800"}', None, "not valid Unicode"),
        (manifest(schemaVersion=3), None, "schemaVersion must be 2"),
        (manifest(schemaVersion=None), None, "schemaVersion must be 2"),
        (manifest(schemaVersion="2"), None, "schemaVersion must be a whole number"),
        (manifest(), oci.OCI_INDEX, "mediaType is"),
        (manifest(), oci.DOCKER_MANIFEST, "mediaType is"),
        (manifest(manifests=[]), None, "manifests has no place"),
        (manifest(Manifests=[]), None, "manifests has no place"),
        (manifest(LAYERS=[]), None, "differ only in upper and lower case"),
        (manifest(fsLayers=[]), None, "fslayers has no place"),
        (index(layers=[]), None, "layers has no place"),
        (index(config={}), None, "config has no place"),
        (manifest(mediaType=None, manifests=[]), None, "config has no place"),
        (manifest(config=None), None, "config is missing"),
        (manifest(config=[]), None, "config must be an object"),
        (manifest(layers={}), None, "layers must be a list"),
        (manifest(layers=[entry(), 3]), None, "layers[1] must be an object, got a number"),
        (manifest(layers=[entry(size=-1)]), None, "layers[0]: size is negative"),
        (manifest(layers=[entry(size=None)]), None, "size is missing"),
        (manifest(layers=[entry(size=1.5)]), None, "size must be a whole number"),
        (manifest(layers=[entry(size=True)]), None, "size must be a whole number, got a boolean"),
        (manifest(layers=[entry(size=1 << 63)]), None, "does not fit 64 bits"),
        (manifest(layers=[entry(digest="sha256:../../etc/passwd")]), None, "64 lower-case"),
        (manifest(layers=[entry(digest=DIGEST.upper())]), None, "does not start with sha256"),
        (manifest(layers=[entry(digest="")]), None, "digest is missing"),
        (manifest(layers=[entry(mediaType="")]), None, "mediaType is missing"),
        (manifest(layers=[entry(urls="x")]), None, "urls must be a list"),
        (manifest(layers=[entry(annotations={"a": 1})]), None, "must be a string, got a number"),
        (manifest(layers=[entry(data="!")]), None, "not base64"),
        (manifest(layers=[entry(data="e30=")]), None, "data has 2 bytes, size says 3"),
        (manifest(layers=[entry(data="e30=", size=2)]), None, "data has digest sha256:44136"),
    ],
)
def test_bad_documents(document: object, served: str | None, words: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        parse(document, served)
    assert caught.value.message.startswith("image: ")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("document", "served"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, None),
        ({"schemaVersion": 1}, oci.DOCKER_SCHEMA1),
        (manifest(), oci.DOCKER_SCHEMA1_SIGNED),
    ],
)
def test_schema_1_is_named(document: object, served: str | None) -> None:
    with pytest.raises(UnsupportedImageError, match="schema 1") as caught:
        parse(document, served)
    assert "push the image again" in caught.value.hint


def test_other_documents_are_no_images() -> None:
    with pytest.raises(UnsupportedImageError, match="is not an image"):
        parse(manifest(mediaType="application/vnd.oci.artifact.manifest.v1+json"))


def test_embedded_data_is_verified_and_kept() -> None:
    data = base64.b64encode(b"{}").decode()
    read = parse(manifest(config=entry(mediaType=oci.OCI_CONFIG, digest=EMPTY, size=2, data=data)))
    assert isinstance(read, Manifest)
    assert read.config.data == b"{}"


def test_only_images_of_an_index_are_candidates() -> None:
    image = {"mediaType": oci.OCI_MANIFEST}
    amd64 = {"os": "linux", "architecture": "amd64"}
    unknown = {"os": "unknown", "architecture": "unknown"}
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}
    read = parse(
        index(
            entry(**image, platform=amd64),
            entry(**image, platform=unknown),
            entry(**image, platform=amd64, annotations=attestation),
            entry(mediaType="application/vnd.example+json", platform=amd64),
            entry(mediaType=oci.OCI_INDEX),
            entry(**image, platform={}),
            entry(**image, platform={"os": "linux", "architecture": "arm", "variant": "7"}),
        )
    )
    assert isinstance(read, Index)
    assert len(read.manifests) == 7
    assert [image.platform and str(image.platform) for image in read.images] == [
        "linux/amd64",
        None,
        None,
        "linux/arm/v7",
    ]


def test_artifacts_are_refused_by_name() -> None:
    chart = parse(manifest(config=entry(mediaType="application/vnd.cncf.helm.config.v1+json")))
    encrypted = parse(manifest(layers=[entry(mediaType=oci.OCI_LAYER + "+gzip+encrypted")]))
    good = parse(manifest())
    assert isinstance(chart, Manifest)
    assert isinstance(encrypted, Manifest)
    assert isinstance(good, Manifest)
    oci.check_image(good, what="image")
    with pytest.raises(UnsupportedImageError, match="helm"):
        oci.check_image(chart, what="image")
    with pytest.raises(UnsupportedImageError, match="encrypted"):
        oci.check_image(encrypted, what="image")


def test_layers_and_diff_ids_must_pair() -> None:
    one, none = parse(manifest()), parse(manifest(layers=[]))
    assert isinstance(one, Manifest)
    assert isinstance(none, Manifest)
    oci.check_layers(one, config(), what="image")
    with pytest.raises(InvalidDocumentError, match="0 layers, the configuration 1 diff_ids"):
        oci.check_layers(none, config(), what="image")


def test_rendered_documents_are_read_back() -> None:
    descriptor = Descriptor(
        media_type=oci.OCI_MANIFEST,
        digest=Digest.parse(DIGEST),
        size_bytes=7,
        platform=Platform.parse("arm/v7"),
        annotations={"b": "2", "a": "1"},
        urls=("https://x/",),
        data=None,
    )
    read = parse(oci.render_index([descriptor]))
    assert isinstance(read, Index)
    assert read.manifests == (descriptor,)
    made = parse(oci.render_manifest(descriptor, [descriptor, descriptor]))
    assert isinstance(made, Manifest)
    assert (made.config, made.layers) == (descriptor, (descriptor, descriptor))


# --- configurations ----------------------------------------------------------------------------


def test_a_configuration_is_read() -> None:
    read = config(
        {
            "Env": ["PATH=/bin", "A=1=2", "A=3", "EMPTY=", "NOTHING", "=x"],
            "Entrypoint": ["/e", ""],
            "Cmd": ["c d"],
            "User": "www-data:www-data",
            "WorkingDir": "/srv",
            "StopSignal": "SIGQUIT",
            "StopTimeout": 90,
            "Volumes": {"/b": {}, "/a": {}},
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"l": "v"},
            "Shell": ["/bin/ash", "-c"],
        },
        created="2024-01-02T03:04:05.123456789Z",
        variant="v2",
        history=[{"created_by": "RUN x", "empty_layer": True}, {"comment": "c"}],
    )
    assert read.env == ("PATH=/bin", "A=3", "EMPTY=")
    assert (read.entrypoint, read.cmd) == (("/e", ""), ("c d",))
    assert (read.user, read.working_dir) == ("www-data:www-data", "/srv")
    assert (read.stop_signal, read.stop_timeout_seconds) == ("SIGQUIT", 90)
    assert (read.volumes, read.exposed_ports) == (("/a", "/b"), ("80/tcp",))
    assert read.labels == {"l": "v"}
    assert read.created == "2024-01-02T03:04:05.123456789Z"
    assert str(read.platform) == "linux/amd64/v2"
    assert [step.empty_layer for step in read.history] == [True, False]
    assert read.diff_ids == (Digest.parse(DIGEST),)


@pytest.mark.parametrize(
    "run",
    [
        None,
        {},
        dict.fromkeys(
            [
                "Env",
                "Entrypoint",
                "Cmd",
                "User",
                "WorkingDir",
                "StopSignal",
                "Volumes",
                "ExposedPorts",
                "Labels",
                "Healthcheck",
                "Shell",
            ]
        ),
    ],
)
def test_null_is_not_set(run: object) -> None:
    read = config(run, history=None, created=None)
    assert (read.env, read.entrypoint, read.cmd, read.user) == ((), (), (), "")
    assert (read.working_dir, read.stop_signal, read.created) == ("/", None, None)
    assert (read.volumes, read.labels, read.healthcheck) == ((), {}, None)
    assert (read.shell, read.history, read.healthcheck_command) == ((), (), ())


@pytest.mark.parametrize("value", [-1, "90", True, 1.5, None])
def test_a_stop_timeout_that_is_none_is_left_out(value: object) -> None:
    assert config({"StopTimeout": value}).stop_timeout_seconds is None


def test_old_images_hold_one_string_as_entrypoint() -> None:
    assert config({"Entrypoint": "/run.sh"}).entrypoint == ("/run.sh",)


def test_a_relative_working_directory_starts_at_the_root() -> None:
    assert config({"WorkingDir": "srv/app"}).working_dir == "/srv/app"


def test_volumes_are_cleaned_as_docker_cleans_them() -> None:
    """Image and catalogue repeated them as they came, and launching refused what it read there."""
    odd = ["data", "./data", "/../../data/", "//x//y", "../x/.", ""]
    assert config({"Volumes": {text: {} for text in odd}}).volumes == ("/", "/data", "/x", "/x/y")


def test_health_check_durations_are_nanoseconds() -> None:
    read = config(
        {
            "Healthcheck": {
                "Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"],
                "Interval": 30_000_000_000,
                "Timeout": 1_500_000_000,
                "StartPeriod": 0,
                "StartInterval": 5_000_000_000,
                "Retries": 3,
            }
        }
    ).healthcheck
    assert read == oci.Healthcheck(
        test=("CMD-SHELL", "curl -f http://localhost/ || exit 1"),
        interval_seconds=30.0,
        timeout_seconds=1.5,
        start_period_seconds=None,
        retries=3,
        start_interval_seconds=5.0,
    )


@pytest.mark.parametrize(
    ("test", "shell", "command"),
    [
        (["CMD", "/check", "-q"], None, ("/check", "-q")),
        (["CMD-SHELL", "a b"], None, ("/bin/sh", "-c", "a b")),
        (["CMD-SHELL", "a b"], ["/bin/bash", "-ec"], ("/bin/bash", "-ec", "a b")),
        (["NONE"], None, ()),
        ([], None, ()),
        (["CMD"], None, ()),
    ],
)
def test_health_check_command(
    test: list[str], shell: list[str] | None, command: tuple[str, ...]
) -> None:
    assert config({"Healthcheck": {"Test": test}, "Shell": shell}).healthcheck_command == command


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rootfs": None}, "rootfs is missing"),
        ({"rootfs": {"type": "squashfs"}}, "rootfs: type must be 'layers'"),
        ({"rootfs": {}}, "type must be 'layers'"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "diff_ids"),
        ({"config": []}, "config must be an object"),
        ({"config": {"Env": "A=1"}}, "config: Env must be a list"),
        ({"config": {"Env": [1]}}, "Env[0] must be a string"),
        ({"config": {"Env": ["A=\0"]}}, "Env holds a NUL"),
        ({"config": {"Cmd": ["a\0b"]}}, "Cmd holds a NUL"),
        ({"config": {"User": "a\0"}}, "User holds a NUL"),
        ({"config": {"WorkingDir": "/\0"}}, "WorkingDir holds a NUL"),
        ({"config": {"Volumes": ["/a"]}}, "Volumes must be an object"),
        ({"config": {"Labels": {"a": []}}}, "Labels['a'] must be a string"),
        ({"config": {"Healthcheck": {"Test": ["sh"]}}}, "must start with NONE, CMD"),
        ({"config": {"Healthcheck": {"Test": ["CMD", "a"], "Interval": -1}}}, "negative"),
        ({"config": {"Healthcheck": {"Test": ["CMD", "a"], "Retries": -1}}}, "negative"),
        ({"history": [{"empty_layer": "yes"}]}, "empty_layer must be true or false"),
    ],
)
def test_bad_configurations(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        config(**{"run": None, **fields} if "config" not in fields else {"run": fields["config"]})
    assert words in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "annotations",
        "digest",
        "size",
        "urls",
        "data",
        "platform",
        "rootfs",
        "type",
        "diff_ids",
        "history",
        "Env",
        "Healthcheck",
        "Test",
        "Labels",
        "os",
    ]
)


@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON)))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    raw = json.dumps(document).encode()
    for read in (
        lambda: oci.parse_manifest(raw, media_type=None, what="image"),
        lambda: oci.parse_image_config(raw, what="image"),
    ):
        try:
            read()
        except VerificationError as error:
            message = error.message
            assert message.startswith("image: ")


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError):
        oci.parse_manifest(raw, media_type=None, what="image")
