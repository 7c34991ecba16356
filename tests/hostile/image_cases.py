"""Hostile images: each goes through a whole conversion."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from backports import zstd

from lxdocker_lxd.convert.archive_members import InvalidArchiveError
from lxdocker_lxd.convert.guest_writer import GuestNameError
from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.layer.errors import (
    LayerError,
    LayerLimitError,
    UnsafeLinkError,
)
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.oci import UnsupportedImageError
from lxdocker_lxd.convert.pull import PlatformNotFoundError
from lxdocker_lxd.convert.stop_signal import StopSignalError
from lxdocker_lxd.digest import DigestMismatchError
from lxdocker_lxd.errors import LxdockerError, NotFoundError, VerificationError
from lxdocker_lxd.image_facts import parse_facts
from tests.convert.workshop import Workshop
from tests.harness.hostile_values import COMMANDS, CONTROLS, PORTS_NOT
from tests.harness.tiny_image import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    TinyImage,
    digest_of,
)
from tests.hostile.case import HostileCase, machine_of
from tests.layers.attacks import ATTACKS
from tests.layers.tar_builder import (
    Raw,
    archive,
    char,
    d,
    f,
    fifo,
    hard,
    link,
    pax_member,
    raw_header,
    record,
    xattr_records,
)
from tests.layers.test_hostile import inflated_digest

Document = Mapping[str, object]
_PARTY = "image"
_PLAIN = archive(d("bin/"), f("bin/app", "#!/bin/sh\n"))


def image(
    *layers: bytes,
    run: Document | None = None,
    top: Document | bytes | None = None,
    manifest: Document | bytes | None = None,
) -> TinyImage:
    """Return an image of stored layers; ``run`` is its ``config``, the others change a document.

    Bytes take the place of a document; a field None is left out.
    """
    config = top if isinstance(top, bytes) else _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(run or {"Cmd": ["/bin/app"]}),
            "rootfs": {"type": "layers", "diff_ids": [str(inflated_digest(one)) for one in layers]},
            **(top or {}),
        }
    )  # fmt: skip
    raw = manifest if isinstance(manifest, bytes) else _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described(OCI_CONFIG, config),
            "layers": [described(OCI_LAYER_GZIP, one) for one in layers],
            **(manifest or {}),
        }
    )  # fmt: skip
    blobs = {digest_of(content): content for content in (config, *layers)}
    return TinyImage(raw, OCI_MANIFEST, config, layers, blobs)


def described(media_type: str, content: bytes, **more: object) -> dict[str, object]:
    """Return the descriptor of some content."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


