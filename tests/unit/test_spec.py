"""Image specifications: what they may say, what they mean, and how mistakes are told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.reference import LayoutSource, Reference
from lxdocker_lxd.spec import FileChange, HealthOverride, ImageSpec, SpecError, parse_spec

# YAML takes keys of up to 1024 characters on one line, escapes counted.
_VARIABLES = st.text(min_size=1, max_size=50).filter(lambda text: "=" not in text)


def parse(text: str, name: str = "web") -> ImageSpec:
    return parse_spec(text, name=name, file=f"{name}.yaml")


def refused(text: str, name: str = "web") -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse(text, name)
    return caught.value


def test_the_sample_of_the_first_lxdocker_is_understood() -> None:
    spec = parse("---\nimage: library/nginx:lates\ndisable_supervisor: false\n", name="nginx")
    assert isinstance(spec.image, Reference)
    assert str(spec.image) == "docker.io/library/nginx:lates"
    assert spec.disable_supervisor is False
    assert spec.name == "nginx"


def test_an_image_alone_is_a_whole_specification() -> None:
    spec = parse("image: ghcr.io/home-assistant/home-assistant:stable\n")
    assert spec == ImageSpec(
        name="web",
        image=Reference.parse("ghcr.io/home-assistant/home-assistant:stable"),
        image_text="ghcr.io/home-assistant/home-assistant:stable",
    )


def test_every_key_at_once() -> None:
    spec = parse(
        """\
image: oci:layout:1.0
disable_supervisor: true
architectures: [amd64, arm64, armhf]
env: {B: 2, A: "x y", OFF: yes, GONE: }
entrypoint: [/usr/bin/env, -i]
cmd: echo "$HOME"
user: 1000:www-data
working_dir: /srv/./app/
stop_signal: rtmin+3
stop_timeout: 90
restart: no
tmpfs: [/tmp]
files:
  - {path: /etc/motd, content: "hello\\n"}
  - {path: /etc/app.conf, source: app.conf, mode: 0640, owner: 33}
  - {path: /bin/sh, symlink: busybox}
  - {path: /data, directory: true, owner: 999:998, mode: 0o2770}
  - {path: /etc/machine-id, remove: true}
