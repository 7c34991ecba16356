"""Which file or helper program answers for a registry."""

import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.registry.credential_file import IdentityToken, Password
from lxdocker_lxd.convert.registry.credentials import (
    CredentialHelperError,
    HelperAnswer,
    Keychain,
    run_helper,
)
from lxdocker_lxd.convert.registry.settings import CredentialFile
from lxdocker_lxd.errors import StorageError

USER = Password(username="u", password="p")


def write(path: Path, document: object) -> CredentialFile:
    path.write_text(json.dumps(document))
    return CredentialFile(path=str(path), form="docker")


class Helper:
    """Stands in for helper programs; remembers what it was asked."""

    def __init__(self, answer: HelperAnswer) -> None:
        self.answer = answer
        self.asked: list[tuple[tuple[str, ...], bytes]] = []

    def __call__(self, arguments: Sequence[str], given: bytes) -> HelperAnswer:
        self.asked.append((tuple(arguments), given))
        return self.answer


def says(document: object) -> HelperAnswer:
    return HelperAnswer(exit_status=0, output=json.dumps(document).encode(), errors="")


NOT_FOUND = HelperAnswer(
    exit_status=1, output=b"credentials not found in native keychain\n", errors=""
)


def test_the_first_file_that_knows_the_registry_wins(tmp_path: Path) -> None:
    files = [
        CredentialFile(path=str(tmp_path / "missing" / "auth.json"), form="containers"),
        write(tmp_path / "a.json", {"auths": {"one.example": {"auth": "dTpw"}}}),
        write(tmp_path / "b.json", {"auths": {"one.example": {"auth": "eDp5"}, "two.example": {"auth": "eDp5"}}}),
    ]  # fmt: skip
    keychain = Keychain(files)
    one, two = keychain.find("one.example", "a"), keychain.find("two.example", "a")
    assert one is not None
    assert (one.secret, one.origin) == (USER, str(tmp_path / "a.json"))
    assert two is not None
    assert two.origin == str(tmp_path / "b.json")
    assert keychain.find("three.example", "a") is None


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("\n")
    file = CredentialFile(path=str(tmp_path / "auth.json"), form="docker")
    assert Keychain([file]).find("r.example", "a") is None


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"auths": ')
    (tmp_path / "huge.json").write_text(" " * ((4 << 20) + 1))
    (tmp_path / "directory").mkdir()
    for name, error in (
        ("broken.json", InvalidDocumentError),
        ("huge.json", InvalidDocumentError),
        ("directory", StorageError),
    ):
        file = CredentialFile(path=str(tmp_path / name), form="docker")
        with pytest.raises(error, match=name):
            Keychain([file]).find("r.example", "a")


def test_a_helper_is_asked_once_with_the_server_on_its_input(tmp_path: Path) -> None:
    file = write(
        tmp_path / "config.json", {"credsStore": "pass", "credHelpers": {"r.example": "one"}}
    )
    helper = Helper(says({"ServerURL": "", "Username": "u", "Secret": "p"}))
    keychain = Keychain([file], helper_runner=helper)
    for registry in ("r.example", "docker.io", "r.example"):
        found = keychain.find(registry, "a/b")
        assert found is not None
        assert found.secret == USER
    assert helper.asked == [
        (("docker-credential-one", "get"), b"r.example\n"),
        (("docker-credential-pass", "get"), b"https://index.docker.io/v1/\n"),
    ]


def test_a_helper_may_hold_an_identity_token(tmp_path: Path) -> None:
    file = write(tmp_path / "config.json", {"credsStore": "pass"})
    helper = Helper(says({"Username": "<token>", "Secret": "abc"}))
    found = Keychain([file], helper_runner=helper).find("r.example", "a")
    assert found is not None
    assert (found.secret, found.origin) == (IdentityToken(token="abc"), "docker-credential-pass")


def test_a_helper_that_has_none_leaves_the_choice_to_what_follows(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", {"credsStore": "pass"})
    second = write(tmp_path / "b.json", {"auths": {"r.example": {"auth": "dTpw"}}})
    found = Keychain([first, second], helper_runner=Helper(NOT_FOUND)).find("r.example", "a")
    assert found is not None
    assert found.secret == USER
    assert Keychain([first], helper_runner=Helper(NOT_FOUND)).find("r.example", "a") is None


def test_a_missing_helper_is_named_with_its_file(tmp_path: Path) -> None:
    file = write(tmp_path / "config.json", {"credsStore": "no-such-program"})
    with pytest.raises(CredentialHelperError) as caught:
        Keychain([file]).find("r.example", "a")
    assert "docker-credential-no-such-program get" in caught.value.message
    assert "not installed" in caught.value.message
    assert file.path in caught.value.hint
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("stream", ["output", "errors"])
def test_a_failing_helper_can_be_run_by_hand_and_nothing_it_printed_is_shown(
    tmp_path: Path, stream: str
) -> None:
    file = write(tmp_path / "config.json", {"credsStore": "pass"})
    printed = '{"ServerURL":"r","Username":"u","Secret":"hunter2"}'
    answer = HelperAnswer(
        exit_status=3,
        output=printed.encode() if stream == "output" else b"",
        errors=printed if stream == "errors" else "",
    )
    with pytest.raises(CredentialHelperError) as caught:
        Keychain([file], helper_runner=Helper(answer)).find("r.example", "a")
    assert "docker-credential-pass get (for r.example" in caught.value.message
    assert "exit code 3" in caught.value.message
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert caught.value.hint == "run it by hand: echo r.example | docker-credential-pass get"


@pytest.mark.parametrize("output", [b"secret words", b'{"Username": 1}', b"\xff"])
def test_an_answer_that_is_no_protocol_is_refused_and_not_shown(
    tmp_path: Path, output: bytes
) -> None:
    file = write(tmp_path / "config.json", {"credsStore": "pass"})
    helper = Helper(HelperAnswer(exit_status=0, output=output, errors=""))
    with pytest.raises(CredentialHelperError, match="expected JSON") as caught:
        Keychain([file], helper_runner=helper).find("r.example", "a")
    assert "secret words" not in caught.value.message
    assert caught.value.__cause__ is None


def test_a_real_program_is_run_from_its_argument_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-credential-script"
    program.write_text(
        '#!/bin/sh\nread server\ntest "$1" = get || exit 9\n'
        'printf \'{"ServerURL":"%s","Username":"%s","Secret":"p"}\' "$server" "$server"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = write(tmp_path / "config.json", {"credsStore": "script"})
    found = Keychain([file]).find("r.example:5000", "a")
    assert found is not None
    assert found.secret == Password(username="r.example:5000", password="p")
    assert run_helper(("docker-credential-script", "erase"), b"x\n").exit_status == 9
