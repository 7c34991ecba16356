"""The line in /etc/hosts: found, written, and taken back to the byte."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.setup.hosts_file import HostsLines, address_of, with_line, without_line

NAME = "lxdocker.lxd"
ADDRESS = {"address": "10.1.2.3"}
LINES = st.sampled_from(
    ["127.0.0.1 localhost", "# a comment", "", "::1 ip6-localhost\t", "10.0.0.9 a b # c", "\r", "ä"]
)


@given(st.lists(LINES).map("\n".join))
def test_what_was_written_is_taken_back_to_the_byte(text: str) -> None:
    written = with_line(text, NAME, "10.1.2.3")
    assert address_of(written, NAME) == "10.1.2.3"
    assert without_line(written, NAME) == text
    # A new address takes the place of the old one.
    assert with_line(written, NAME, "10.1.2.4").count(NAME) == 1


@given(st.text())
def test_any_text_survives(text: str) -> None:
    assert without_line(with_line(text, NAME, "10.1.2.3"), NAME) == text


def test_only_our_line_of_this_name_goes() -> None:
    foreign = f"10.9.9.9 {NAME}\n"
    ours = with_line("", "other.lxd", "10.1.2.9")
    assert without_line(foreign + ours, NAME) == foreign + ours


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (f"10.1.1.1 x {NAME.upper()} y\n", "10.1.1.1"),
        (f"# 10.1.1.1 {NAME}\n", ""),
        (f"10.1.1.1 x # {NAME}\n", ""),
        (f"10.1.1.1 not{NAME}\n", ""),
        (f"10.1.1.1 {NAME}\n10.1.1.2 {NAME}", "10.1.1.1"),
        ("", ""),
    ],
)
def test_the_first_address_counts(text: str, address: str) -> None:
    assert address_of(text, NAME) == address


class TestTheFile:
    def test_it_keeps_its_mode_and_its_link(self, tmp_path: Path) -> None:
        hosts, hand = tmp_path / "hosts", HostsLines()
        hosts.write_text("127.0.0.1 localhost")
        hosts.chmod(0o640)
        link = tmp_path / "link"
        link.symlink_to(hosts)
        name = f"{link}#{NAME}"
        assert hand.look(name, ADDRESS) is None
        hand.make(name, ADDRESS)
        hand.make(name, ADDRESS)
        assert hand.look(name, ADDRESS) == ADDRESS
        assert hosts.stat().st_mode & 0o777 == 0o640
        assert link.is_symlink()
        assert hand.take_back(name, ADDRESS, None) == ""
        assert hand.take_back(name, ADDRESS, None) == ""
        assert hosts.read_text() == "127.0.0.1 localhost"

    def test_one_that_was_not_there_goes_again(self, tmp_path: Path) -> None:
        hand, name = HostsLines(), f"{tmp_path}/hosts#{NAME}"
        hand.make(name, ADDRESS)
        assert hand.take_back(name, ADDRESS, None) == ""
        assert list(tmp_path.iterdir()) == []

    def test_somebodys_other_address_stays(self, tmp_path: Path) -> None:
        hosts, hand = tmp_path / "hosts", HostsLines()
        hosts.write_text(f"10.7.7.7 {NAME}\n")
        assert "changed" in hand.take_back(f"{hosts}#{NAME}", ADDRESS, None)
        assert hosts.read_text() == f"10.7.7.7 {NAME}\n"
