"""The door itself on bad days: who is told what when LXD is away, mute, busy, or somebody else."""

import contextlib
import errno
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd import api
from lxdocker_lxd.lxd.calls import Command, ImageUpload, NewInstance
from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    BusyError,
    ConnectionLostError,
    EventsLostError,
    NoAnswerError,
    NotInstalledError,
    NotRunningError,
    NotTrustedError,
    OperationGoneError,
    PermissionRefusedError,
    ServerCertificateError,
    StartFailedError,
    UnknownOutcomeError,
    UnreachableError,
    WrongStateError,
)
from lxdocker_lxd.lxd.interruption import interruption
from lxdocker_lxd.lxd.place import RemotePlace, SocketPlace, find_socket
from lxdocker_lxd.lxd.server_records import Permission
from tests.harness.image_server import free_port
from tests.harness.scripted_lxd import (
    HOST_INFO,
    PING,
    Handler,
    ScriptedLxd,
    Step,
    answer,
    begin,
    broken,
    garbage,
    refuse,
    scripted_lxd,
    silent,
    text_frame,
    websocket,
)
from tests.lxd_port.site import RealSite, image_of, settings

WEB = {"name": "web", "status": "Running", "project": "default"}


@pytest.fixture
def scripted() -> Iterator[ScriptedLxd]:
    """A daemon that misbehaves."""
    with (
        tempfile.TemporaryDirectory(prefix="lxs-") as directory,
        scripted_lxd(Path(directory)) as one,
    ):
        yield one


def opened(scripted: ScriptedLxd) -> LxdDaemon:
    return open_lxd(scripted.place, pause=lambda _seconds: None)


def told(error: LxdockerError) -> str:
    """The whole message; it must have a next step."""
    assert error.hint
    return f"{error.message} ({error.hint})"


# ---- reaching it


def test_no_socket_is_no_lxd(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError) as caught:
        open_lxd(SocketPlace(socket=tmp_path / "unix.socket"))
    assert "apt install lxd" in told(caught.value)