@dataclass(frozen=True, slots=True)
class Built:
    """What a conversion of a hostile image left, for checks."""

    workshop: Workshop

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration in the catalogue."""
        return self.workshop.product("evil").newest.config

    def file(self, name: str) -> bytes:
        """Return the content of a file of the root filesystem."""
        with tarfile.open(self.workshop.file("evil")) as found:
            member = found.extractfile(name)
            assert member is not None, name
            return member.read()


Check = Callable[[Built], object]


def converted(
    place: Path,
    made: TinyImage | Callable[[Path], TinyImage],
    *,
    check: Check | None = None,
    spoil: Callable[[Path, Path], object] | None = None,
    limits: LayerLimits | None = None,
    spec: str = "",
) -> None:
    """Convert an image from a layout, which ``spoil`` may change before; raise what went wrong."""
    workshop = Workshop(place / "workshop")
    workshop.options = replace(workshop.options, limits=limits or LayerLimits())
    layout = workshop.specs / "evil.layout"
    (made(machine_of(place)) if callable(made) else made).write_layout(layout)
    if spoil is not None:
        spoil(layout, machine_of(place))
    workshop.spec("evil", spec)
    _outcome(workshop, check)


def _outcome(workshop: Workshop, check: Check | None) -> None:
    (found,) = workshop.run().outcomes
    if found.error is not None:
        assert not workshop.catalogue.products
        raise found.error
    assert found.outcome == "built"
    built = Built(workshop)
    parse_facts(built.file("lxd-image.json"))
    assert workshop.directory.verify() == ()
    if check is not None:
        check(built)


def from_archive(place: Path, kind: str, write: Callable[[Path, Path], object]) -> None:
    """Convert an image from an archive that ``write`` makes."""
    workshop = Workshop(place / "workshop")
    write(workshop.specs / "evil.tar", machine_of(place))
    workshop.spec("evil", f"image: {kind}:evil.tar\n")
    _outcome(workshop, None)


def _layers(place: Path, layers: Callable[[str], list[bytes]], limits: LayerLimits) -> None:
    converted(place, image(*layers(str(machine_of(place)))), limits=limits)


def _case(
    name: str,
    made: TinyImage | Callable[[Path], TinyImage],
    error: type[LxdockerError] | None = None,
    says: str = "",
    **how: object,
) -> HostileCase:
    bounds = {key: how.pop(key) for key in ("most_seconds", "most_mb", "is_slow") if key in how}
    return HostileCase(
        party=_PARTY,
        name=name,
        meet=partial(converted, made=made, **how),  # type: ignore[arg-type]  # a table
        error=error,
        says=says,
        **bounds,  # type: ignore[arg-type]
    )


def _run(name: str, run: Document, *rest: object, **how: object) -> HostileCase:
    return _case(name, image(_PLAIN, run={"Cmd": ["/bin/app"], **run}), *rest, **how)  # type: ignore[arg-type]


def _manifest(name: str, changes: Document, says: str, *, error: type[LxdockerError] = InvalidDocumentError) -> HostileCase:  # fmt: skip
    return _case(name, image(_PLAIN, manifest=changes), error, says)


# ---- checks of what was built all the same


def _no_ports(built: Built) -> None:
    assert "ExposedPorts" not in built.config
    assert json.loads(built.file("lxd-image.json"))["ports"] == []


def _environment_is_data(built: Built) -> None:
    entries = built.file(".lxdocker/image/env").split(b"\0")[:-1]
    assert set(COMMANDS) <= {entry.partition(b"=")[2].decode() for entry in entries}


def _command_is_data(built: Built) -> None:
    words = built.file(".lxdocker/image/cmd").split(b"\0")[:-1]
    assert [word.decode() for word in words] == list(COMMANDS)


def _nothing_of_the_host(built: Built) -> None:
    with tarfile.open(built.workshop.file("evil")) as found:
        for member in found:
            stream = found.extractfile(member) if member.isreg() else None
            assert stream is None or b"secret" not in stream.read()


def _settings_stay(built: Built) -> None:
    items = built.file(".lxdocker/image/settings").split(b"\0")
    assert len([item for item in items if item.startswith(b"mode=")]) == 1
    assert b"user=root\nmode=evil" in items


# ---- documents


def _deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def _nested_indexes(levels: int) -> TinyImage:
    made = image(_PLAIN)
    blobs = {**made.blobs, made.digest: made.manifest}
    entry = described(
        OCI_MANIFEST, made.manifest, platform={"os": "linux", "architecture": "amd64"}
    )
    raw = b""
    for _ in range(levels):
        raw = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
        blobs[digest_of(raw)] = raw
        entry = described(OCI_INDEX, raw)
    return TinyImage(raw, OCI_INDEX, made.config, made.layers, blobs)


def _index(*entries: Document, more: int = 0) -> TinyImage:
    made = image(_PLAIN)
    listed = [*entries, *({**entries[0]} for _ in range(more))]
    raw = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
    blobs = {**made.blobs, made.digest: made.manifest}
    return TinyImage(raw, OCI_INDEX, made.config, made.layers, blobs)


_WINDOWS = {"os": "windows", "architecture": "amd64"}
_DIGEST = "sha256:" + "1" * 64
_LAYER = {"mediaType": OCI_LAYER_GZIP, "digest": _DIGEST, "size": 7}
_DOCUMENTS = (
    _case("configuration that is no JSON", image(_PLAIN, top=b"<html>"), InvalidDocumentError, "JSON"),
    _case("configuration of 100,000 brackets", image(_PLAIN, top=_deep(100_000)), InvalidDocumentError),
    _case("configuration over its limit", image(_PLAIN, top=b'{"a":"' + b"a" * (9 << 20) + b'"}'), VerificationError),
    _case("configuration with a key twice", image(_PLAIN, top=b'{"rootfs":{},"rootfs":{}}'), InvalidDocumentError, "twice"),
    _case("configuration with NaN", image(_PLAIN, top=b'{"rootfs":NaN}'), InvalidDocumentError, "not a number"),
    _case("configuration with 1e999", image(_PLAIN, top=b'{"rootfs":1e999}'), InvalidDocumentError, "too large"),
    _case("configuration with a number of 5,000 digits", image(_PLAIN, top=b'{"a":' + b"9" * 5000 + b"}"), InvalidDocumentError),
    _case("configuration without layers' digests", image(_PLAIN, top={"rootfs": {"type": "layers", "diff_ids": []}}), InvalidDocumentError, "diff_ids"),
    _case("diff_id of another algorithm", image(_PLAIN, top={"rootfs": {"type": "layers", "diff_ids": ["md5:" + "0" * 32]}}), InvalidDocumentError, "sha256"),
    _case("diff_id that is a path", image(_PLAIN, top={"rootfs": {"type": "layers", "diff_ids": ["sha256:../../../../etc/shadow"]}}), InvalidDocumentError, "hexadecimal"),
    _case("diff_id of another layer", image(_PLAIN, top={"rootfs": {"type": "layers", "diff_ids": [_DIGEST]}}), DigestMismatchError, "diff_id"),
    _run("NUL in a variable", {"Env": ["A=b\0C=d"]}, InvalidDocumentError, "NUL"),
    _run("NUL in the command", {"Cmd": ["a\0b"]}, InvalidDocumentError, "NUL"),
    _run("NUL in the user", {"User": "root\0mode=evil"}, InvalidDocumentError, "NUL"),
    _run("newline in the user", {"User": "root\nmode=evil"}, check=_settings_stay),
    _run("half a surrogate pair in a label", {"Labels": {"a": "\ud800"}}, InvalidDocumentError, "Unicode"),
    _run("unknown stop signal", {"StopSignal": "SIGNOPE; reboot"}, StopSignalError, "no signal"),
    _run("stop signal of 5,000 digits", {"StopSignal": "9" * 5000}, StopSignalError, "no signal"),
    _run("health check of another kind", {"Healthcheck": {"Test": ["EVAL", "x"]}}, InvalidDocumentError, "CMD-SHELL"),
    _run("health check before time began", {"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}}, InvalidDocumentError, "negative"),
    _run("environment that isn't a list", {"Env": {"A": "b"}}, InvalidDocumentError, "list"),
    _run("ports that are commands and worse", {"ExposedPorts": {text: {} for text in PORTS_NOT}}, check=_no_ports),
    _run("variables that are commands", {"Env": [f"V{n}={text}" for n, text in enumerate(COMMANDS)]}, check=_environment_is_data),
    _run("words that are commands", {"Cmd": list(COMMANDS)}, check=_command_is_data),
    _run("labels that command a terminal", {"Labels": {f"l{n}": text.replace("\0", "") for n, text in enumerate(CONTROLS)}}),
    _run("volumes that climb out", {"Volumes": {"/../../../../etc": {}, "../x": {}, "//y": {}}}),
    _run("volumes at the kernel's and the guest's places", {"Volumes": {"/proc/1": {}, "/.lxdocker": {}, "/sbin/init/x": {}, "/": {}}}, GuestNameError, "place of its own"),
    _run("working directory that climbs out", {"WorkingDir": "/../../../../root"}),
    _run("loader variables", {"Env": ["LD_PRELOAD=/evil.so", "PATH=.", "IFS=x", "ENV=/evil.sh"]}),
    _manifest("manifest of two kinds", {"manifests": []}, "no place"),
    _manifest("manifest with keys that differ in case", {"Layers": []}, "upper and lower case"),
    _manifest("negative size", {"layers": [{**_LAYER, "size": -1}]}, "negative"),
    _manifest("size beyond 64 bits", {"layers": [{**_LAYER, "size": 1 << 70}]}, "64 bits"),
    _manifest("digest that is a path", {"layers": [{**_LAYER, "digest": "sha256:../../../../shadow"}]}, "hexadecimal"),
    _manifest("layer that is a program", {"layers": [{**_LAYER, "mediaType": "application/x-sh"}]}, "", error=VerificationError),
    _manifest("embedded data with another digest", {"layers": [{**_LAYER, "size": 2, "data": "e30="}]}, "digest differs"),
    _manifest("512 layers and one", {"layers": [_LAYER] * 513}, "", error=VerificationError),
    _manifest("layer that isn't there", {"layers": [_LAYER]}, "", error=LxdockerError),
    _manifest("size of a layer is too small", {"layers": [{**described(OCI_LAYER_GZIP, _PLAIN), "size": 5}]}, "", error=VerificationError),
    _manifest("size of a layer is an exabyte", {"layers": [{**described(OCI_LAYER_GZIP, _PLAIN), "size": 1 << 60}]}, "", error=LxdockerError),
    _case("manifest of Docker's schema 1", image(manifest=b'{"schemaVersion":1,"fsLayers":[]}'), UnsupportedImageError, "schema 1"),
    _case("manifest over its limit", image(_PLAIN, manifest={"x": "a" * (5 << 20)}), InvalidDocumentError, "larger than"),
    _case("index in an index in an index", _nested_indexes(40), LxdockerError, ""),
    _case("index without an image for this machine", _index({**_LAYER, "mediaType": OCI_MANIFEST, "platform": _WINDOWS}), PlatformNotFoundError, "linux/amd64"),
    _case("index of 15,000 entries", _index({**_LAYER, "mediaType": OCI_MANIFEST, "platform": _WINDOWS}, more=15_000), PlatformNotFoundError, "", most_mb=256),
)  # fmt: skip


# ---- root filesystems that aim at the guest's files, and at the host while they are converted


def _aimed(*names: str) -> Callable[[Path], TinyImage]:
    def made(machine: Path) -> TinyImage:
        links = [link(name, str(machine)) for name in names]
        return image(archive(d("bin/"), f("bin/app"), *links))

    return made


_FILESYSTEMS = (
    _case("links to the host where the guest writes", _aimed(".lxdocker", "busybox-lxd", "lxd-image.json", "lxd-prelaunch", "lxd-realinit"), check=_nothing_of_the_host),
    _case("/etc is a link to the host", _aimed("etc"), check=_nothing_of_the_host),
    _case("/sbin is a link to the host", _aimed("sbin"), check=_nothing_of_the_host),
    _case("/sbin/init leads out by climbing", image(archive(d("sbin/"), link("sbin/init", "../" * 30 + "tmp/x"))), check=_nothing_of_the_host),
    _case("/sbin/init is a device", image(archive(d("sbin/"), char("sbin/init", 1, 3)))),
    _case("/sbin is a circle", image(archive(link("sbin", "sbin"))), UnsafeLinkError, "circle"),
    _case("/etc is a file", image(archive(f("etc"))), LxdockerError),
    _case("devices of the host's disks, pipes, setuid", image(archive(char("mem", 1, 1), fifo("pipe"), f("su", mode=0o6755)))),
    _case("attributes of the kernel's", image(archive(f("a", records=xattr_records({"security.capability": b"\x01\x00\x00\x02" + b"\xff" * 16, "trusted.overlay.redirect": b"/etc", "security.selinux": b"x"}))))),
    _case("names that command a terminal", image(archive(*[f("x" + text.replace("\0", "").replace("/", "")) for text in CONTROLS]))),
    _case("names of 255 bytes, 40 deep", image(archive(f("/".join(["n" * 100] * 40))))),
    _case("volume through a link to the host", lambda machine: image(archive(link("data", str(machine))), run={"Volumes": {"/data/x": {}}}), check=_nothing_of_the_host),
)  # fmt: skip


# ---- places images come from


def _link_blob(layout: Path, machine: Path) -> None:
    digest = digest_of(_PLAIN).partition(":")[2]
    blob = layout / "blobs" / "sha256" / digest
    blob.unlink()
    blob.symlink_to(machine / "shadow")


def _pipe(name: str) -> Callable[[Path, Path], object]:
    def spoil(layout: Path, _machine: Path) -> None:
        (layout / name).unlink()
        os.mkfifo(layout / name)

    return spoil


def _written(name: str, content: bytes) -> Callable[[Path, Path], object]:
    return lambda layout, _machine: (layout / name).write_bytes(content)


def _gone(layout: Path, _machine: Path) -> None:
    shutil.rmtree(layout / "blobs")


_PLACES = (
    _case("layer in the layout is a link to the host", image(_PLAIN), VerificationError, "", spoil=_link_blob),
    _case("index.json is a pipe", image(_PLAIN), LxdockerError, "", spoil=_pipe("index.json")),
    _case("index.json of 100,000 brackets", image(_PLAIN), InvalidDocumentError, "", spoil=_written("index.json", _deep(100_000))),
    _case("layout of another version", image(_PLAIN), InvalidDocumentError, "not supported", spoil=_written("oci-layout", b'{"imageLayoutVersion":"9"}')),
    _case("layout without blobs", image(_PLAIN), NotFoundError, "", spoil=_gone),
)  # fmt: skip


def _docker_archive(
    entry: Document, members: Callable[[Path], Sequence[tarfile.TarInfo]] = lambda _: ()
) -> Callable[[Path, Path], object]:
    def write(path: Path, machine: Path) -> None:
        content = json.dumps([{"Config": "config.json", "Layers": ["layer.tar"], **entry}]).encode()
        digest = "sha256:" + hashlib.sha256(_PLAIN).hexdigest()
        config = _json({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/app"]},
                        "rootfs": {"type": "layers", "diff_ids": [digest]}})  # fmt: skip
        with tarfile.open(path, "w") as made:
            for name, data in (("manifest.json", content), ("config.json", config)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                made.addfile(member, io.BytesIO(data))
            for member in members(machine):
                made.addfile(member)

    return write


def _link_member(machine: Path) -> Sequence[tarfile.TarInfo]:
    member = tarfile.TarInfo("layer.tar")
    member.type, member.linkname = tarfile.SYMTYPE, str(machine / "shadow")
    return (member,)


def _archive_case(
    name: str, kind: str, write: Callable[[Path, Path], object], error: type[LxdockerError]
) -> HostileCase:
    meet = partial(from_archive, kind=kind, write=write)
    return HostileCase(party=_PARTY, name=name, meet=meet, error=error)


_ARCHIVES = (
    _archive_case("saved image whose configuration is the host's", "docker-archive", _docker_archive({"Config": "../../../../machine/shadow"}), LxdockerError),
    _archive_case("saved image whose layer is a link to the host", "docker-archive", _docker_archive({}, _link_member), LxdockerError),
    _archive_case("saved image without its layer", "docker-archive", _docker_archive({}), InvalidArchiveError),
    _archive_case("archive that is text", "oci-archive", lambda path, _: path.write_bytes(b"hello" * 999), LxdockerError),
    _archive_case("archive that is a pipe", "oci-archive", lambda path, _: os.mkfifo(path), LxdockerError),
)  # fmt: skip


# ---- bombs, with the limits that everybody has


def _sparse(real_bytes: int) -> bytes:
    records = b"".join(
        record(key, value)
        for key, value in (
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "hole"),
            ("GNU.sparse.realsize", str(real_bytes)),
        )
    )
    sparse_map = b"0\n".ljust(512, b"\0")
    return pax_member(records) + raw_header(b"hole", size=512) + sparse_map + bytes(1024)


def _long_links(entries: int) -> bytes:
    """Parents through 40 links whose targets are long: each name takes all of them anew."""
    step = "./" * 1900
    links = [link(f"l{number}", f"{step}l{number + 1}") for number in range(39)]
    files = [f(f"l0/f{number}", "") for number in range(entries)]
    return archive(*links, d("l39/"), *files)


def _crowded_config() -> bytes:
    numbers = b"[" * 700 + b",".join([b"0"] * 300_000) + b"]" * 700
    start = b'{"os":"linux","architecture":"amd64","x":' + numbers
    digest = str(inflated_digest(_PLAIN)).encode()
    return start + b',"rootfs":{"type":"layers","diff_ids":["' + digest + b'"]}}'


_BOMBS = (
    _case("a global header of 1 MB, then 2,000 files", image(gzip.compress(archive(Raw(pax_member(b"".join(record(f"c{n}", "c" * 90) for n in range(10_000)), typeflag=b"g")), *[f(f"f{n}", "") for n in range(2000)]), 1))),
    _case("2,000 global headers", image(gzip.compress(archive(*[Raw(pax_member(record("comment", "c" * 400), typeflag=b"g")) for _ in range(2000)], f("a")), 1))),
    _case("300 names through 40 long links", image(gzip.compress(_long_links(300), 1))),
    _case("20,000 empty zstd frames", image(zstd.compress(_PLAIN) + zstd.compress(b"") * 20_000)),
    _case("20,000 skippable zstd frames", image(zstd.compress(_PLAIN) + b"\x50\x2a\x4d\x18\0\0\0\0" * 20_000)),
    _case("configuration of 300,000 numbers below 700 brackets", image(_PLAIN, top=_crowded_config()), InvalidDocumentError),
    _case("layer of 3 kB that claims 60 GiB of holes", image(_sparse(60 << 30)), LayerLimitError),
    _case("gzip bomb of zeros", image(gzip.compress(archive(f("a", "\0" * (200 << 20))), 1)), most_seconds=20, is_slow=True),
    _case("30,000 empty gzip members", image(gzip.compress(_PLAIN) + gzip.compress(b"") * 30_000), most_seconds=20, is_slow=True),
    _case("50,000 empty files", image(gzip.compress(archive(*[f(f"f{n}", "") for n in range(50_000)]), 1)), most_seconds=30, is_slow=True, most_mb=256),
    _case("20,000 hard links to one file", image(archive(f("a"), *[hard(f"h{n}", "a") for n in range(20_000)])), most_seconds=30, is_slow=True),
    _case("sparse file of 65 GiB from 2 kB", image(_sparse(65 << 30)), LayerLimitError, "content_bytes"),
    _case("extended header of 2 MiB", image(archive(Raw(pax_member(record("comment", "c" * (2 << 20)))), f("a"))), LayerLimitError, "header_bytes"),
)  # fmt: skip

CASES = (
    *(
        HostileCase(
            party=_PARTY,
            name=f"layer: {attack.name}",
            meet=partial(_layers, layers=attack.layers, limits=attack.limits),
            error=attack.error if issubclass(attack.error, LayerError) else LxdockerError,
            says=attack.says,
        )
        for attack in ATTACKS
    ),
    *_DOCUMENTS,
    *_FILESYSTEMS,
    *_PLACES,
    *_ARCHIVES,
    *_BOMBS,
)
