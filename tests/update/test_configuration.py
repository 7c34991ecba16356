"""What goes from the old instance to the new one, and in which writes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.lxd.records import Instance, InstanceSettings
from lxdocker_lxd.update.configuration import (
    differences,
    is_parked,
    next_write,
    parked_settings,
    saved_of,
    stage_settings,
)
from lxdocker_lxd.update.transaction import (
    LONGEST_NAME,
    Phase,
    Role,
    Saved,
    Transaction,
    encoded,
    is_hands_off,
    is_ours,
    parked_name,
    stamp_of,
)
from lxdocker_lxd.update.user_change import absorbed
from tests.update.records import NEW_IMAGE, NIC, ROOT, instance

TRANSACTION = Transaction(id="0123abcd", project="default", name="web", fingerprint=NEW_IMAGE)
FIXED = NIC | {"ipv4.address": "10.0.0.7"}
PROFILE = {"root": ROOT, "eth0": NIC, "usb": {"type": "usb", "vendorid": "1"}}

words = st.text("abcxyz=é \"'", min_size=1, max_size=6)
configs = st.dictionaries(
    st.sampled_from(
        ["environment.A", "limits.memory", "user.x", "boot.autostart", "security.nesting",
         "security.protection.delete", "raw.lxc", "user.lxdocker.update"]
    ),
    words | st.sampled_from(["true", "false"]),
)  # fmt: skip
own_devices = st.fixed_dictionaries(
    {},
    optional={
        "eth0": st.just(FIXED),
        "eth1": st.just({"type": "nic", "nictype": "macvlan", "parent": "e", "hwaddr": "x"}),
        "data": st.just({"type": "disk", "source": "v", "pool": "p", "path": "/data"}),
        "root": st.just(ROOT | {"size": "1GiB"}),
        "usb": st.just({"type": "none"}),
        "web": st.just({"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp::80"}),
    },
)


def written(before: Instance, settings: InstanceSettings) -> Instance:
    """What LXD makes of a write, as far as it matters here: new NICs draw new MACs."""
    devices = {name: dict(device) for name, device in settings.devices.items()}
    expanded = PROFILE | devices
    config = dict(settings.config)
    for name, device in expanded.items():
        was = before.expanded_devices.get(name, {})
        if device["type"] == "nic" and "hwaddr" not in device and was.get("type") != "nic":
            config[f"volatile.{name}.hwaddr"] = "new"
        if device["type"] != "nic" and was.get("type") == "nic":
            config.pop(f"volatile.{name}.hwaddr", None)
    return replace(
        before,
        config=config,
        devices=devices,
        expanded_config=config,
        expanded_devices=expanded,
        profiles=settings.profiles,
        description=settings.description,
        ephemeral=settings.ephemeral,
        stateful=settings.stateful,
    )


def parked(one: Instance, role: Role, saved: Saved) -> Instance:
    stamp = TRANSACTION.stamp(role, Phase.OUTAGE, saved)
    result = written(one, parked_settings(one, stamp, protect_start=True))
    return replace(result, status="Stopped")


def restored(one: Instance, saved: Saved, role: Role) -> tuple[Instance, list[InstanceSettings]]:
    """The instance as it is in the end, and the writes that made it so."""
    stamp = TRANSACTION.stamp(role, Phase.RESTORED, saved)
    writes: list[InstanceSettings] = []
    while (settings := next_write(one, saved, stamp)) is not None:
        writes.append(settings)
        assert len(writes) < 5
        one = written(one, settings)
    return one, writes


def addresses_come_after_macs(writes: list[InstanceSettings], saved: Saved) -> bool:
    """Whether no write fixes an address of a NIC before one gave the NIC its hardware address."""
    given: set[str] = set()
    for settings in writes:
        for name, device in settings.devices.items():
            fixed = any(key.startswith(("ipv4.address", "ipv6.address")) for key in device)
            if fixed and name in saved.hardware_addresses and name not in given:
                return False
        given |= {
            name
            for name, mac in saved.hardware_addresses.items()
            if settings.config.get(f"volatile.{name}.hwaddr") == mac
        }
    return True


def test_a_fixed_address_comes_two_writes_after_its_bare_nic() -> None:
    one = instance(devices={"eth0": FIXED}, profile_devices=PROFILE)
    saved = saved_of(one)
    _, writes = restored(parked(one, Role.OLD, saved), saved, Role.OLD)
    assert ["ipv4.address" in settings.devices["eth0"] for settings in writes] == [
        False,
        False,
        True,
    ]
    macs = [settings.config.get("volatile.eth0.hwaddr") for settings in writes]
    assert macs == [None, "00:16:3e:00:00:01", "00:16:3e:00:00:01"]
    assert not addresses_come_after_macs(writes[::-1], saved)


@given(configs, own_devices)
def test_parking_and_restoring_gives_everything_back(
    config: dict[str, str], devices: dict[str, dict[str, str]]
) -> None:
    one = instance(config=config, devices=devices, profile_devices=PROFILE)
    saved = saved_of(one)
    away = parked(one, Role.OLD, saved)
    assert is_parked(away)
    assert "volatile.eth0.hwaddr" not in away.config
    assert absorbed(away, saved) == saved
    back, writes = restored(away, saved, Role.OLD)
    assert len(writes) <= 3
    assert addresses_come_after_macs(writes, saved)
    assert differences(back, saved) == ()
    assert absorbed(back, saved) == saved
    assert saved_of(replace(back, status="Running")) == saved


@given(configs, own_devices)
def test_a_successor_gets_everything_too(
    config: dict[str, str], devices: dict[str, dict[str, str]]
) -> None:
    one = instance(config=config, devices=devices, profile_devices=PROFILE)
    saved = saved_of(one)
    stamp = TRANSACTION.stamp(Role.NEW, Phase.STAGED, None)
    settings = stage_settings(one, stamp, protect_start=True)
    blank = instance("web-new-0123abcd", profile_devices=PROFILE, status="Stopped")
    stage = written(replace(blank, config={}), settings)
    assert is_parked(stage)
    assert stage.config["security.protection.delete"] == "false"
    new, writes = restored(stage, saved, Role.NEW)
    assert addresses_come_after_macs(writes, saved)
    assert differences(new, saved) == ()


def test_a_users_changes_to_a_parked_instance_are_kept() -> None:
    one = instance(
        config={"limits.memory": "1GiB", "boot.autostart": "true"},
        devices={"eth0": FIXED, "data": {"type": "disk", "path": "/d", "source": "v"}},
        profile_devices=PROFILE,
    )
    saved = saved_of(one)
    away = parked(one, Role.OLD, saved)
    devices = {name: device for name, device in away.devices.items() if name != "data"}
    touched = replace(
        away,
        config={**away.config, "limits.memory": "2GiB", "user.new": "1"},
        devices={**devices, "gpu": {"type": "gpu"}},
        description="another",
    )
    found = absorbed(touched, saved)
    assert found.config == {"limits.memory": "2GiB", "boot.autostart": "true", "user.new": "1"}
    assert found.devices == {"eth0": FIXED, "gpu": {"type": "gpu"}}
    assert found.description == "another"


def test_differences_name_keys_and_never_values() -> None:
    one = instance(config={"environment.PASSWORD": "secret"}, devices={"eth0": FIXED})
    other = replace(one, config={}, devices={}, profiles=("x",), description="")
    assert differences(other, saved_of(one)) == (
        "config environment.PASSWORD",
        "device eth0",
        "MAC of eth0",
        "profiles",
        "description",
    )


def test_an_isolated_instance_keeps_its_id_map() -> None:
    keys = {"security.idmap.isolated": "true", "volatile.idmap.base": "1065536"}
    one = instance(config=keys)
    saved = saved_of(one)
    assert saved.idmap_base == "1065536"
    stamp = TRANSACTION.stamp(Role.NEW, Phase.STAGED, None)
    assert stage_settings(one, stamp).config["security.idmap.base"] == "1065536"
    assert not saved_of(instance(config=keys | {"security.idmap.base": "165536"})).idmap_base


@given(configs, own_devices)
def test_a_stamp_tells_all_that_is_saved(
    config: dict[str, str], devices: dict[str, dict[str, str]]
) -> None:
    saved = saved_of(instance(config=config, devices=devices))
    stamp = TRANSACTION.stamp(Role.OLD, Phase.LEASED, saved)
    text = encoded(stamp)
    assert "\n" not in text
    assert stamp_of(instance(config={"user.lxdocker.transaction": text})) == stamp


@given(st.text(max_size=40) | st.sampled_from(['{"format":1}', "[]", "null", "1"]))
def test_a_stamp_that_isnt_understood_is_neither_absent_nor_ours(text: str) -> None:
    one = instance(config={"user.lxdocker.transaction": text})
    assert (stamp_of(one) is None) is (text == "")
    assert is_hands_off(one) is (text != "")
    assert not is_ours(one)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", fullmatch=True))
def test_parked_names_fit_and_a_copy_isnt_ours(name: str) -> None:
    waiting = {role: parked_name(name, role, "0123abcd") for role in Role}
    assert len({name, *waiting.values()}) == 3
    assert all(len(one) <= LONGEST_NAME for one in waiting.values())
    stamp = replace(TRANSACTION, name=name).stamp(Role.OLD, Phase.KEPT, None)
    keys = {"user.lxdocker.transaction": encoded(stamp)}
    assert is_ours(instance(waiting[Role.OLD], config=keys))
    assert not is_ours(instance("another", config=keys)) or name == "another"