properties: {team: web, level: 3}
aliases: [www, docker.io/library/nginx]
description: The front page
compression: zstd:19
healthcheck: {test: curl -f localhost, interval: 1m30s, timeout: 500ms, retries: 3}
volumes: [/data/]
ports: [80, 53/udp]
lxc: true
"""
    )
    assert spec.image == LayoutSource(directory="layout", tag="1.0")
    assert [str(platform) for platform in spec.architectures] == [
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
    ]
    assert spec.env == (("A", "x y"), ("B", "2"), ("GONE", None), ("OFF", "yes"))
    assert spec.entrypoint == ("/usr/bin/env", "-i")
    assert spec.cmd == ("/bin/sh", "-c", 'echo "$HOME"')
    assert (spec.user, spec.working_dir) == ("1000:www-data", "/srv/app")
    assert (spec.stop_signal, spec.restart, spec.tmpfs) == ("SIGRTMIN+3", "no", ("/tmp",))
    assert spec.stop_timeout_seconds == 90
    assert [(file.path, file.kind, file.mode, file.uid, file.gid) for file in spec.files] == [
        ("/etc/motd", "content", None, 0, 0),
        ("/etc/app.conf", "source", 0o640, 33, 33),
        ("/bin/sh", "symlink", None, 0, 0),
        ("/data", "directory", 0o2770, 999, 998),
        ("/etc/machine-id", "remove", None, 0, 0),
    ]
    assert spec.files[0] == FileChange(
        path="/etc/motd", kind="content", value="hello\n", mode=None, uid=0, gid=0
    )
    assert spec.properties == (("level", "3"), ("team", "web"))
    assert spec.aliases == ("www", "docker.io/library/nginx")
    assert (spec.description, spec.compression) == ("The front page", "zstd:19")
    assert spec.healthcheck == HealthOverride(
        test=("CMD-SHELL", "curl -f localhost"),
        interval_seconds=90,
        timeout_seconds=0.5,
        start_period_seconds=None,
        retries=3,
    )
    assert (spec.volumes, spec.ports, spec.lxc) == (("/data",), ("80/tcp", "53/udp"), True)


def test_an_unknown_key_is_named_with_its_place_and_a_suggestion() -> None:
    error = refused("image: nginx\ndisable_supervizor: true\n")
    assert error.message == "web.yaml:2:1: unknown key 'disable_supervizor'"
    assert error.hint == "did you mean 'disable_supervisor'?"
    assert "known keys: aliases, architectures" in refused("image: nginx\nxyzzy: 1\n").hint


def test_an_unknown_key_inside_is_named_with_its_path() -> None:
    error = refused("image: nginx\nfiles:\n  - path: /a\n    contents: x\n")
    assert error.message == "web.yaml:4:5: files[1]: unknown key 'contents'"
    assert error.hint == "did you mean 'content'?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "web.yaml:1:1: the file is empty"),
        ("# nothing\n", "web.yaml:1:1: the file is empty"),
        ("nginx\n", "web.yaml:1:1: expected key: value lines, got 'nginx'"),
        ("cmd: [a]\n", "web.yaml:1:1: the key 'image' is missing"),
        ("image:\n", "web.yaml:1:7: image: expected a text, got nothing"),
        ("image: [nginx]\n", "web.yaml:1:8: image: expected a text, got a list"),
        ('image: nginx\nuser: "\\ud800x"\n', "web.yaml:2:7: user: the text holds half a surrogate"),
        ("image: nginx/X\n", "web.yaml:1:8: image: image reference 'nginx/X'"),
        ("image: nginx\nimage: redis\n", "web.yaml:2:1: the key 'image' appears twice, first on"),
        ("image: nginx\nuser: [a\n", "web.yaml:3:1: "),
        ("image: nginx\n\tuser: a\n", "web.yaml:2:1: "),
        ("image: nginx\n---\nimage: redis\n", "web.yaml:2:1: "),
        ("image: &a nginx\n", "web.yaml:1:8: anchors and aliases are not supported"),
        ("image: !!python/name:os.system x\n", "web.yaml:1:8: the tag"),
        ("image: !!str nginx\n", "web.yaml:1:8: the tag"),
        (
            "image: nginx\ndisable_supervisor: maybe\n",
            "web.yaml:2:21: disable_supervisor: expected",
        ),
        ('image: nginx\ndisable_supervisor: "true"\n', "web.yaml:2:21: disable_supervisor: exp"),
        ("image: nginx\ncmd: {a: b}\n", "web.yaml:2:6: cmd: expected a list, got key: value"),
        ("image: nginx\ncmd: [[a]]\n", "web.yaml:2:7: cmd[1]: expected a text, got a list"),
        ("image: nginx\narchitectures: [vax]\n", "web.yaml:2:17: architectures[1]: platform"),
        (
            "image: nginx\narchitectures: [arm64, aarch64]\n",
            "web.yaml:2:24: architectures[2]: the a",
        ),
        ("image: nginx\nenv: [A]\n", "web.yaml:2:7: env[1]: expected NAME=value"),
        ("image: nginx\nenv: [A=1, A=2]\n", "web.yaml:2:12: env[2]: the variable 'A' is set twice"),
        ('image: nginx\nenv: {"A=B": 1}\n', "web.yaml:2:14: env.A=B: 'A=B' can't name"),
        ('image: nginx\nuser: "a\\0b"\n', "web.yaml:2:7: user: the text holds a NUL"),
        ("image: nginx\nuser: a:b:c\n", "web.yaml:2:7: user: expected a user"),
        ("image: nginx\nworking_dir: srv\n", "web.yaml:2:14: working_dir: expected an absolute"),
        ("image: nginx\nworking_dir: /a/../b\n", "web.yaml:2:14: working_dir: expected an abs"),
        ("image: nginx\nstop_signal: SIGFOO\n", "web.yaml:2:14: stop_signal: 'SIGFOO' is no sig"),
        (
            "image: nginx\nstop_timeout: 1m\n",
            "web.yaml:2:15: stop_timeout: expected seconds from 0",
        ),
        ("image: nginx\nstop_timeout: 3601\n", "web.yaml:2:15: stop_timeout: expected seconds"),
        ("image: nginx\nstop_signal: 99\n", "web.yaml:2:14: stop_signal: expected a signal num"),
        ("image: nginx\nrestart: unless-stopped\n", "web.yaml:2:10: restart: expected no, on-fai"),
        ("image: nginx\nrestart: on-failure:0\n", "web.yaml:2:10: restart: expected no, on-fail"),
        ("image: nginx\naliases: ['a,b']\n", "web.yaml:2:11: aliases[1]: the alias 'a,b' holds"),
        ("image: nginx\naliases: ['a b']\n", "web.yaml:2:11: aliases[1]: the alias 'a b' holds"),
        ("image: nginx\naliases: [a, a]\n", "web.yaml:2:14: aliases[2]: 'a' is listed twice"),
        (
            f"image: nginx\nstop_signal: {'9' * 5000}\n",
            "web.yaml:2:14: stop_signal: expected a signal num",
        ),
        (
            f"image: nginx\ncompression: zstd:{'9' * 5000}\n",
            "web.yaml:2:14: compression: expected a level",
        ),
        ("image: nginx\ncompression: zstd:40\n", "web.yaml:2:14: compression: expected a level"),
        ("image: nginx\ncompression: lz4:3\n", "web.yaml:2:14: compression: lz4 has no levels"),
        ("image: nginx\ncompression: rar\n", "web.yaml:2:14: compression: expected one of zstd"),
        ("image: nginx\nports: [0]\n", "web.yaml:2:9: ports[1]: expected a port"),
        ("image: nginx\nports: [80/xyz]\n", "web.yaml:2:9: ports[1]: expected a port"),
        ("image: nginx\nhealthcheck: {interval: 5}\n", "web.yaml:2:25: healthcheck.interval: exp"),
        ("image: nginx\nhealthcheck: {test: [RUN, x]}\n", "web.yaml:2:21: healthcheck.test: expec"),
        ("image: nginx\nhealthcheck: {retries: x}\n", "web.yaml:2:24: healthcheck.retries: expect"),
        ("image: nginx\nfiles: [{content: x}]\n", "web.yaml:2:9: files[1]: the key 'path' is mis"),
        ("image: nginx\nfiles: [{path: /a}]\n", "web.yaml:2:9: files[1]: expected exactly one of"),
        (
            "image: nginx\nfiles: [{path: /a, content: x, remove: true}]\n",
            "web.yaml:2:9: files[1]: expected exactly one of content, source, symlink, directo",
        ),
        ("image: nginx\nfiles: [{path: /a, remove: false}]\n", "web.yaml:2:28: files[1].remove: e"),
        ("image: nginx\nfiles: [{path: a, content: x}]\n", "web.yaml:2:16: files[1].path: expecte"),
        ("image: nginx\nfiles: [{path: /lxd-realinit, content: x}]\n", "web.yaml:2:16: files[1].p"),
        ("image: nginx\nfiles: [{path: /a, content: x, mode: 9}]\n", "web.yaml:2:38: files[1].mod"),
        ("image: nginx\nfiles: [{path: /a, content: x, owner: root}]\n", "web.yaml:2:39: files[1]"),
        ("image: nginx\nfiles: [{path: /a, remove: true, mode: 644}]\n", "web.yaml:2:40: files[1]"),
    ],
)
def test_mistakes_are_told_with_file_line_column_and_key(text: str, message: str) -> None:
    assert refused(text).message.startswith(message)


def test_a_bomb_of_aliases_or_brackets_is_refused_at_once() -> None:
    bomb = "a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50))
    assert "anchors and aliases" in refused(bomb).message
    assert "nested deeper than 32 levels" in refused("image: " + "[" * 5000).message
    assert "nested deeper" in refused("image: nginx\nfiles: " + "{a: " * 5000).message
    assert "larger than 1 MiB" in refused("image: nginx\n#" + "x" * (1 << 20)).message


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a,b", "a/b", "-x", "a..b", "x" * 129, "ä"])
def test_names_that_neither_urls_nor_alias_lists_can_hold_are_refused(name: str) -> None:
    assert "can't be an image name" in refused("image: nginx\n", name=name).message


@pytest.mark.parametrize("name", ["nginx", "nginx%1.25", "home-assistant_2", "a@b", "N", "a+b.c"])
def test_names_may_hold_what_lxe_and_tags_need(name: str) -> None:
    assert parse("image: nginx\n", name=name).name == name


def test_layout_and_comments_do_not_change_the_digest_but_meaning_does() -> None:
    one = parse("image: nginx\nenv: {A: 1, B: 2}\n")
    same = parse("# hello\nenv:\n  - B=2\n  - A=1\nimage: 'nginx'\n")
    assert one.digest == same.digest
    texts = [
        "image: redis\n",
        "image: nginx\n",
        "image: nginx\nenv: {A: 1}\n",
        "image: nginx\nenv: {A: }\n",
        "image: nginx\ncmd: []\n",
        "image: nginx\ncmd: [a, b]\n",
        "image: nginx\ncmd: [a b]\n",
        "image: nginx\ncmd: a b\n",
        "image: nginx\nentrypoint: [a, b]\n",
        "image: nginx\narchitectures: [arm64]\n",
    ]
    assert len({parse(text).digest for text in texts}) == len(texts)
    assert parse("image: nginx\n").digest != parse("image: nginx\n", name="other").digest


def test_a_key_that_came_later_changes_no_digest_where_it_isnt_used() -> None:
    before = "sha256:c7e9799ae5ea50db660da946774aca3ef725330de3871f96146bdf7722f1007d"
    assert str(parse("image: nginx\n").digest) == before
    assert str(parse("image: nginx\nstop_timeout: 10\n").digest) != before


def test_aliases_live_in_the_catalogue_and_do_not_make_another_image() -> None:
    assert parse("image: nginx\naliases: [a]\n").digest == parse("image: nginx\n").digest


def test_the_registry_of_an_image_counts_in_the_digest_its_spelling_in_the_text() -> None:
    short, long = parse("image: nginx\n"), parse("image: docker.io/library/nginx:latest\n")
    assert short.image == long.image
    assert short.image_text != long.image_text


@given(st.text(max_size=200))
def test_any_text_is_a_specification_or_a_clear_error(text: str) -> None:
    try:
        spec = parse(text)
    except UsageError as error:
        assert error.message.startswith("web.yaml")  # noqa: PT017 - both ways are right
    else:
        assert spec.digest == parse(text).digest


@given(st.dictionaries(_VARIABLES, st.text(max_size=200), max_size=4))
def test_environment_values_come_back_as_written(values: dict[str, str]) -> None:
    allowed = {
        name: text
        for name, text in values.items()
        if "\n" not in name and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name + text)
    }
    document = json.dumps({"image": "nginx", "env": allowed})
    assert dict(parse(document).env) == allowed


@pytest.mark.parametrize(
    ("key", "path"),
    [
        *((key, path) for key in ("volumes", "tmpfs") for path in (
            "/", "/busybox-lxd", "/lxd-prelaunch/x", "/.lxdocker/in", "/sbin/init", "/sbin//init/x",
        )),
        *(("tmpfs", path) for path in ("/sbin", "/etc/", "/dev", "/proc", "/sys/fs")),
    ],
)  # fmt: skip
def test_no_volume_or_tmpfs_where_a_start_needs_its_files(key: str, path: str) -> None:
    """Such an image was built and could not start."""
    with pytest.raises(SpecError, match=rf"web\.yaml:2:\d+: {key}"):
        parse_spec(f"image: x\n{key}: [{path}]\n", name="web", file="web.yaml")


def test_volumes_and_tmpfs_beside_the_guest_are_fine() -> None:
    text = "image: x\nvolumes: [/etc, /sbin/initial]\ntmpfs: [/dev/shm, /etc/app]\n"
    spec = parse_spec(text, name="web", file="web.yaml")
    assert (spec.volumes, spec.tmpfs) == (("/etc", "/sbin/initial"), ("/dev/shm", "/etc/app"))
