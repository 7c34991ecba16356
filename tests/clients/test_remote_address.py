"""Addresses with a protocol: what is one, and what is refused."""

import pytest

from lxdocker_lxd.clients.remote_address import RemoteAddress, names_protocol, parse_address
from lxdocker_lxd.errors import UsageError


@pytest.mark.parametrize(
    ("text", "protocol", "url"),
    [
        ("https+registry://h", "registry", "https://h"),
        ("https+registry://h:8443/", "registry", "https://h:8443"),
        ("https+lxc-images://[::1]:8443/tree/", "lxc-images", "https://[::1]:8443/tree"),
        ("https+lxc-images://me:secret@h", "lxc-images", "https://me:secret@h"),
    ],
)
def test_an_address(text: str, protocol: str, url: str) -> None:
    assert parse_address(text, what="it") == RemoteAddress(protocol=protocol, url=url)
    assert names_protocol(text)


@pytest.mark.parametrize(
    "text",
    [
        *("http+registry://h", "https+foo://h", "https://h", "registry://h", "h", ""),
        *(
            "https+registry://",
            "https+registry://h:0",
            "https+registry://h:x",
            "https+registry://[::1",
        ),
        *("https+registry://h:99999", "https+registry://h?x", "https+registry://h#x"),
        *("https+registry://h x", "https+registry://h\\x", "https+registry://h\n"),
        "https+registry://me:secret@h:x",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text, what="it")
    assert caught.value.message.startswith("it ")
    assert "https+registry://HOST" in caught.value.hint
    assert "secret" not in caught.value.message
