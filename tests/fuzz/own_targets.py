"""What users, tenants and earlier runs wrote: names, specifications, settings, keys, records."""

import json
import re
import unicodedata

from lxdocker_lxd import catalogue_document
from lxdocker_lxd.catalogue import Catalogue
from lxdocker_lxd.control_characters import spelled_out
from lxdocker_lxd.convert import report_document
from lxdocker_lxd.convert.conversion_process import parse_event
from lxdocker_lxd.convert.registry.credential_file import parse_credentials
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.guest_state import parse_guest_state
from lxdocker_lxd.importing import import_record
from lxdocker_lxd.instance_keys import INSTANCE_KEYS
from lxdocker_lxd.interpretation import interpret
from lxdocker_lxd.launching.ports import PublishedPort
from lxdocker_lxd.launching.volumes import VolumeWish
from lxdocker_lxd.lxd.event_document import lifecycle_event
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.reference import parse_source
from lxdocker_lxd.serve import export_record, server_names
from lxdocker_lxd.serve.listening import addresses
from lxdocker_lxd.settings import SETTINGS, Surroundings, load
from lxdocker_lxd.setup import record as setup_record
from lxdocker_lxd.setup import remote_config
from lxdocker_lxd.setup.record import Record, SetupState
from lxdocker_lxd.spec import parse_spec
from lxdocker_lxd.update.bounded_json import json_object_of
from lxdocker_lxd.update.enrolment import policy_of
from tests.fuzz.target import Target, compact, json_mutation
from tests.unit.catalogues import START, product, version

_UNFORESEEN = re.compile(r"can't be read: [A-Za-z]+$")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def references(data: bytes) -> None:
    """Read a source of images; what was read is written so that it reads the same."""
    text = _text(data)
    interpret(text)
    source = parse_source(text)
    assert parse_source(str(source)) == source


def words(data: bytes) -> None:
    """Read the small words of command lines: digests, platforms, ports, volumes, server names."""
    kind, text = data[:1], _text(data[1:])
    parsers = (
        (Digest.parse, True),
        (Platform.parse, True),
        (PublishedPort.parse, False),
        (VolumeWish.parse, False),
        (server_names.parse, False),
        (addresses, False),
        (lambda one: PublishedPort.exposed(one) and ExposedPort.parse(one), False),
    )
    parse, exact = parsers[(kind[0] if kind else 0) % len(parsers)]
    found = parse(text)
    if exact:
        assert parse(str(found)) == found


def specs(data: bytes) -> None:
    """Read a specification; its digest is the same each time."""
    text = _text(data)
    spec = parse_spec(text, name="app", file="app.yaml")
    assert spec.digest == parse_spec(text, name="app", file="app.yaml").digest


def settings(data: bytes) -> None:
    """Read a settings file."""
    load(
        _text(data),
        file="config.yaml",
        flags={},
        surroundings=Surroundings(environment={}, home="/home/ann", user_id=7),
    )


def environment(data: bytes) -> None:
    """Read one setting from the environment."""
    name, _, value = _text(data).partition("=")
    setting = SETTINGS[len(name) % len(SETTINGS)]
    load(
        "",
        file="",
        flags={},
        surroundings=Surroundings(environment={setting.variable: value}, home="/", user_id=7),
    )


def instance_keys(data: bytes) -> None:
    """Read what a tenant wrote into an instance's keys: no reader is surprised."""
    lines = _text(data).split("\n")
    config = {}
    for line in lines:
        name, _, value = line.partition("=")
        config[_KEYS.get(name, name)] = value
    for problem in policy_of(config).problems:
        assert not _UNFORESEEN.search(problem), problem
        assert len(problem) < 1000, problem


def guest_state(data: bytes) -> None:
    """Read what a guest says of its command; never an error."""
    parse_guest_state(data)


def catalogue(data: bytes) -> None:
    """Read a catalogue; it is written as it was read."""
    found = catalogue_document.parse(data, file="catalogue.json")
    assert catalogue_document.parse(catalogue_document.render(found), file="again") == found


def export_records(data: bytes) -> None:
    """Read the record of an export; its names stay inside."""
    for name in export_record.parse(data, name="record.json"):
        assert ".." not in name.split("/")
        assert not name.startswith("/")


def import_records(data: bytes) -> None:
    """Read the record of imports."""
    found = import_record.parse(data, file="imports.json")
    assert import_record.parse(import_record.render(found), file="again") == found


def conversion_reports(data: bytes) -> None:
    """Read the report and the events of a conversion that another user ran."""
    parse_event(data)
    report_document.parse(data, what="report")


