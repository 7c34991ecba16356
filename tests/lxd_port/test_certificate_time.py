"""When certificates expire, compared with who made them."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.lxd.certificate_time import expires_at


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2080])
def test_the_end_of_a_certificate(year: int) -> None:
    """Up to 2049 the year has two digits, and four from then on."""
    end = datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    made = trustme.CA().issue_cert("me", not_before=end - timedelta(days=9), not_after=end)
    pem = made.cert_chain_pems[0].bytes().decode()
    assert expires_at(pem) == end
    assert expires_at(f"a comment\n{pem}{pem}") == end


@pytest.mark.parametrize("text", ["", "none", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate(text: str) -> None:
    assert expires_at(text) is None


@given(cut=st.integers(0, 400))
def test_a_damaged_certificate_has_no_end(cut: int) -> None:
    lines = trustme.CA().cert_pem.bytes().decode().splitlines()
    body = "".join(lines[1:-1])[:cut]
    expires_at(f"{lines[0]}\n{body}\n{lines[-1]}\n")
