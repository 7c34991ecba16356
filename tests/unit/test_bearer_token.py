"""Token servers' answers."""

from datetime import UTC, datetime, timedelta

import pytest

from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.registry.bearer_token import parse_token

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("document", "value", "lifetime_seconds"),
    [
        ('{"token":"a"}', "a", 60),
        ('{"access_token":"a"}', "a", 60),
        ('{"token":"a","access_token":"b"}', "a", 60),
        ('{"token":"a","expires_in":0}', "a", 60),
        ('{"token":"a","expires_in":-1}', "a", 60),
        ('{"token":"a","expires_in":59}', "a", 60),
        ('{"token":"a","expires_in":300}', "a", 300),
        ('{"token":"a","expires_in":99999999999}', "a", 7 * 24 * 3600),
        ('{"token":"a","expires_in":300,"issued_at":"2025-01-01T11:59:00Z"}', "a", 240),
        ('{"token":"a","expires_in":300,"issued_at":"2025-01-01T11:59:00.123456789Z"}', "a", 240.123456),
        ('{"token":"a","expires_in":300,"issued_at":"2025-01-01T11:59:00"}', "a", 240),
        # Clocks that are wrong, and dates that are none.
        ('{"token":"a","expires_in":300,"issued_at":"2024-01-01T11:59:00Z"}', "a", 300),
        ('{"token":"a","expires_in":300,"issued_at":"2026-01-01T11:59:00Z"}', "a", 300),
        ('{"token":"a","expires_in":300,"issued_at":"yesterday"}', "a", 300),
    ],
)  # fmt: skip
def test_tokens(document: str, value: str, lifetime_seconds: float) -> None:
    token = parse_token(document.encode(), now=NOW, what="token")
    assert token.value == value
    assert (token.expires_at - NOW).total_seconds() == pytest.approx(lifetime_seconds)


def test_a_token_is_not_used_up_to_its_last_second() -> None:
    token = parse_token(b'{"token":"a","expires_in":100}', now=NOW, what="token")
    assert token.is_fresh(NOW + timedelta(seconds=94))
    assert not token.is_fresh(NOW + timedelta(seconds=95))


@pytest.mark.parametrize(
    "document",
    ["", "[]", "{}", '{"token":""}', '{"token":1}', '{"token":"a b"}', '{"token":"a\\r\\nX: y"}',
     '{"token":"a","expires_in":"300"}', '{"token":"\u00e9"}'],
)  # fmt: skip
def test_what_is_no_token(document: str) -> None:
    with pytest.raises(InvalidDocumentError):
        parse_token(document.encode(), now=NOW, what="token")


def test_tokens_are_in_no_repr() -> None:
    token = parse_token(b'{"token":"hidden","refresh_token":"hidden"}', now=NOW, what="token")
    assert token.refresh == "hidden"
    assert "hidden" not in repr(token)
