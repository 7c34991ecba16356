"""The image's User in numbers: Docker's rules, the same as the guest's shell applies."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.account import Account, UnknownAccountError, find_account
from tests.guest.guest_shell import GuestShell

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment
web:x:33:330:web:/srv/web:/bin/false
twin:x:33:331::/srv/twin:/bin/false
short:x:44:440
odd:x:007:1::/:
none:x:::::
"""
GROUP = b"""root:x:0:
www:x:330:
log:x:50:web,other
adm:x:60:other,web
big:x:99999999999:web
extra:x:70:twin
broken
"""


def found(user: str) -> Account:
    return find_account(user, passwd=PASSWD, group=GROUP)


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(uid=0, gid=0, home="/root")),
        ("root", Account(uid=0, gid=0, home="/root")),
        ("web", Account(uid=33, gid=330, groups=(50, 60), home="/srv/web")),
        ("33", Account(uid=33, gid=330, groups=(50, 60), home="/srv/web")),
        ("twin", Account(uid=33, gid=331, groups=(70,), home="/srv/twin")),
        ("web:log", Account(uid=33, gid=50, home="/srv/web")),
        ("web:7", Account(uid=33, gid=7, home="/srv/web")),
        ("web:", Account(uid=33, gid=330, groups=(50, 60), home="/srv/web")),
        (":log", Account(uid=0, gid=50, home="/root")),
        ("1000", Account(uid=1000, gid=0)),
        ("1000:2000", Account(uid=1000, gid=2000)),
        ("short", Account(uid=44, gid=440)),
        ("4294967294:4294967294", Account(uid=4294967294, gid=4294967294)),
    ],
)
def test_a_user_has_numbers(user: str, account: Account) -> None:
    assert found(user) == account


@pytest.mark.parametrize(
    "user",
    ["nobody", "web:nogroup", "4294967295", "99999999999", "-1", "odd", "none", "web:-1", "१"],
)
def test_an_unknown_user_is_an_error_that_names_it(user: str) -> None:
    with pytest.raises(UnknownAccountError) as caught:
        found(user)
    assert repr(user) in caught.value.message
    assert "set user in the specification" in caught.value.hint


def test_without_files_only_numbers_and_root_are_known() -> None:
    assert find_account("", passwd=b"", group=b"") == Account(uid=0, gid=0)
    assert find_account("5:6", passwd=b"", group=b"") == Account(uid=5, gid=6)
    with pytest.raises(UnknownAccountError):
        find_account("web", passwd=b"\xff\xfe:x:1:1\n", group=b"")


WORDS = st.sampled_from(["web", "twin", "root", "0", "33", "50", "1000", "log", "nobody", ""])


@pytest.mark.tools
@given(user=WORDS, group=WORDS)
def test_the_guest_finds_the_same(
    tmp_path_factory: pytest.TempPathFactory, user: str, group: str
) -> None:
    shell = GuestShell(tmp_path_factory.mktemp("shell"))
    (shell.etc / "passwd").write_bytes(PASSWD)
    (shell.etc / "group").write_bytes(GROUP)
    text = f"{user}:{group}" if group else user
    said: subprocess.CompletedProcess[bytes] = shell.run(
        'find_user "$1" || exit 9; printf "%s %s %s" "$uid" "$gid" "${user_home:-/}"', text.encode()
    )
    try:
        account = found(text)
    except UnknownAccountError:
        assert said.returncode == 9
    else:
        assert said.stdout.decode() == f"{account.uid} {account.gid} {account.home}"