def credentials(data: bytes) -> None:
    """Read a credential file in both forms; an error shows no value."""
    for form in ("docker", "containers"):
        found = parse_credentials(data, form=form, what="file")
        for registry in ("docker.io", "r.example:5000"):
            found.helper(registry)
            found.secret(registry, "a/b")


def client_remotes(data: bytes) -> None:
    """Edit the remotes of a user's configuration; what was put there is read back."""
    text = _text(data)
    entry = {"addr": "https://h:8443", "protocol": "simplestreams", "public": "true"}
    edited = remote_config.with_remote(text, "ours", entry, file="config.yml")
    assert remote_config.remote(edited, "ours", file="config.yml") == entry
    assert remote_config.remote(
        remote_config.without_remote(edited, "ours", file="f"), "ours", file="f"
    ) is None  # fmt: skip


def lifecycle_events(data: bytes) -> None:
    """Read an event of LXD."""
    lifecycle_event(data)


def bounded_json(data: bytes) -> None:
    """Read JSON within bounds; it can be written again."""
    json.dumps(json_object_of(_text(data)), ensure_ascii=False).encode()


def setup_states(data: bytes) -> None:
    """Read what setup remembers; it is written as it was read."""
    found = setup_record.decode(_text(data), file="setup.json")
    assert setup_record.decode(setup_record.encode(found), file="again") == found


def legible(data: bytes) -> None:
    """Make a text fit for a terminal."""
    shown = spelled_out(data.decode("utf-8", "replace"), kept="")
    assert not any(unicodedata.category(one) in {"Cc", "Cf", "Cs"} for one in shown)


_KEYS = {key.short: key.name for key in INSTANCE_KEYS}
_SPEC = b"""image: docker.io/library/nginx:1.27
architectures: [linux/amd64, arm64]
env: {A: b, B: }
entrypoint: [/bin/app, -x]
cmd: run it
user: "1000:100"
working_dir: /srv
stop_signal: SIGQUIT
stop_timeout: 90
restart: on-failure:3
tmpfs: [/tmp, /run/app]
files:
  - {path: /etc/motd, content: "hi", mode: "0600", owner: "0:5"}
  - {path: /a, symlink: ../b}
  - {path: /c, remove: true}
properties: {team: web}
aliases: [www, a/b]
description: A server
compression: zstd:19
healthcheck: {test: [CMD, curl, localhost], interval: 5s, timeout: 1m, retries: 3}
volumes: [/data]
ports: [80/tcp, 8000-8010/udp]
lxc: true
disable_supervisor: no
"""
_SETTINGS = b"""jobs: 5
imageformat: tar
names: a.lan, 10.0.0.5
url: https://a.lan:8443/
address: ":443"
tls_minimum: "1.2"
registries:
  docker.io: {mirrors: [m.example, o.example:5000/hub]}
  localhost:5000: {insecure: true, ca_file: /etc/ca.pem, proxy: "http://proxy:3128"}
limits: {entries: 5}
update:
  retention: {keep: 1w, copies: 5, projects: {shop: {copies: 1}}}
  notify: {ops: {url: "https://h/x", headers: {A: b}, minimum: warning}, cmd: {command: [/bin/x, a]}}
  ping: {url_file: /etc/ping, timeout: 5}
  hooks: {dump: {command: [/bin/dump], where: host, timeout: 60}}
  metrics: 127.0.0.1:9100
  poll: lxd
  poll_interval: 60
"""
_INSTANCE = b"""update=auto
source=alias web
update.window=Mon..Fri 02:00-04:00 Europe/Berlin
update.minimum_age=2d
update.pin=aaaaaaaaaaaa
update.skip=bbbbbbbbbbbb,cccccccccccc
update.snooze=2026-05-06T07:08:09Z
update.depends=db
update.keep=1w
update.copies=2
health.interval=5
health.retries=3
stop_timeout=30
restart=on-failure:3
"""
_CATALOGUE = Catalogue(products=(product(version("one")),), retired=(), updated_at=START)
_EXPORT = export_record.render(
    {"images/a": export_record.ExportedFile(sha256="ab" * 32, size_bytes=7, mtime_ns=5)}
)
_IMPORT = {
    "format": import_record.FORMAT,
    "imports": [
        {"kind": "source", "name": "web", "source": "nginx:1", "architecture": "amd64",
         "fingerprint": "ab" * 32, "remote": "", "project": "default", "aliases": ["web"],
         "public": False, "lxe": False, "keep_old": True}
    ],
}  # fmt: skip
_REPORT = {
    "images": [
        {"name": "web", "architecture": "amd64", "outcome": "built", "reason": "new", "serial": "1",
         "fingerprint": "ab" * 32, "size_bytes": 5, "seconds": 1.5,
         "error": {"message": "m", "hint": "h", "exit_code": 6}}
    ],
    "freed_bytes": 7,
}  # fmt: skip
_EVENT = {"event": "bytes-done", "image": "web", "stage": "fetch", "digest": "sha256:" + "1" * 64,
          "done_bytes": 5, "total_bytes": 7}  # fmt: skip
