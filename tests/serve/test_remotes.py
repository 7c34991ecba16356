"""The entries for a client's config.yml."""

from urllib.parse import unquote

import pytest
import yaml

from lxdocker_lxd.serve.remotes import Remote, config_text, records, remotes
from tests.serve.trees import URL, context_of, made, named

REFERENCES = (
    "docker.io/library/nginx:1.27",
    "docker.io/grafana/grafana:latest",
    "docker.io/ubuntu/nginx:edge",
    "docker.io/ubuntu-minimal/x:1",
    "docker.io/images/x:1",
    "docker.io/ours/x:1",
    "ghcr.io/a/b:1",
    "localhost:5000/app:1",
    "[::1]:5000/app:1",
    "oci:/srv/layout:1",
)


def found() -> tuple[Remote, ...]:
    products = (named(f"n{number}", made(text, text)) for number, text in enumerate(REFERENCES))
    context = context_of(*products, remote_name="ours")
    return remotes(context.catalogue, context.settings)


def test_the_section_is_what_lxc_reads() -> None:
    entry = {"protocol": "simplestreams", "public": True}
    assert yaml.safe_load(config_text(found())) == {
        "remotes": {
            "ours": entry | {"addr": URL},
            "docker.io": entry | {"addr": f"{URL}/lxe/docker.io"},
            "index.docker.io": entry | {"addr": f"{URL}/lxe/index.docker.io"},
            "library": entry | {"addr": f"{URL}/lxe/hub/library"},
            "grafana": entry | {"addr": f"{URL}/lxe/hub/grafana"},
            "ghcr.io": entry | {"addr": f"{URL}/lxe/ghcr.io"},
            "localhost%5000": entry | {"addr": f"{URL}/lxe/localhost:5000"},
        }
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ubuntu", "set this remote themselves: write docker.io/ubuntu/… instead"),
        ("ubuntu-minimal", "set this remote themselves"),
        ("images", "replace a remote lxc brings along"),
        ("ours", "the name of the main remote"),
        ("[%:1]:5000", "use a host name"),
    ],
)
def test_what_a_client_cannot_have_is_a_remark(name: str, words: str) -> None:
    (left_out,) = (remote for remote in found() if remote.name == name and remote.remark)
    assert words in left_out.remark
    (line,) = (line for line in config_text(found()).splitlines() if f"# {name} (" in line)
    assert left_out.addr in line
    assert left_out.remark in line


def test_the_same_as_records() -> None:
    listed = records(found())
    assert listed[0] == {
        "name": "ours",
        "addr": URL,
        "protocol": "simplestreams",
        "public": True,
        "remark": "",
    }
    assert [record["name"] for record in listed] == [remote.name for remote in found()]
    places = [unquote(remote.addr) + "/" for remote in found()]
    assert places == sorted(places)


def test_an_address_is_quoted() -> None:
    (address,) = (remote.addr for remote in found() if remote.name == "[%:1]:5000")
    assert address == f"{URL}/lxe/%5B::1%5D:5000"


def test_nothing_published_yet() -> None:
    context = context_of()
    (main,) = remotes(context.catalogue, context.settings)
    assert (main.name, main.addr, main.remark) == ("lxdocker", URL, "")
