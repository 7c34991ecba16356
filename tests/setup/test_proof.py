"""How LXD's answers are read as a proof, and how a plain port answers."""

import contextlib
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lxdocker_lxd.lxd.failures import AbsentError, ImageFetchError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import UpdateSource
from lxdocker_lxd.setup.proof import UnprovenError, answers, free_port, plain_port, prove


class Images:
    """An image store whose daemon says one thing about every source."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked: list[UpdateSource] = []

    def pull(self, source: UpdateSource, **_: Any) -> str:
        self.asked.append(source)
        raise self.error


def asked(error: Exception) -> UpdateSource:
    images = Images(error)
    lxd = cast("Lxd", SimpleNamespace(images=images))
    prove(lxd, "https://10.0.0.1:8443", "PEM", serial="20261121")
    return images.asked[0]


@pytest.mark.parametrize(
    "error",
    [
        # LXD 5.0.2, then newer ones.
        ImageFetchError("Failed getting image: The requested image couldn't be found"),
        ImageFetchError("Failed getting remote image info: Image alias not found"),
        AbsentError("there is no such image"),
    ],
)
def test_no_such_image_is_the_proof(error: Exception) -> None:
    source = asked(error)
    assert source.server == "https://10.0.0.1:8443/at/20261121"
    assert source.certificate == "PEM"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("tls: failed to verify certificate: x509: unknown authority", "another certificate"),
        ("x509: certificate has expired or is not yet valid", "another certificate"),
        ("dial tcp 10.0.0.1:8443: connect: connection refused", "whether the server runs"),
        ("Unable to fetch https://10.0.0.1:8443/streams/v1/index.json: 404", "whether the server"),
    ],
)
def test_whatever_else_is_told_with_the_next_step(said: str, hint: str) -> None:
    with pytest.raises(UnprovenError, match="LXD can't fetch images from https") as found:
        asked(ImageFetchError(said))
    assert said in found.value.message
    assert hint in found.value.hint


def test_a_plain_port_is_open_refused_or_dropped() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        assert plain_port("127.0.0.1", port) == "open"
        server.accept()[0].close()
        assert answers("127.0.0.1", port)
        with contextlib.ExitStack() as stack:
            # A full queue drops what comes, as a firewall does.
            for _ in range(4):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)  # noqa: FBT003 - its only parameter
                one.connect_ex(("127.0.0.1", port))
            assert plain_port("127.0.0.1", port, seconds=0.3) == "dropped"
    assert plain_port("127.0.0.1", port) == "refused"
    assert not answers("127.0.0.1", port)


def test_a_free_port_is_one_of_this_machine() -> None:
    assert 0 < free_port("127.0.0.1") < 65536
    with pytest.raises(UnprovenError, match="can't listen at 192") as found:
        free_port("192.0.2.1")
    assert "--no-self-test" in found.value.hint
