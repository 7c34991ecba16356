"""Stamps as versions in the field wrote them are read for ever: an update may span an upgrade."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.update.transaction import (
    STAMP_KEY,
    Phase,
    Proof,
    Role,
    Stamp,
    Unreadable,
    VolumeName,
    VolumeSnapshots,
    encoded,
    readable_stamp,
    stamp_of,
)
from tests.update.records import instance

GOLDEN = Path(__file__).parent / "golden"


def read(name: str) -> Stamp:
    text = (GOLDEN / f"stamp-{name}.json").read_text().strip()
    found = readable_stamp(instance(config={STAMP_KEY: text}))
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["outage", "committed", "kept", "rollback"])
def test_a_stamp_of_0_1_is_understood(name: str) -> None:
    stamp = read(f"0.1-{name}")
    assert (stamp.transaction, stamp.name, stamp.fingerprint) == ("0123abcd", "web", "b" * 64)
    assert stamp.phase is Phase(name)
    assert stamp.role is (Role.NEW if name == "committed" else Role.OLD)
    # What that version didn't write down isn't known: neither good nor bad.
    assert (stamp.proof, stamp.snapshots, stamp.covers, stamp.since) == (None, None, None, None)
    if stamp.saved is not None:
        assert stamp.saved.config["limits.memory"] == "1GiB"
        assert stamp.saved.hardware_addresses == {"eth0": "00:16:3e:00:00:01"}
        assert stamp.saved.devices["eth0"]["ipv4.address"] == "10.0.0.7"
        assert stamp.saved.idmap_base == "1065536"
    assert stamp.until == (datetime(2026, 11, 24, 12, tzinfo=UTC) if name == "kept" else None)
    assert stamp.blame is (name == "rollback")


def test_a_stamp_of_this_version_is_what_it_was() -> None:
    committed = replace(
        read("0.1-committed"), proof=Proof.GATE, check="the image's health check", ran=True
    )
    stamp = replace(
        read("0.1-kept"),
        since=datetime(2026, 11, 21, 12, tzinfo=UTC),
        proof=Proof.CRASHED,
        crashed=True,
        volumes=(VolumeName(pool="default", name="data"),),
        snapshots=VolumeSnapshots.TAKEN,
        covers=committed,
    )
    golden = GOLDEN / "stamp-0.2-kept.json"
    assert encoded(stamp) == golden.read_text().strip()
    assert read("0.2-kept") == stamp


def test_a_stamp_that_numbers_its_update_is_what_it_was() -> None:
    stamp = replace(read("0.2-kept"), sequence=7)
    golden = GOLDEN / "stamp-0.3-kept.json"
    assert encoded(stamp) == golden.read_text().strip()
    assert read("0.3-kept") == stamp


@pytest.mark.parametrize("text", ["-1", "true", '"7"', "1.5", str((1 << 53) + 1), "9" * 300])
def test_a_number_of_an_update_out_of_bounds_is_no_stamp(text: str) -> None:
    golden = (
        (GOLDEN / "stamp-0.3-kept.json").read_text().replace('"sequence":7', f'"sequence":{text}')
    )
    assert f'"sequence":{text}' in golden
    assert isinstance(stamp_of(instance(config={STAMP_KEY: golden})), Unreadable)
