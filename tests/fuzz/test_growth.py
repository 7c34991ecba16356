"""What each parser of strangers' text costs is proportional to the text: twice as much, twice the cost.

The layers of images have shapes of their own, in ``tests/layers/test_growth.py``.
"""

import json
from collections.abc import Callable

import pytest

from lxdocker_lxd.clients.image_registry import parse_registry
from lxdocker_lxd.clients.simplestreams import parse_products
from lxdocker_lxd.convert.image_config import parse_image_config
from lxdocker_lxd.errors import LxdockerError
from tests.fuzz.target import compact
from tests.fuzz.targets import TARGETS
from tests.harness.growth import expect_proportional, peak_bytes
from tests.layers.tar_builder import record

DIGEST = "sha256:" + "1" * 64
Shape = Callable[[int], bytes]


def listed(piece: bytes) -> Shape:
    """A list of the same many times, as the whole text."""
    return lambda size: b"[" + b",".join([piece] * size) + b"]"


def descriptors(size: int) -> list[object]:
    return [{"mediaType": "a/b", "digest": DIGEST, "size": n} for n in range(size)]


def manifest(size: int) -> bytes:
    fields = {"schemaVersion": 2, "config": descriptors(1)[0], "layers": descriptors(size)}
    return compact(fields)


def index(size: int) -> bytes:
    return compact({"schemaVersion": 2, "manifests": descriptors(size)})


def config(size: int) -> bytes:
    run = {
        "Env": [f"A{n}=b" for n in range(size)],
        "Volumes": {f"/v/{n}": {} for n in range(size)},
        "ExposedPorts": {f"{n % 60000 + 1}/tcp": {} for n in range(size)},
        "Labels": {f"l{n}": "x" for n in range(size)},
        "Cmd": ["x"] * size,
    }
    layers = {"type": "layers", "diff_ids": [DIGEST] * size}
    history = [{"created_by": "x"}] * size
    return compact({"config": run, "rootfs": layers, "history": history})


def guest(size: int) -> bytes:
    return b"\0" + config(size // 2)


def products(size: int) -> bytes:
    item = {"ftype": "lxd_combined.tar.gz", "path": "x/y", "size": 1, "sha256": "0" * 64}
    versions = {f"2026{n:04}": {"items": {"a": item}} for n in range(3)}
    fields = {"arch": "amd64", "aliases": "a,b", "versions": versions}
    return compact({"products": {f"p{n}": fields for n in range(size)}})


def stream_index(size: int) -> bytes:
    entry = {"datatype": "image-downloads", "path": "x", "products": ["p"]}
    return compact({"index": {f"i{n}": entry for n in range(size)}})


def registry(size: int) -> bytes:
    servers = [
        {"name": f"s{n}", "url": "lxc-images://x", "trusted_keys": ["a"]} for n in range(size)
    ]
    return compact({"version": 1, "servers": servers, "aliases": {}})


def specification(size: int) -> bytes:
    variables = "".join(f"  A{n}: b\n" for n in range(size))
    volumes = "".join(f"  - /v/{n}\n" for n in range(size))
    return f"image: nginx\nenv:\n{variables}tmpfs:\n{volumes}".encode()


SHAPES: dict[str, list[tuple[Shape, int]]] = {
    "pax_headers": [
        (lambda n: b"".join(record(f"SCHILY.xattr.user.{i}", "x") for i in range(n)), 300),
        (lambda n: record("path", "a/../" * n), 2000),
    ],
    "manifests": [(manifest, 200), (listed(b"{}"), 4000), (lambda n: b"[" * n, 20000)],
    "indexes": [(index, 200), (lambda n: b'{"manifests":' + listed(b"{}")(n) + b"}", 4000)],
    "image_configs": [(config, 300), (lambda n: b'{"a":' * n, 10000)],
    "guest_settings": [(guest, 400)],
    "references": [
        (lambda n: b"a/" * n, 2000),
        (lambda n: b"a:" * n, 2000),
        (lambda n: b"a" * n + b"@" + b"sha256:" * n, 2000),
    ],
    "auth_headers": [
        (lambda n: b"Bearer " + b'a="b",' * n, 2000),
        (lambda n: b'Bearer realm="' + b'\\"' * n, 5000),
        (lambda n: b"Basic, " * n, 2000),
        (lambda n: b" ,\t" * n, 5000),
        (lambda n: b'Bearer scope="' + b"a " * n + b'"', 5000),
    ],
    "stream_documents": [
        (products, 40),
        (stream_index, 300),
        (lambda n: b'{"products":' + listed(b"{}")(n) + b"}", 4000),
        (lambda n: b'{"products":{"p":{"aliases":"' + b"," * n + b'"}}}', 5000),
    ],
    "lxc_index": [
        (lambda n: b"a;b;c;d;e;/f\n" * n, 300),
        (lambda n: b";" * n, 5000),
        (lambda n: b"a;b;c;d;e;" + b"f/" * n, 2000),
    ],
    "registry_index": [(registry, 300)],
    "specs": [
        (specification, 40),
        (lambda n: b"image: a\nentrypoint: [" + b"a, " * n + b"]", 150),
        (lambda n: b"image: a\n" + b"- " * n, 1000),
        (lambda n: b"image: '" + b"\\n" * n, 3000),
    ],
    "catalogues": [(listed(b"{}"), 5000)],
    "tokens": [(lambda n: b'{"token":"' + b"a" * n + b'"}', 20000)],
}
CASES = [(name, number) for name, shapes in SHAPES.items() for number in range(len(shapes))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_twice_the_text_costs_twice_as_much(name: str, number: int) -> None:
    make, size = SHAPES[name][number]
    expect_proportional(make, TARGETS[name].check, size)


READERS: list[Callable[..., object]] = [parse_image_config, parse_products, parse_registry]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_document_of_empty_objects_is_refused_before_it_fills_the_memory(
    read: Callable[..., object],
) -> None:
    """Each takes three bytes in the text and seventy in memory, or more."""
    text = listed(b"{}")(400_001)

    def refused() -> None:
        with pytest.raises(LxdockerError, match=r"more than [24]00000 values"):
            read(text, what="document")

    assert peak_bytes(refused) < len(text)


def test_deep_brackets_make_no_large_document() -> None:
    """An indent for each level made a megabyte out of some kilobytes, and half a gigabyte of memory."""
    deep = json.dumps([1] * 1000)
    for _ in range(100):
        deep = f"[{deep}]"
    assert not TARGETS["manifests"].check(deep.encode())
