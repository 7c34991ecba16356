"""Which busybox goes into an image, and what is wrong with others."""

from pathlib import Path

import pytest

from lxdocker_lxd.convert.busybox import BusyboxError, find_busybox
from lxdocker_lxd.digest import Digest
from tests.convert.workshop import static_program


def problem(path: Path, architecture: str = "amd64") -> BusyboxError:
    with pytest.raises(BusyboxError) as caught:
        find_busybox(architecture, host_architecture="amd64", given={architecture: path})
    return caught.value


def test_the_hosts_own_is_found_where_debian_puts_it(tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(static_program())
    places = (tmp_path / "missing", program)
    found = find_busybox("amd64", host_architecture="amd64", given={}, host_paths=places)
    assert found.file.path == program
    assert found.digest == Digest.of(program.read_bytes())


def test_a_given_one_wins_also_for_the_host(tmp_path: Path) -> None:
    program = tmp_path / "mine"
    program.write_bytes(static_program("arm64"))
    given = {"arm64": program}
    assert find_busybox("arm64", host_architecture="arm64", given=given).file.path == program
    assert find_busybox("arm64", host_architecture="amd64", given=given).file.path == program


def test_none_at_all_names_the_package_for_host_and_foreign_machines() -> None:
    with pytest.raises(BusyboxError) as caught:
        find_busybox("amd64", host_architecture="amd64", given={}, host_paths=())
    assert caught.value.message == "busybox for amd64: none is installed"
    assert caught.value.hint == "Debian's package busybox-static has one"
    with pytest.raises(BusyboxError) as caught:
        find_busybox("arm64", host_architecture="amd64", given={})
    assert caught.value.hint == (
        "Debian's package busybox-static:arm64 has one, and give its path with --busybox arm64=PATH"
    )


def test_programs_that_would_not_run_in_any_image_are_refused(tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    assert "does not exist" in problem(program).message
    program.write_bytes(b"#!/bin/sh\n")
    assert "is not a program (no ELF header)" in problem(program).message
    program.write_bytes(static_program(interpreter=True))
    assert "is not statically linked" in problem(program).message
    program.write_bytes(static_program("arm64"))
    assert "is not a program for amd64" in problem(program).message
    program.write_bytes(static_program()[:64])
    assert "is cut short" in problem(program).message


@pytest.mark.tools
def test_debians_own_is_accepted() -> None:
    assert find_busybox("amd64", host_architecture="amd64", given={}).file.size_bytes > 1_000_000
