"""Inside instances: commands, files, the console."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lxdocker_lxd.lxd.calls import Command, CommandResult, GuestFile
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    CommandTimedOutError,
    RefusedError,
    TooLongError,
    UnknownOutcomeError,
    WrongStateError,
)
from tests.harness.simulated_lxd import Behaviour
from tests.lxd_port.site import RealSite, SimulatedSite, Site, settings


def ran(exit_code: int = 0, stdout: bytes = b"", stderr: bytes = b"") -> CommandResult:
    return CommandResult(exit_code=exit_code, stdout=stdout, stderr=stderr)


def test_commands_end_as_they_say(site: Site) -> None:
    site.create("web", settings({"environment.GREETING": "hello  there"}), start=True)

    def execute(*words: str, **more: object) -> CommandResult:
        return site.lxd.guests.execute("web", Command(words=words, **more))  # type: ignore[arg-type] # fields of Command

    assert execute("/bin/echo", "a", "b  c") == ran(stdout=b"a b  c\n")
    assert execute("/bin/sh", "-c", "echo no >&2") == ran(stderr=b"no\n")
    assert execute("/bin/sh", "-c", "exit 4") == ran(4)
    assert execute("/bin/sh", "-c", "kill -15 $$") == ran(143)
    assert execute("/bin/nope") == ran(127)
    assert execute("/bin/cat", "/nope").exit_code == 1
    assert execute("/bin/pwd") == ran(stdout=b"/root\n")
    assert execute("/bin/pwd", directory="/data") == ran(stdout=b"/data\n")
    assert execute("/bin/id", "-u", user_id=7, group_id=8) == ran(stdout=b"7\n")
    assert execute("/bin/id", "-g", user_id=7, group_id=8) == ran(stdout=b"8\n")
    told = execute("/bin/env", environment={"MINE": "x=y"}).stdout.splitlines()
    assert b"GREETING=hello  there" in told
    assert b"MINE=x=y" in told
    much = b"0123456789" * 50_000
    assert execute("/bin/cat", stdin=much, output_bytes=1 << 20) == ran(stdout=much)
    cut = execute("/bin/echo", "abcdef", output_bytes=3)
    assert (cut.stdout, cut.truncated) == (b"abc", True)


def test_a_command_that_takes_too_long_is_killed(site: Site) -> None:
    site.create("web", start=True)
    began = time.monotonic()
    with pytest.raises(CommandTimedOutError):
        site.lxd.guests.execute("web", Command(words=("/bin/sleep", "77"), timeout_seconds=1))
    assert time.monotonic() - began < 10
    assert site.lxd.guests.execute("web", Command(words=("/bin/echo",))) == ran(stdout=b"\n")


def test_a_command_is_killed_when_its_instance_ends(site: Site) -> None:
    site.create("web", kind="brief", start=True)
    command = Command(words=("/bin/sleep", "30"), timeout_seconds=40)
    assert site.lxd.guests.execute("web", command) == ran(137)
    with pytest.raises(WrongStateError):
        site.lxd.guests.execute("web", command)


def test_a_simulated_instance_that_no_command_reaches_any_more(simulated: SimulatedSite) -> None:
    simulated.create("web", start=True)
    simulated.simulated.box("web").guest.behaviour = Behaviour(attaches_for_seconds=5.0)
    command = Command(words=("/bin/echo",))
    assert simulated.lxd.guests.execute("web", command) == ran(stdout=b"\n")
    simulated.simulated.clock.advance(5)
    with pytest.raises(UnknownOutcomeError):
        simulated.lxd.guests.execute("web", command)


@pytest.mark.lxd
def test_a_command_that_meets_the_end_of_its_instance_ends_killed_or_unknown(
    real: RealSite,
) -> None:
    """LXD lists it before it is attached; an end in between leaves no exit code."""
    real.create("web", start=True)
    command = Command(words=("/bin/sleep", "30"), timeout_seconds=40)

    def outcome() -> int | None:
        try:
            return real.lxd.guests.execute("web", command).exit_code
        except UnknownOutcomeError:
            return None

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        for attached in (False, True, False):
            future = pool.submit(outcome)
            real.eventually(lambda: commands_in(real, "web"), "the command")
            if attached:
                real.eventually(lambda: real.lxd.power.state("web").processes > 2, "its process")
            real.lxd.power.kill("web")
            # Once the process was seen its end is known.
            assert future.result(20) in ({137} if attached else {137, None})
            real.lxd.power.start("web")
    assert time.monotonic() - began < 20


def commands_in(real: RealSite, name: str) -> bool:
    listed = real.lxd.server.operations(project="default")
    return any(f"/1.0/instances/{name}" in one.resources and not one.ended for one in listed)


def test_commands_need_a_running_instance(site: Site) -> None:
    command = Command(words=("/bin/echo",))
    with pytest.raises(AbsentError):
        site.lxd.guests.execute("nope", command)
    site.create("web")
    with pytest.raises(WrongStateError):
        site.lxd.guests.execute("web", command)
    site.lxd.power.start("web")
    site.lxd.power.freeze("web")
    with pytest.raises(WrongStateError):
        site.lxd.guests.execute("web", command)


@pytest.mark.parametrize("start", [False, True])
def test_files_are_read_and_written(site: Site, start: bool) -> None:
    site.create("web", start=start)
    guests = site.lxd.guests
    assert guests.read_file("web", "/etc/version").content == b"1"
    assert set(guests.read_file("web", "/etc").entries) >= {"passwd", "version"}
    with pytest.raises(AbsentError):
        guests.read_file("web", "/nope")
    file = GuestFile(content=b"\0hi", mode=0o640, user_id=5, group_id=6)
    guests.write_file("web", "/etc/a b&c", file)
    assert guests.read_file("web", "/etc/a b&c") == file
    guests.write_file("web", "/etc/a b&c", GuestFile(content=b"shorter"))
    assert guests.read_file("web", "/etc/a b&c").content == b"shorter"
    with pytest.raises(TooLongError):
        guests.read_file("web", "/etc/a b&c", most_bytes=6)
    guests.write_file("web", "/etc/d", GuestFile(kind="directory", mode=0o700))
    made = guests.read_file("web", "/etc/d")
    assert (made.kind, made.mode, made.entries) == ("directory", 0o700, ())
    guests.write_file("web", "/etc/link", GuestFile(kind="symlink", content=b"version"))
    link = guests.read_file("web", "/etc/link")
    assert (link.kind, link.content) == ("symlink", b"/etc/version")
    paths = ("/etc/link", "/etc/version", "/etc/d", "/")
    kinds = [guests.file_kind("web", path) for path in paths]
    assert kinds == ["symlink", "file", "directory", "directory"]
    with pytest.raises(AbsentError):
        guests.file_kind("web", "/nope")
    with pytest.raises(AbsentError):
        guests.write_file("web", "/nope/x", file)
    with pytest.raises(RefusedError):
        guests.delete_file("web", "/etc")
    for path in ("/etc/a b&c", "/etc/d"):
        guests.delete_file("web", path)
        with pytest.raises(AbsentError):
            guests.delete_file("web", path)


def test_the_console_is_read_once(site: Site) -> None:
    site.create("web")
    assert site.lxd.guests.console_log("web") == b""
    site.lxd.power.start("web")
    told = site.eventually(lambda: site.lxd.guests.console_log("web"), "a word of its init")
    assert told == b"init of 1 as 1\r\n"
    assert site.lxd.guests.console_log("web") == b""
    with pytest.raises(AbsentError):
        site.lxd.guests.console_log("nope")


def test_a_console_is_followed_to_the_end_of_its_instance(site: Site) -> None:
    site.create("web", start=True)
    told = b""
    for piece in site.lxd.guests.follow_console("web", poll_seconds=0.1):
        told += piece
        if b"init of" in told and site.lxd.instances.get("web").running:
            site.lxd.power.kill("web")
    assert told.startswith(b"init of 1 as 1\r\n")


@pytest.mark.full
@pytest.mark.parametrize("renamed", [False, True])
def test_the_start_after_a_read_of_files_waits_if_the_instance_was_renamed(
    site: Site, renamed: bool
) -> None:
    """LXD has a server for the files of a stopped instance, and loses sight of it by a rename."""
    site.create("web")
    site.lxd.guests.read_file("web", "/etc/version")
    if renamed:
        site.lxd.instances.rename("web", "other")
    began = site.now()
    site.lxd.power.start("other" if renamed else "web")
    assert (site.now() - began > 10) is renamed
