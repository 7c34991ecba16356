"""Stop signals as images write them, by number."""

import signal

import pytest

from lxdocker_lxd.convert.stop_signal import StopSignalError, stop_signal_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *((None, 15), ("", 15), ("SIGTERM", 15), ("term", 15), ("15", 15), ("SIGQUIT", 3)),
        *(("SIGWINCH", 28), ("SIGPWR", 30), ("SIGPOLL", 29), ("SIGIOT", 6), ("sigusr1", 10)),
        *(("SIGRTMIN", 34), ("SIGRTMIN+3", 37), ("RTMIN+30", 64), ("SIGRTMAX", 64)),
        *(("SIGRTMAX-4", 60), ("64", 64), ("1", 1)),
    ],
)
def test_signals(text: str | None, number: int) -> None:
    assert stop_signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "65",
        "-1",
        "SIG",
        "SIGNONE",
        "SIGRTMIN+31",
        "SIGRTMIN-1",
        "RTMAX+1",
        "\uff11\uff15",
        "1 ",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(StopSignalError) as caught:
        stop_signal_number(text)
    assert repr(text) in caught.value.message
    assert "stop_signal:" in caught.value.hint


def test_digits_without_end_are_none_and_are_not_repeated() -> None:
    with pytest.raises(StopSignalError) as caught:
        stop_signal_number("9" * 5000)
    assert len(caught.value.message) < 200


def test_the_numbers_are_the_kernel_s() -> None:
    for known in signal.valid_signals():
        if isinstance(known, signal.Signals):
            assert stop_signal_number(known.name) == known.value, known
