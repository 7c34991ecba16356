"""What a guest's answer about its health means, to everybody who asks."""

import pytest

from lxdocker_lxd.guest_health import Health, has_health_check, health_of


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Health.HEALTHY),
        (1, Health.UNHEALTHY),
        (124, Health.NONE),
        (125, Health.STARTING),
        # Guests of older images: the command was not started yet.
        (126, Health.STARTING),
        (127, Health.STARTING),
        (137, Health.UNHEALTHY),
    ],
)
def test_exit_codes_of_a_converted_image(code: int, expected: Health) -> None:
    assert health_of(code, check=True) is expected


@pytest.mark.parametrize("code", [126, 127])
def test_a_foreign_image_has_no_check(code: int) -> None:
    assert health_of(code, check=False, converted=False) is Health.NONE


def test_an_older_guest_without_a_check_proves_nothing() -> None:
    assert health_of(0, check=False) is Health.NONE


@pytest.mark.parametrize(
    ("words", "image", "expected"),
    [("", True, True), ("", False, False), ("none", True, False), ("test -e /x", False, True)],
)
def test_the_key_decides_before_the_image(words: str, image: bool, expected: bool) -> None:
    config = {"user.lxdocker.health": words} if words else {}
    assert has_health_check(config, image=image) is expected
