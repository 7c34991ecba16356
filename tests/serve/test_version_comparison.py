"""What changed between two versions: layers by their content, settings one by one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.catalogue import Json, Version
from lxdocker_lxd.serve.run_config import HealthCheck
from lxdocker_lxd.serve.version_comparison import Change, compare, health_text
from tests.serve.page_images import built, web
from tests.serve.test_run_config import ANY_JSON, KEYS


def version(word: str = "a", **given: Any) -> Version:
    return replace(built(word, "docker.io/library/web:1", config={}), **given)


def configured(config: dict[str, Json]) -> Version:
    return version(config=config)


def test_a_new_release_of_an_image() -> None:
    _, before, after = web()[0].versions
    changes = compare(before, after)
    assert changes.reasons == ("image",)
    assert [layer.size_bytes for layer in changes.layers.added] == [46_200_000]
    assert [layer.size_bytes for layer in changes.layers.removed] == [44_000_000]
    assert changes.layers.kept == 2
    assert {change.name: (change.before, change.after) for change in changes.environment} == {
        "DYNPKG_RELEASE": ("1", None),
        "NGINX_VERSION": ("1.27.4", "1.28.0"),
        "NJS_VERSION": (None, "0.9.0"),
    }
    assert changes.ports == (Change(name="443/tcp", before=None, after="443/tcp"),)
    assert changes.volumes == (
        Change(name="/var/cache/nginx", before=None, after="/var/cache/nginx"),
    )
    assert [change.name for change in changes.settings] == ["health check"]
    assert [change.name for change in changes.origin] == ["source digest", "manifest"]
    assert changes.size_bytes == after.size_bytes - before.size_bytes
    assert not changes.runs_the_same


def test_a_version_does_not_differ_from_itself() -> None:
    for one in web()[0].versions:
        changes = compare(one, one)
        assert (changes.reasons, changes.origin, changes.settings) == ((), (), ())
        assert (changes.layers.added, changes.layers.removed) == ((), ())
        assert changes.layers.kept == len(one.layers)
        assert changes.size_bytes == changes.rootfs_bytes == changes.rootfs_entries == 0
        assert changes.runs_the_same


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("manifest_digest", "image"),
        ("spec_digest", "specification"),
        ("guest_digest", "guest"),
        ("packer", "packing"),
    ],
)
def test_each_reason_of_a_rebuild(field: str, reason: str) -> None:
    before = version()
    after = version(inputs=replace(before.inputs, **{field: "another"}))
    assert compare(before, after).reasons == (reason,)


def test_layers_compressed_anew_are_the_same_layers() -> None:
    before = built("a", "docker.io/library/web:1", layers={"base": 10})
    again = tuple(replace(layer, digest="sha256:" + "9" * 64) for layer in before.layers)
    assert compare(before, replace(before, layers=again)).layers.added == ()


def test_setting_nothing_and_setting_an_empty_text_differ() -> None:
    (change,) = compare(configured({}), configured({"Env": ["DEBUG="]})).environment
    assert change == Change(name="DEBUG", before=None, after="")


def test_the_order_of_variables_changes_nothing() -> None:
    changes = compare(configured({"Env": ["A=1", "B=2"]}), configured({"Env": ["B=2", "A=1"]}))
    assert changes.runs_the_same


def test_words_are_written_as_a_shell_takes_them() -> None:
    (change,) = compare(configured({}), configured({"Cmd": ["sh", "-c", "a b"]})).settings
    assert change == Change(name="command", before=None, after="sh -c 'a b'")


def test_a_health_check_in_a_line() -> None:
    check = HealthCheck(test=("CMD", "curl", "a b"), seconds={"interval": 90.0}, retries=5)
    assert health_text(check) == "curl 'a b' (interval 90 s, retries 5)"
    assert (
        health_text(HealthCheck(test=("CMD-SHELL", "a | b"), seconds={}, retries=None)) == "a | b"
    )


CONFIGS = st.dictionaries(st.sampled_from(KEYS), ANY_JSON)


@given(CONFIGS, CONFIGS)
def test_what_was_added_is_removed_on_the_way_back(
    first: dict[str, Json], second: dict[str, Json]
) -> None:
    there = compare(configured(first), configured(second))
    back = compare(configured(second), configured(first))
    for field in ("settings", "environment", "labels", "ports", "volumes"):
        forth = {(one.name, one.before, one.after) for one in getattr(there, field)}
        assert forth == {(one.name, one.after, one.before) for one in getattr(back, field)}
