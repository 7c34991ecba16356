"""The two published tables of how an image name is read, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.interpretation import INVALID, LXC_REMOTES, interpret
from lxdocker_lxd.reference import Reference

DIGEST = "sha256:" + "5" * 64
HEX = "5" * 64
# The remotes the FAQ's examples suppose.
FAQ_REMOTES = LXC_REMOTES | {"hub.example.io"}

# image | kubelet validates | kubelet pulls | LXE by the FAQ | alias | in lxc's words
FAQ = """
busybox | docker.io/library/busybox | busybox:latest | busybox | ???/busybox | [invalid]
busybox:other | docker.io/library/busybox:other | busybox:other | busybox | ???/busybox | [invalid]
hub.example.io/busybox:other | hub.example.io/busybox:other | hub.example.io/busybox:other \
| hub.example.io/busybox | hub.example.io/busybox | hub.example.io:busybox
hub.example.io/someuser/images/busybox:other | hub.example.io/someuser/images/busybox:other \
| hub.example.io/someuser/images/busybox:other | hub.example.io/someuser/images/busybox \
| hub.example.io/someuser/images/busybox | hub.example.io:someuser/images/busybox
images/ubuntu/14.04 | docker.io/images/ubuntu/14.04 | images/ubuntu/14.04:latest \
| images/ubuntu/14.04 | images/ubuntu/14.04 | images:ubuntu/14.04
missingremote/example/ubuntu/14.04 | docker.io/missingremote/example/ubuntu/14.04 \
| missingremote/example/ubuntu/14.04:latest | missingremote/example/ubuntu/14.04 \
| missingremote/example/ubuntu/14.04 | [notfound]
"""

# image | LXD form | remote needed | alias to serve there
TODAY = f"""
nginx | nginx | default (local) | nginx
nginx:latest | nginx | default (local) | nginx
docker.io/library/nginx | nginx | default (local) | nginx
nginx:1.25 | nginx%1.25 | default (local) | nginx%1.25
docker.io/library/nginx:1.25 | nginx%1.25 | default (local) | nginx%1.25
nginx@{DIGEST} | nginx@sha256%{HEX} | default (local) | nginx@sha256%{HEX}
nginx:1.25@{DIGEST} | nginx%1.25@{DIGEST} | nginx%1.25@sha256 | {HEX}
library/nginx:1.25 | library:nginx%1.25 | library | nginx%1.25
docker.io/nginx:1.25 | docker.io:nginx%1.25 | docker.io | nginx%1.25
index.docker.io/library/nginx:1.25 | index.docker.io:library/nginx%1.25 | index.docker.io \
| library/nginx%1.25
grafana/grafana | grafana:grafana | grafana | grafana
grafana/grafana:10.4 | grafana:grafana%10.4 | grafana | grafana%10.4
grafana/grafana@{DIGEST} | grafana:grafana@sha256%{HEX} | grafana | grafana@sha256%{HEX}
docker.io/grafana/grafana:10.4 | docker.io:grafana/grafana%10.4 | docker.io | grafana/grafana%10.4
ghcr.io/home-assistant/home-assistant:stable | ghcr.io:home-assistant/home-assistant%stable \
| ghcr.io | home-assistant/home-assistant%stable
ghcr.io/a/b@{DIGEST} | ghcr.io:a/b@sha256%{HEX} | ghcr.io | a/b@sha256%{HEX}
ghcr.io/a/b:1@{DIGEST} | ghcr.io:a/b%1@{DIGEST} | ghcr.io | a/b%1@{DIGEST}
localhost:5000/app | localhost%5000:app | localhost%5000 | app
localhost:5000/app:1 | localhost%5000:app:1 | localhost%5000 | app:1
reg:5000/team/app@{DIGEST} | reg%5000:team/app@{DIGEST} | reg%5000 | team/app@{DIGEST}
ubuntu/nginx:edge | ubuntu:nginx%edge | ubuntu | -
local/x | local:x | local | -
"""

# What lxc 5.0.2 was seen to do with these texts.
LXC = """
nginx | local:nginx
nginx:1.25 | [notfound]
ghcr.io/a/b:1 | local:ghcr.io/a/b:1
localhost:5000/app | [notfound]
images/ubuntu/14.04 | local:images/ubuntu/14.04
images:ubuntu/trusty | images:ubuntu/trusty
local:x | local:x
ubuntu:nginx%edge | ubuntu:nginx%edge
"""


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def read(text: str, *keys: str, remotes: frozenset[str] | None = None) -> list[str]:
    readings = {reading.key: reading.meaning for reading in interpret(text, remotes=remotes)}
    return [meaning for key, meaning in readings.items() if key in keys]


@pytest.mark.parametrize("row", rows(FAQ), ids=lambda row: row[0])
def test_faq_table(row: list[str]) -> None:
    columns = ("kubelet_validator", "kubelet", "lxe_faq", "lxe_faq_alias", "lxe_faq_lxc")
    assert read(row[0], *columns, remotes=FAQ_REMOTES) == row[1:]


@pytest.mark.parametrize("row", rows(TODAY), ids=lambda row: row[0][:40])
def test_todays_table(row: list[str]) -> None:
    assert read(row[0], "lxe_form", "lxe_remote", "lxe_alias") == row[1:]


@pytest.mark.parametrize("row", rows(LXC), ids=lambda row: row[0])
def test_what_plain_lxc_does(row: list[str]) -> None:
    assert read(row[0], "lxc") == row[1:]


def test_docker_reading_is_the_canonical_name() -> None:
    assert read("grafana/grafana", "docker") == ["docker.io/grafana/grafana:latest"]


def test_lxd_remote_syntax_is_no_docker_name_and_never_reaches_lxe() -> None:
    readings = {reading.key: reading for reading in interpret("images:ubuntu/trusty")}
    assert readings["docker"].meaning == INVALID
    assert "host name" in readings["docker"].note
    assert {readings[key].meaning for key in ("kubelet", "lxe_faq", "lxe_form")} == {INVALID}


def test_faq_has_no_room_for_ports_and_digests() -> None:
    assert read("localhost:5000/app", "lxe_faq", "lxe_faq_lxc") == [INVALID, INVALID]
    assert read(f"ghcr.io/a/b@{DIGEST}", "lxe_faq") == [INVALID]


def test_notes_name_the_way_out() -> None:
    notes = {r.key: r.note for r in interpret("ubuntu/nginx:edge")}
    assert "docker.io/ubuntu/nginx:edge" in notes["lxe_remote"]
    notes = {r.key: r.note for r in interpret("grafana/grafana", remotes=FAQ_REMOTES)}
    assert "no remote grafana" in notes["lxe_remote"]
    notes = {r.key: r.note for r in interpret(f"nginx:1@{DIGEST}")}
    assert "leave the tag away" in notes["lxe_remote"]


@given(st.text(max_size=60))
def test_any_text_gives_the_same_rows(text: str) -> None:
    assert [r.key for r in interpret(text)] == [r.key for r in interpret("nginx")]


def test_long_hostile_names_are_read_at_once() -> None:
    """A nested quantifier once made this take years."""
    assert read("a" * 99 + "/" + "b" * 99 + "!", "lxe_faq") == [INVALID]
    assert read("a" * 99 + ":5/" + "b" * 99, "lxe_faq") == [INVALID]
    assert read("a" * 99 + "/" + "b" * 99, "lxe_faq_lxc") == ["a" * 99 + ":" + "b" * 99]
    assert read("a/" + "a" * 250, "docker") == ["docker.io/a/" + "a" * 250 + ":latest"]


@given(
    st.from_regex(
        r"([a-z]{1,4}(\.[a-z]{2})?(:[0-9]{2})?/)?[a-z]{1,4}(:[a-z.]{1,3})?", fullmatch=True
    )
)
def test_docker_row_agrees_with_reference(text: str) -> None:
    try:
        expected = [str(Reference.parse(text))]
    except UsageError:
        expected = [INVALID]
    assert read(text, "docker") == expected
