"""A state directory is one LXD's."""

from pathlib import Path

import pytest

from lxdocker_lxd.update.followed_lxd import FILE, AnotherLxdError, check, claim

ONE, TWO = "1" * 64, "2" * 64


def test_a_directory_stays_with_the_lxd_that_used_it_first(tmp_path: Path) -> None:
    assert not check(tmp_path, ONE, "here")
    claim(tmp_path, ONE, "https://one:8443")
    claim(tmp_path, ONE, "its socket")
    assert check(tmp_path, ONE, "here")
    with pytest.raises(AnotherLxdError) as caught:
        claim(tmp_path, TWO, "https://two:8443")
    assert "https://one:8443 (certificate 111111111111), not of https://two" in str(caught.value)
    assert str(tmp_path / FILE) in caught.value.hint
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_what_cannot_be_understood_is_nobodys_leave(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AnotherLxdError, match="can't be understood"):
        claim(tmp_path, ONE, "here")
