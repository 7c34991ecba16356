"""What images bring: archives, their headers, compressed data, documents."""

import contextlib
import hashlib
import io
import random
import re
import tempfile
import zlib
from functools import cache
from pathlib import Path

from lxdocker_lxd.catalogue import LxcSettings
from lxdocker_lxd.convert.guest_files import GuestImage, add_guest
from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from lxdocker_lxd.convert.image_config import parse_image_config
from lxdocker_lxd.convert.json_document import InvalidDocumentError, JsonObject
from lxdocker_lxd.convert.layer import pax
from lxdocker_lxd.convert.layer.archive import walk
from lxdocker_lxd.convert.layer.byte_cursor import ByteCursor
from lxdocker_lxd.convert.layer.compression import inflate
from lxdocker_lxd.convert.layer.headers import LayerHeaders, decode, encode
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.scan import scan
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.oci import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    parse_descriptor,
    parse_manifest,
    render_index,
    render_manifest,
)
from lxdocker_lxd.convert.overrides import config_fields, overridden
from lxdocker_lxd.image_facts import parse_facts
from lxdocker_lxd.serve.lxc_config import LxcContainer, container_config
from lxdocker_lxd.serve.run_config import RunConfig
from lxdocker_lxd.spec import parse_spec
from tests.fuzz.target import Target, compact, json_mutation
from tests.layers.attacks import ATTACKS, SMALL
from tests.layers.tar_builder import (
    Raw,
    archive,
    char,
    d,
    digest_of,
    f,
    hard,
    link,
    pax_member,
    record,
    xattr_records,
)
from tests.layers.trees import emitted

_BLOCK = 512
_SUM = slice(148, 156)
_DIGEST = "sha256:" + "1" * 64
_PLAIN = archive(
    d("d/"),
    f("d/f", "x" * 20, records=xattr_records({"user.a": b"1"})),
    link("l", "d"),
    hard("h", "d/f"),
    char("null", 1, 3),
    f("d/.wh.gone", ""),
)


