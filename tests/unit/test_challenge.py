"""WWW-Authenticate headers as registries write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.registry.challenge import choose_challenge, parse_challenges

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/nginx:pull"'
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [HUB],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/nginx:pull",
                    },
                )
            ],
        ),
        (['Basic realm="a, b"'], [("basic", {"realm": "a, b"})]),
        (["Basic"], [("basic", {})]),
        (['BASIC realm="x", BEARER realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (["Negotiate", 'Bearer realm="y"'], [("negotiate", {}), ("bearer", {"realm": "y"})]),
        (['Negotiate YWJj==, Basic realm="x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
        # Without quotes, with spaces around, with escapes, with a parameter given twice.
        (["Bearer realm=https://a/t?x=y,service=s"], [("bearer", {"realm": "https://a/t?x=y", "service": "s"})]),
        (['bearer  Realm = "x" , SERVICE = s'], [("bearer", {"realm": "x", "service": "s"})]),
        (['Basic realm="say \\"hi\\" \\\\"'], [("basic", {"realm": 'say "hi" \\'})]),
        (['Bearer realm="x",realm="evil"'], [("bearer", {"realm": "x"})]),
        # What can't be read ends its header and no other.
        (['Bearer realm="x', 'Basic realm="y"'], [("bearer", {}), ("basic", {"realm": "y"})]),
        ([""], []),
        ([",, ,"], []),
    ],
)  # fmt: skip
def test_headers(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(one.scheme, dict(one.parameters)) for one in parse_challenges(headers)]
    assert found == expected


def test_the_first_known_scheme_is_chosen() -> None:
    challenges = parse_challenges(["Negotiate", 'Basic realm="x"', HUB])
    chosen = choose_challenge(challenges)
    assert chosen is not None
    assert chosen.scheme == "basic"
    assert choose_challenge(parse_challenges(["Negotiate, Digest realm=x"])) is None


def test_scopes_are_split_at_spaces() -> None:
    (challenge,) = parse_challenges(
        ['Bearer realm="r",scope="repository:a:pull repository:b:pull"']
    )
    assert challenge.scopes == ("repository:a:pull", "repository:b:pull")
    assert (challenge.realm, challenge.service) == ("r", "")


@given(st.text(max_size=60))
def test_no_header_breaks_the_parser(text: str) -> None:
    for challenge in parse_challenges([text]):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
        max_size=4,
    )
)
def test_quoted_values_come_back(parameters: dict[str, str]) -> None:
    quoted = [
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in parameters.items()
    ]
    (challenge,) = parse_challenges(["Bearer " + ", ".join(quoted)])
    assert dict(challenge.parameters) == parameters
