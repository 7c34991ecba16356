"""What a user changed in the middle of an update: found, and kept through it.

Instances of an update are written by two hands. Whatever isn't a mark of parking or restoring, and
differs from what was saved, is a user's word and counts.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.configuration import (
    IDMAP_BASE,
    MASK,
    is_parked,
    parked_config,
    saved_of,
    unequal,
    users_config,
    without_addresses,
)
from lxdocker_lxd.update.transaction import Role, Saved

_Value = TypeVar("_Value")


def absorbed(instance: Instance, saved: Saved) -> Saved:
    """Return what is saved, with what a user changed on the instance since.

    Works on an instance that is parked, half restored or untouched: what parking and restoring
    write is told apart from a user's own words.
    """
    parking = {**parked_config(Role.NEW, protect_start=True)}
    config = {
        key: value
        for key, value in users_config(instance.config).items()
        if parking.get(key) != value
    }
    if saved.idmap_base and config.get(IDMAP_BASE) == saved.idmap_base:
        del config[IDMAP_BASE]
    for key in parking:
        if key in saved.config and key not in config:
            config[key] = saved.config[key]
    devices = {}
    for name, device in instance.devices.items():
        ours = dict(device) == MASK or (
            name in saved.nics and dict(device) == without_addresses(saved.nics[name])
        )
        if not ours:
            devices[name] = dict(device)
        elif name in saved.devices:
            devices[name] = dict(saved.devices[name])
    return replace(
        saved,
        config=config,
        devices=devices,
        profiles=instance.profiles,
        description=instance.description,
    )


def merged(saved: Saved, base: Saved, changed: Saved) -> Saved:
    """Return ``saved`` with the changes that lead from ``base`` to ``changed``."""
    return replace(
        saved,
        config=_overlaid(saved.config, base.config, changed.config),
        devices=_overlaid(saved.devices, base.devices, changed.devices),
        profiles=saved.profiles if changed.profiles == base.profiles else changed.profiles,
        description=(
            saved.description if changed.description == base.description else changed.description
        ),
    )


def _overlaid(
    saved: Mapping[str, _Value], base: Mapping[str, _Value], changed: Mapping[str, _Value]
) -> dict[str, _Value]:
    result = dict(saved)
    for key in unequal(base, changed):
        if key in changed:
            result[key] = changed[key]
        else:
            result.pop(key, None)
    return result


def return_target(new: Instance, base: Saved, *, restored: bool) -> Saved:
    """Return what the old instance gets back, when the new one has the name.

    ``base`` is what was saved before. A restored new one speaks for the name, so what a user
    changed on it counts; a user's choice to let it run doesn't, for it may have failed.
    """
    if not restored:
        return base
    if is_parked(new):
        return absorbed(new, base)
    config = users_config(new.config)
    if base.idmap_base and config.get(IDMAP_BASE) == base.idmap_base:
        del config[IDMAP_BASE]
    last = saved_of(new)
    return replace(last, config=config, running=base.running, idmap_base=base.idmap_base)