_CREDENTIALS = {
    "auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "r.example:5000": {
        "username": "u", "password": "p", "identitytoken": "t", "registrytoken": "r"}},
    "credHelpers": {"r.example": "pass"},
    "credsStore": "secretservice",
}  # fmt: skip
_LIFECYCLE = {
    "type": "lifecycle",
    "timestamp": "2026-01-02T03:04:05.123456789Z",
    "project": "default",
    "location": "none",
    "metadata": {"action": "instance-started", "source": "/1.0/instances/web%20x?project=shop",
                 "context": {"old_name": "a"}, "requestor": {"username": "root"}},
}  # fmt: skip
_SETUP = setup_record.encode(
    SetupState(
        records=(
            Record(
                kind="file", name="/a", text="t", before=None, after={"content": "x"}, done=True
            ),
        ),
        directories=("/var/lib/a",),
    )
)
_STATE = {"status": "running", "exit_code": 3, "restarts": 2, "stop_requested": True, "problem": ""}

TARGETS = (
    Target(
        name="references",
        parse=references,
        seeds=(
            b"nginx",
            b"ghcr.io/a/b:1.2@sha256:" + b"1" * 64,
            b"localhost:5000/x/y__z:T_1",
            b"oci:dir:tag",
            b"docker-archive:/a/b.tar:n:1",
            b"[::1]:5000/a",
            b"index.docker.io/a/b",
        ),
        most_bytes=512,
    ),
    Target(
        name="words",
        parse=words,
        seeds=(
            b"\0sha256:" + b"1" * 64,
            b"\1linux/arm/v7",
            b"\1amd64",
            b"\x02[::1]:8080:80/udp",
            b"\x03data:/var/lib/x:ro,nocopy",
            b"\4images.lan",
            b"\4[fe80::1]",
            b"\5:443,[::]:80,fd://3",
            b"\x068000-8010/tcp",
        ),
        most_bytes=512,
    ),
    Target(name="specs", parse=specs, seeds=(_SPEC, *_SPEC.splitlines(keepends=True)[:1])),
    Target(name="settings", parse=settings, seeds=(_SETTINGS,)),
    Target(
        name="environment",
        parse=environment,
        seeds=tuple(b"a" * number + b"=5" for number in range(len(SETTINGS))),
        most_bytes=256,
    ),
    Target(
        name="instance_keys",
        parse=instance_keys,
        seeds=(_INSTANCE, "\n".join(f"{name}=" for name in _KEYS).encode()),
    ),
    Target(name="guest_state", parse=guest_state, seeds=(compact(_STATE),), mutation=json_mutation),
    Target(
        name="catalogues",
        parse=catalogue,
        seeds=(catalogue_document.render(_CATALOGUE),),
        mutation=json_mutation,
        most_bytes=8192,
    ),
    Target(name="export_records", parse=export_records, seeds=(_EXPORT,), mutation=json_mutation),
    Target(
        name="import_records",
        parse=import_records,
        seeds=(compact(_IMPORT),),
        mutation=json_mutation,
    ),
    Target(
        name="conversion_reports",
        parse=conversion_reports,
        seeds=(compact(_REPORT), compact(_EVENT)),
        mutation=json_mutation,
    ),
    Target(
        name="credentials",
        parse=credentials,
        seeds=(compact(_CREDENTIALS),),
        mutation=json_mutation,
    ),
    Target(
        name="client_remotes",
        parse=client_remotes,
        seeds=(remote_config.FRESH.encode(), b"remotes: {a: {addr: x}}\n", b""),
        most_bytes=1024,
    ),
    Target(
        name="setup_states",
        parse=setup_states,
        seeds=(_SETUP.encode(),),
        mutation=json_mutation,
    ),
    Target(
        name="lifecycle_events",
        parse=lifecycle_events,
        seeds=(compact(_LIFECYCLE),),
        mutation=json_mutation,
    ),
    Target(
        name="bounded_json",
        parse=bounded_json,
        seeds=(compact(_STATE), b'{"a":[1.5,"\\u00e9",{"b":null}]}'),
        mutation=json_mutation,
    ),
    Target(
        name="legible", parse=legible, seeds=("a\x1b[2J\u202eb\n".encode(), b"\xff"), most_bytes=256
    ),
)