def test_a_socket_without_a_listener_is_a_lxd_that_is_down(tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    with pytest.raises(NotRunningError) as caught:
        open_lxd(SocketPlace(socket=path))
    assert "systemctl start lxd" in told(caught.value)


def test_a_lxd_that_took_its_socket_along_is_down_and_not_uninstalled(tmp_path: Path) -> None:
    place = SocketPlace(socket=tmp_path / "unix.socket")
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory")
    error = interruption(gone, "look", place, was_reached=True)
    assert isinstance(error, NotRunningError)
    assert "its socket is gone" in told(error)
    assert isinstance(interruption(gone, "look", place), NotInstalledError)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Have no more rights than a stranger."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.root
@pytest.mark.parametrize("closed", ["socket", "directory"])
def test_a_socket_of_others_names_the_group(scripted: ScriptedLxd, closed: str) -> None:
    path = scripted.place.socket
    path.parent.chmod(0o755)
    (path if closed == "socket" else path.parent).chmod(0o700)
    with nobody(), pytest.raises(PermissionRefusedError) as caught:
        open_lxd(scripted.place)
    assert "group lxd" in told(caught.value)


@pytest.mark.root
def test_a_hidden_directory_does_not_hide_the_reason(scripted: ScriptedLxd) -> None:
    directory = scripted.place.socket.parent
    directory.chmod(0o700)
    with nobody():
        place = find_socket({"LXD_DIR": str(directory)})
        with pytest.raises(PermissionRefusedError):
            open_lxd(place)


def test_a_lxd_that_does_not_trust_us(scripted: ScriptedLxd) -> None:
    scripted.host_info = {**HOST_INFO, "auth": "untrusted"}
    with pytest.raises(NotTrustedError) as caught:
        open_lxd(scripted.place)
    assert "trust add" in told(caught.value)


def test_incus_is_spoken_to_with_its_own_headers(scripted: ScriptedLxd) -> None:
    environment = {"server": "incus", "server_version": "6.0.4"}
    scripted.host_info = {**HOST_INFO, "environment": environment}
    seen: list[str] = []

    def noting(step: Step) -> Step:
        def noted(handler: Handler) -> None:
            seen.extend(handler.headers)
            step(handler)

        return noted

    scripted.script["POST /1.0/instances/web/files"] = [noting(answer({}))]
    lxd = opened(scripted)
    assert lxd.server.info().product == "incus"
    image = image_of()
    scripted.script["POST /1.0/images"] = [noting(refuse(400, "enough seen"))]
    with pytest.raises(LxdockerError):
        lxd.images.upload(
            ImageUpload(metadata=image.metadata, rootfs=[b"x"], fingerprint="0" * 64, filename="f")
        )
    assert "X-Incus-fingerprint" in seen
    assert not any(name.startswith("X-LXD") for name in seen)


# ---- lost and late answers


def test_permissions_of_groups_as_lxd_lists_them_since_5_21(scripted: ScriptedLxd) -> None:
    exec_web = {
        "entity_type": "instance",
        "url": "/1.0/instances/web?project=shop",
        "entitlement": "can_exec",
    }
    manage = {"entity_type": "server", "url": "/1.0", "entitlement": "admin"}
    group = {"name": "staff", "permissions": [exec_web, manage], "identities": {}}
    scripted.script["GET /1.0/auth/groups"] = [answer([group, {"name": "empty"}])]
    assert opened(scripted).server.permissions() == (
        Permission(
            group="staff",
            entitlement="can_exec",
            kind="instance",
            path="/1.0/instances/web",
            project="shop",
        ),
        Permission(
            group="staff", entitlement="admin", kind="server", path="/1.0", project="default"
        ),
    )


def test_a_read_is_tried_once_more(scripted: ScriptedLxd) -> None:
    scripted.script["GET /1.0/instances/web"] = [broken, answer(WEB)]
    assert opened(scripted).instances.get("web").running
    scripted.script["GET /1.0/instances/web"] = [broken]
    with pytest.raises(ConnectionLostError):
        opened(scripted).instances.get("web")


def test_a_change_is_never_repeated_by_itself(scripted: ScriptedLxd) -> None:
    scripted.script["DELETE /1.0/instances/web"] = [broken, answer({})]
    with pytest.raises(ConnectionLostError):
        opened(scripted).instances.delete("web")
    assert scripted.requests.count("DELETE /1.0/instances/web") == 1


def test_a_mute_lxd_has_its_time(scripted: ScriptedLxd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ANSWER_SECONDS", 0.3)
    scripted.script["GET /1.0/instances/web"] = [silent]
    with pytest.raises(NoAnswerError) as caught:
        opened(scripted).instances.get("web")
    assert "operation list" in told(caught.value)


def test_an_answer_that_is_none_is_told(scripted: ScriptedLxd) -> None:
    scripted.script["GET /1.0/instances/web"] = [garbage]
    scripted.script["GET /1.0/instances"] = [garbage]
    lxd = opened(scripted)
    for read in (lambda: lxd.instances.get("web"), lxd.instances.list):
        with pytest.raises(UnknownOutcomeError) as caught:
            read()
        assert told(caught.value)


def test_a_start_that_fails_on_something_that_is_not_running(scripted: ScriptedLxd) -> None:
    path = "PUT /1.0/instances/web/state"
    scripted.script[path] = [refuse(400, "Failed to start device: Network ovn0 is not running")]
    with pytest.raises(StartFailedError):
        opened(scripted).power.start("web")
    scripted.script[path] = [refuse(400, "The instance is already running")]
    with pytest.raises(WrongStateError):
        opened(scripted).power.start("web")


def test_work_that_lxd_forgot_has_no_known_end(scripted: ScriptedLxd) -> None:
    scripted.script["POST /1.0/instances/web"] = [begin("11")]
    with pytest.raises(OperationGoneError):
        opened(scripted).instances.rename("web", "new")


def test_work_that_is_cut_off_is_looked_for_once(scripted: ScriptedLxd) -> None:
    scripted.script["POST /1.0/instances/web"] = [begin("11")]
    ended = {"id": "11", "status": "Success", "status_code": 200, "metadata": {}}
    scripted.script["GET /1.0/operations/11/wait"] = [broken, answer(ended)]
    opened(scripted).instances.rename("web", "new")
    assert scripted.requests.count("POST /1.0/instances/web") == 1


def test_what_is_busy_is_tried_again_for_a_while(scripted: ScriptedLxd) -> None:
    busy = refuse(400, 'Instance is busy running a "stop" operation')
    scripted.script["DELETE /1.0/instances/web"] = [busy, busy, answer({})]
    pauses: list[float] = []
    open_lxd(scripted.place, pause=pauses.append).instances.delete("web")
    assert pauses == [0.2, 0.4]
    scripted.script["DELETE /1.0/instances/web"] = [busy]
    with pytest.raises(BusyError):
        opened(scripted).instances.delete("web")


def test_what_lxd_forbids(scripted: ScriptedLxd) -> None:
    scripted.script["GET /1.0/instances/web"] = [refuse(403, "Forbidden")]
    with pytest.raises(PermissionRefusedError) as caught:
        opened(scripted).instances.get("web")
    assert "restricted certificate" in told(caught.value)


# ---- events


def event(name: str) -> dict[str, object]:
    return {
        "type": "lifecycle",
        "timestamp": "2026-11-21T10:00:00.123456789Z",
        "metadata": {"action": "instance-started", "source": f"/1.0/instances/{name}"},
        "project": "default",
        "location": "none",
    }


@pytest.mark.parametrize("together", [False, True])
def test_events_that_come_with_the_handshake_are_read(
    scripted: ScriptedLxd, together: bool
) -> None:
    first, second = text_frame(event("a")), text_frame(event("b"))
    frames = (PING + first + second[:20], second[20:])
    scripted.script["GET /1.0/events"] = [websocket(*frames, together=together)]
    with opened(scripted).events.subscribe() as stream:
        names = [one.name for _ in range(2) if (one := stream.take(2)) is not None]
    assert names == ["a", "b"]


def test_a_connection_that_died_silently_is_noticed(
    scripted: ScriptedLxd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "EVENT_SILENCE_SECONDS", 0.4)
    scripted.script["GET /1.0/events"] = [websocket(text_frame(event("a")))]
    with opened(scripted).events.subscribe() as stream:
        assert stream.take(2) is not None
        with pytest.raises(EventsLostError) as caught:
            stream.take(2)
    assert "nothing was heard" in told(caught.value)


def test_a_refused_websocket_is_a_lost_connection(scripted: ScriptedLxd) -> None:
    scripted.script["GET /1.0/events"] = [refuse(403, "Forbidden")]
    with pytest.raises(ConnectionLostError):
        opened(scripted).events.subscribe()


# ---- commands


ATTACH_FAILED = "Failed to retrieve PID of executing child process"


@pytest.mark.parametrize(
    "metadata", [{"return": -1}, {}], ids=["a code of no process", "no code at all"]
)
def test_a_command_whose_end_lxd_does_not_know_has_no_exit_code(
    scripted: ScriptedLxd, metadata: dict[str, object]
) -> None:
    secrets = {"0": "a", "1": "b", "2": "c", "control": "d"}
    ended = {
        "id": "op",
        "status": "Failure",
        "status_code": 400,
        "err": ATTACH_FAILED,
        "metadata": metadata,
    }
    scripted.script["POST /1.0/instances/web/exec"] = [begin("op", metadata={"fds": secrets})]
    scripted.script["GET /1.0/operations/op/websocket"] = [websocket()]
    scripted.script["GET /1.0/operations/op/wait"] = [answer(ended)]
    began = time.monotonic()
    with pytest.raises(UnknownOutcomeError) as caught:
        opened(scripted).guests.execute("web", Command(words=("/bin/health",)))
    assert ATTACH_FAILED in told(caught.value)
    # There is no output whose end could be waited for.
    assert time.monotonic() - began < 4


# ---- a remote one, and what is written down


@pytest.fixture
def remote(real: RealSite, tmp_path: Path) -> Iterator[RemotePlace]:
    """The real LXD over HTTPS, trusting a client certificate, its own one pinned."""
    lxd = real.lxd
    address = f"127.0.0.1:{free_port()}"
    lxd.server.configure({"core.https_address": address})
    # The client draws its key pair when a remote is first added.
    real.private.lxc("remote", "list")
    client = real.private.home / "client"
    if not (client / "client.crt").exists():
        real.private.lxc(
            "remote", "add", "self", f"https://{address}", "--accept-certificate", check=False
        )
    real.private.lxc("config", "trust", "add", client / "client.crt", "--name", "door")
    pinned = tmp_path / "server.crt"
    pinned.write_text(lxd.server.info().certificate)
    try:
        yield RemotePlace(
            url=f"https://{address}",
            client_certificate=client / "client.crt",
            client_key=client / "client.key",
            server_certificate=pinned,
        )
    finally:
        listed = real.private.query("GET", "/1.0/certificates")
        for path in listed:
            real.private.query("DELETE", path)
        lxd.server.configure({"core.https_address": ""})


@pytest.mark.lxd
def test_a_remote_lxd_is_verified_for_requests_and_events(
    real: RealSite, remote: RemotePlace, tmp_path: Path
) -> None:
    lxd = open_lxd(remote)
    with lxd.events.subscribe() as stream:
        real.create("web", start=True)
        assert lxd.instances.get("web").running
        said = lxd.guests.execute("web", Command(words=("/bin/echo", "far")))
        assert said.stdout == b"far\n"
        assert stream.take(5) is not None
    other = tmp_path / "other.crt"
    other.write_text(real.server.authority.read_text())
    wrong = RemotePlace(
        url=remote.url,
        client_certificate=remote.client_certificate,
        client_key=remote.client_key,
        server_certificate=other,
    )
    with pytest.raises(ServerCertificateError) as caught:
        open_lxd(wrong)
    assert "pin the right certificate" in told(caught.value)
    for path in real.private.query("GET", "/1.0/certificates"):
        real.private.query("DELETE", path)
    with pytest.raises(NotTrustedError):
        open_lxd(remote)
    real.lxd.server.configure({"core.https_address": ""})
    with pytest.raises(UnreachableError):
        open_lxd(remote)


@pytest.mark.lxd
def test_secrets_are_not_logged(real: RealSite, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    image = real.image()
    secret = settings({"environment.TOKEN": "geheim-1"})
    lxd = open_lxd(SocketPlace(socket=real.private.socket))
    lxd.instances.create(NewInstance(name="web", image=image, settings=secret))
    lxd.power.start("web")
    command = Command(words=("/bin/cat",), environment={"A": "geheim-2"}, stdin=b"geheim-3")
    assert lxd.guests.execute("web", command).stdout == b"geheim-3"
    assert "geheim" not in caplog.text
    assert "secret=" not in caplog.text
    with pytest.raises(LxdockerError) as caught:
        lxd.instances.create(NewInstance(name="web", image=image, settings=secret))
    assert "geheim" not in str(caught.value)
    with pytest.raises(AbsentError):
        lxd.instances.get("nope")
