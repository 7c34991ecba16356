"""One table of instance keys, in the code and in the documentation."""

import re
from pathlib import Path

from lxdocker_lxd.convert.metadata import ImageMetadata, metadata_tarball
from lxdocker_lxd.instance_keys import INIT_SCRIPT_KEY, INSTANCE_KEYS, guest_keys, markdown_table
from lxdocker_lxd.update.enrolment import (
    DEPENDS_KEY,
    MINIMUM_AGE_KEY,
    PIN_KEY,
    SKIP_KEY,
    SNOOZE_KEY,
    UPDATE_KEY,
    WINDOW_KEY,
)
from lxdocker_lxd.update.health_check import HEALTH_KEY
from lxdocker_lxd.update.source import SOURCE_KEY
from lxdocker_lxd.update.transaction import REJECTED_KEY, STAMP_KEY

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "instance-keys.md").read_text()
GUEST = (ROOT / "lxdocker_lxd" / "convert" / "guest" / "prepare.sh").read_text()


def test_the_documentation_holds_the_table() -> None:
    assert markdown_table() in DOCUMENT


def test_the_documentation_names_no_other_key() -> None:
    named = set(re.findall(r"user\.lxdocker[._][a-z_.]*[a-z]", DOCUMENT))
    assert named == {key.name for key in INSTANCE_KEYS}


def test_the_guest_knows_every_key_that_it_is_given() -> None:
    known = set()
    for names in re.findall(r"^\t([a-z_| ]+)\)", GUEST, re.MULTILINE):
        known |= set(names.split(" | "))
    assert {key.short for key in guest_keys()} <= known


def test_the_image_hands_every_key_to_the_guest() -> None:
    raw = metadata_tarball(
        ImageMetadata(
            product="p",
            architecture="amd64",
            created_seconds=1,
            description="",
            properties={},
            etc_templates=True,
        )
    ).decode()
    for key in guest_keys():
        assert f'{key.short}={{{{ config_get("{key.name}", "")|urlencode }}}}\n' in raw
    assert f'config_get("{INIT_SCRIPT_KEY}", "")' in raw


def test_the_updater_s_keys_are_not_the_guest_s() -> None:
    others = {key.name for key in INSTANCE_KEYS if key.read_by == "updater"}
    assert others >= {UPDATE_KEY, DEPENDS_KEY, WINDOW_KEY, PIN_KEY, SKIP_KEY, SNOOZE_KEY}
    assert others >= {MINIMUM_AGE_KEY, SOURCE_KEY, HEALTH_KEY, STAMP_KEY, REJECTED_KEY}
    assert not others & {key.name for key in guest_keys()}