def _with_sums(data: bytes) -> bytes:
    """Return the archive with right checksums, so that changed fields are looked at."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - _BLOCK + 1, _BLOCK):
        head = blocks[start : start + _BLOCK]
        if head[257:262] == b"ustar":
            head[_SUM] = b" " * 8
            blocks[start + _SUM.start : start + _SUM.stop] = b"%06o\0 " % sum(head)
    return bytes(blocks)


def tar_entries(data: bytes) -> None:
    """Walk, merge, store and read an archive whose checksums are right."""
    content = _with_sums(data)
    blocks = iter([content[at : at + 1000] for at in range(0, len(content), 1000)])
    headers = tuple(walk(ByteCursor(blocks), layer="L", limits=SMALL))
    layer = LayerHeaders(
        layer="L", diff_id=digest_of(content), inflated_bytes=len(content), headers=headers
    )
    stored = encode(layer, stored_bytes=1, limits=SMALL)
    assert decode(stored, layer="L", diff_id=layer.diff_id, stored_bytes=1, limits=SMALL) == layer
    for path, _ in merge([layer], SMALL).walk():
        assert b".." not in path.split(b"/")


def layer(data: bytes) -> None:
    """Take stored bytes all the way: inflate, verify, walk, merge, write the archive anew."""
    path = _scratch() / "layer"
    path.write_bytes(data)
    inflated = data
    with contextlib.suppress(Exception):
        inflated = inflate(io.BytesIO(data)).read(SMALL.inflated_bytes)
    headers = scan(path, diff_id=digest_of(inflated), layer="L", limits=SMALL)
    emitted(merge([headers], SMALL), [path])


def compression(data: bytes) -> None:
    """Inflate."""
    stream = inflate(io.BytesIO(data))
    left_bytes = 1 << 20
    while left_bytes > 0 and (piece := stream.read(4096)):
        left_bytes -= len(piece)


def pax_headers(data: bytes) -> None:
    """Read records, alone and before an entry."""
    with contextlib.suppress(Exception):
        content = archive(
            Raw(pax_member(data, typeflag=b"g")), Raw(pax_member(data)), f("a"), f("b")
        )
        tar_entries(content)
    records = pax.parse_records(data)
    assert pax.parse_records(pax.render_records(records)) == records
    found = dict(records)
    pax.extended_attributes(found)
    tar_entries(archive(Raw(pax_member(data)), f("a", "content")))


def header_index(data: bytes) -> None:
    """Read a stored list of headers whose own digest is right."""
    magic = _STORED[: len(_STORED) - len(_STORED_PAYLOAD) - 32]
    payload = zlib.compress(_STORED_LINES[0] + data, wbits=31)
    content = magic + hashlib.sha256(payload).digest() + payload
    decode(content, layer="L", diff_id=digest_of(_PLAIN), stored_bytes=1, limits=SMALL)


def manifest(data: bytes) -> None:
    """Read a manifest; what it says can be written and read again."""
    found = parse_manifest(data, media_type=None, what="manifest")
    if isinstance(found, Index):
        again = parse_manifest(render_index(found.images), media_type=OCI_INDEX, what="again")
        assert isinstance(again, Index)
    else:
        raw = render_manifest(found.config, found.layers)
        parse_manifest(raw, media_type=OCI_MANIFEST, what="again")


def index(data: bytes) -> None:
    """Read an index, as each kind of server announces it."""
    for media_type in (DOCKER_LIST, "application/json; charset=utf-8"):
        with contextlib.suppress(InvalidDocumentError):
            parse_manifest(data, media_type=media_type, what="index")
    parse_manifest(data, media_type=OCI_INDEX, what="index")


def descriptor(data: bytes) -> None:
    """Read one descriptor."""
    parse_descriptor(JsonObject.parse(data, what="descriptor"))


def image_config(data: bytes) -> None:
    """Read a configuration; what comes out of it is JSON that pages and guest can read."""
    config = parse_image_config(data, what="configuration")
    fields = config_fields(overridden(config, _SPEC))
    RunConfig.read(fields)
    facts = {"config": fields, "volumes": list(config.volumes), "ports": fields.get("ExposedPorts")}
    parse_facts(compact({**facts, "ports": [], "healthcheck": fields.get("Healthcheck")}))


def guest_settings(data: bytes) -> None:
    """Put an image's configuration into its tree as the guest's settings: each stays one line."""
    config = parse_image_config(data[1:], what="configuration")
    tree = _tree(data[0] % len(_TREES) if data else 0)
    guest = GuestImage(
        config=config,
        scripts=load_guest_scripts(),
        busybox=b"busybox",
        image_json=b"{}",
        mtime_ns=0,
    )
    add_guest(tree, guest)
    settings = tree.resolve(b".lxdocker/image/settings")
    assert settings is not None
    assert isinstance(settings.content, bytes)
    names = [item.partition(b"=")[0] for item in settings.content.split(b"\0")[:-1]]
    assert names == [b"user", b"working_dir", b"stop_signal", b"stop_timeout", b"restart", b"mode",
                     b"init", b"halt_signal", b"health_timeout"]  # fmt: skip


def lxc_configs(data: bytes) -> None:
    """Write an image's configuration as LXC's own keys: each value is a line of its own key."""
    config = config_fields(parse_image_config(data, what="configuration"))
    text = container_config(
        LxcContainer(
            name="web",
            build="20260101_00:00",
            reference=str(config.get("User")),
            architecture="amd64",
            oci=config,
            settings=LxcSettings(
                uid=0,
                gid=0,
                groups=(5,),
                home="/",
                stop_signal=15,
                tmpfs=(),
            ),
        ),
        user_namespace=True,
    )
    for line in text.split("\n")[:-1]:
        assert re.match(r"# |lxc\.[a-z.]+ = ", line), line
        assert line.isprintable(), line


def image_facts(data: bytes) -> None:
    """Read what an instance says of its image."""
    facts = parse_facts(data)
    assert all(path.startswith("/") for path in facts.volumes)


def _guest_mutation(data: bytes, dice: random.Random) -> bytes:
    return data[:1] + json_mutation(data[1:], dice)


@cache
def _scratch() -> Path:
    # Kept until the process ends.
    directory = tempfile.TemporaryDirectory(prefix="fuzz-")
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
_TREES = (
    archive(),
    archive(d("sbin/"), f("sbin/init"), d("etc/"), link("etc/hosts", "/x"), d("tmp/")),
    archive(link("sbin", "usr/sbin"), d("usr/sbin/"), link("etc", "/usr"), link("a", "b"), d("b/")),
    archive(link("etc", "etc"), d("bin/"), f("bin/s6-svscan"), link("init", "bin/s6-svscan")),
    archive(
        f("data"), d("v/"), link("v/w", "../data"), d("lib/systemd/"), f("lib/systemd/systemd")
    ),
)


def _tree(number: int) -> Tree:
    content = _TREES[number]
    headers = tuple(walk(ByteCursor(iter([content])), layer="L", limits=SMALL))
    found = LayerHeaders(
        layer="L", diff_id=digest_of(content), inflated_bytes=len(content), headers=headers
    )
    return merge([found], SMALL)


_SPEC = parse_spec("image: x\nenv: {A: b}\nhealthcheck: {interval: 5s}\n", name="x", file="x.yaml")
_STORED = encode(
    LayerHeaders(
        layer="L",
        diff_id=digest_of(_PLAIN),
        inflated_bytes=len(_PLAIN),
        headers=tuple(walk(ByteCursor(iter([_PLAIN])), layer="L", limits=SMALL)),
    ),
    stored_bytes=1,
    limits=SMALL,
)
_STORED_PAYLOAD = _STORED[_STORED.index(b"\x1f\x8b") :]
_STORED_LINES = zlib.decompress(_STORED_PAYLOAD, wbits=31).splitlines(keepends=True)
_LAYERS = tuple(one for attack in ATTACKS for one in attack.layers("/host"))
_SMALL_LAYERS = tuple(layer for layer in _LAYERS if len(layer) <= 8192)
_ENTRY = {"mediaType": OCI_MANIFEST, "digest": _DIGEST, "size": 7}
_BLOB = {"mediaType": OCI_LAYER + "+gzip", "digest": _DIGEST, "size": 7, "urls": ["https://h/x"]}
_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": {"mediaType": OCI_CONFIG, "digest": _DIGEST, "size": 2},
    "layers": [_BLOB, {**_BLOB, "annotations": {"a": "b"}}],
    "annotations": {"org.opencontainers.image.created": "2026-01-02T03:04:05Z"},
}
_PLATFORM = {"os": "linux", "architecture": "arm", "variant": "v7"}
_INDEX = {
    "schemaVersion": 2,
    "mediaType": OCI_INDEX,
    "manifests": [
        {**_ENTRY, "platform": _PLATFORM},
        {**_ENTRY, "platform": {"os": "unknown", "architecture": "unknown"},
         "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    ],
}  # fmt: skip
_EMBEDDED = {"mediaType": OCI_CONFIG, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
             "size": 2, "data": "e30="}  # fmt: skip
_CONFIG = {
    "os": "linux",
    "architecture": "amd64",
    "variant": "v2",
    "created": "2026-01-02T03:04:05Z",
    "config": {
        "Env": ["PATH=/bin", "A=b"],
        "Entrypoint": ["/init"],
        "Cmd": ["a", "b c"],
        "User": "app:app",
        "WorkingDir": "/srv",
        "StopSignal": "SIGRTMIN+3",
        "StopTimeout": 30,
        "Volumes": {"/data": {}, "/v/w": {}},
        "ExposedPorts": {"80/tcp": {}, "8000-8010/udp": {}},
        "Labels": {"a": "b"},
        "Shell": ["/bin/bash", "-c"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1000000000, "Timeout": 2000000000,
                        "StartPeriod": 3, "StartInterval": 4, "Retries": 3},
    },
    "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "RUN x", "empty_layer": True}],
}  # fmt: skip
_FACTS = {
    "volumes": ["/data"],
    "ports": ["80/tcp"],
    "healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9, "Retries": 3},
    "config": {"StopTimeout": 30},
}
_RECORDS = (
    ("path", "a/b"), ("linkpath", "c"), ("size", "7"), ("uid", "5"), ("gid", "6"),
    ("mtime", "1.5"), ("SCHILY.xattr.user.a", "b"), ("LIBARCHIVE.xattr.user.a", "Yg"),
    ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "7"),
    ("GNU.sparse.name", "s"), ("GNU.sparse.size", "7"), ("GNU.sparse.numblocks", "1"),
    ("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "7"), ("GNU.sparse.map", "0,7"),
)  # fmt: skip
_PAX = tuple(record(key, value) for key, value in _RECORDS)

TARGETS = (
    Target(name="tar_entries", parse=tar_entries, seeds=(_PLAIN, *_SMALL_LAYERS), most_bytes=8192),
    Target(name="layer", parse=layer, seeds=(_PLAIN, *_SMALL_LAYERS), most_bytes=8192),
    Target(name="compression", parse=compression, seeds=_SMALL_LAYERS, most_bytes=2048),
    Target(name="pax_headers", parse=pax_headers, seeds=(*_PAX, b"".join(_PAX)), most_bytes=2048),
    Target(
        name="header_index",
        parse=header_index,
        seeds=(b"".join(_STORED_LINES[1:]),),
        mutation=json_mutation,
    ),
    Target(
        name="manifests",
        parse=manifest,
        seeds=(
            compact(_MANIFEST),
            compact({**_MANIFEST, "mediaType": DOCKER_MANIFEST}),
            compact(_INDEX),
            compact({"schemaVersion": 1}),
        ),
        mutation=json_mutation,
    ),
    Target(
        name="indexes",
        parse=index,
        seeds=(compact(_INDEX), compact({"manifests": [_ENTRY]})),
        mutation=json_mutation,
    ),
    Target(
        name="descriptors",
        parse=descriptor,
        seeds=(compact(_EMBEDDED), compact({**_ENTRY, "platform": _PLATFORM})),
        mutation=json_mutation,
    ),
    Target(
        name="image_configs", parse=image_config, seeds=(compact(_CONFIG),), mutation=json_mutation
    ),
    Target(
        name="guest_settings",
        parse=guest_settings,
        seeds=tuple(bytes([number]) + compact(_CONFIG) for number in range(len(_TREES))),
        mutation=_guest_mutation,
    ),
    Target(
        name="lxc_configs", parse=lxc_configs, seeds=(compact(_CONFIG),), mutation=json_mutation
    ),
    Target(name="image_facts", parse=image_facts, seeds=(compact(_FACTS),), mutation=json_mutation),
)
