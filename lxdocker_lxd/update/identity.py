"""What LXD ties to an instance besides its settings, and which of that goes on with the name.

LXD has no way to give an instance another root: an update makes a second instance. Whatever LXD keeps
with the first one is carried over, or keeps the copy, or is told; nothing is lost in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lxdocker_lxd.lxd.records import Instance


class Treatment(StrEnum):
    """What an update does about a thing that LXD ties to an instance."""

    KEPT = "kept"
    """It goes on with the name."""
    REFUSED = "refused"
    """It can't go on, so nothing is done that would lose it."""
    TOLD = "told"
    """It stays with the old root or is new, and that is said."""
    ANEW = "anew"
    """It tells of a root, a run or a host; LXD writes it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied:
    """One thing, where LXD has it, what becomes of it and how, and the test that shows it."""

    thing: str
    place: str
    treatment: Treatment
    how: str
    test: str


_CONFIGURATION = "test_configuration.py::test_parking_and_restoring_gives_everything_back"
_SUCCESSOR = "test_configuration.py::test_a_successor_gets_everything_too"
_IDENTITY = "test_identity.py::"
TIED: tuple[Tied, ...] = (
    Tied(
        thing="configuration, environment, limits, user keys",
        place="`config`",
        treatment=Treatment.KEPT,
        how="written back, and compared before the start",
        test=_SUCCESSOR,
    ),
    Tied(
        thing="devices of its own and masks of its profiles'",
        place="`devices`",
        treatment=Treatment.KEPT,
        how="written back, and compared before the start",
        test=_SUCCESSOR,
    ),
    Tied(
        thing="profiles, description, architecture, `ephemeral`, `stateful`",
        place="the instance",
        treatment=Treatment.KEPT,
        how="written back, and compared before the start",
        test=_SUCCESSOR,
    ),
    Tied(
        thing="whether it runs",
        place="the instance's state",
        treatment=Treatment.KEPT,
        how="a stopped one stays stopped, unless it had crashed or a restart of it is owed",
        test="test_crashes.py::test_an_update_killed_at_any_call",
    ),
    Tied(
        thing="hardware addresses that LXD drew",
        place="`volatile.NIC.hwaddr`",
        treatment=Treatment.KEPT,
        how="written back before fixed addresses, and compared",
        test=_CONFIGURATION,
    ),
    Tied(
        thing="names of interfaces that LXD drew",
        place="`volatile.NIC.name`",
        treatment=Treatment.KEPT,
        how="written back, and compared; LXD would draw them in the devices' order",
        test=_IDENTITY + "test_a_routers_interfaces_keep_their_names",
    ),
    Tied(
        thing="an isolated id map",
        place="`volatile.idmap.base`",
        treatment=Treatment.KEPT,
        how="its base is written down as `security.idmap.base`",
        test="test_configuration.py::test_an_isolated_instance_keeps_its_id_map",
    ),
    Tied(
        thing="the cluster's member",
        place="`location`",
        treatment=Treatment.KEPT,
        how="the successor is made there; an update waits while it isn't online",
        test="test_plan.py::test_what_lxd_is_at_work_on_or_cant_reach_waits",
    ),
    Tied(
        thing="the cluster group that placed it, the member it was evacuated from",
        place="`volatile.cluster.group`, `volatile.evacuate.origin`",
        treatment=Treatment.KEPT,
        how="written back; not compared",
        test=_IDENTITY + "test_a_place_in_a_cluster_is_kept",
    ),
    Tied(
        thing="the guest that added a device",
        place="`volatile.DEVICE.devlxd.owner`",
        treatment=Treatment.KEPT,
        how="written back; not compared",
        test=_IDENTITY + "test_a_place_in_a_cluster_is_kept",
    ),
    Tied(
        thing="custom volumes",
        place="disk devices",
        treatment=Treatment.KEPT,
        how="as devices; the old root lets go of them before the new one has them",
        test="tests/lxd/test_update.py::test_an_update_keeps_addresses_volumes_and_every_key",
    ),
    Tied(
        thing="what a user set on the root's volume",
        place="`lxc storage volume get POOL container/NAME`",
        treatment=Treatment.KEPT,
        how="written before the outage",
        test=_IDENTITY + "test_the_root_volumes_own_settings_are_given_to_the_next_one",
    ),
    Tied(
        thing="a setting of the root's volume that LXD doesn't take",
        place="the same",
        treatment=Treatment.REFUSED,
        how="the update is given up before the outage",
        test=_IDENTITY
        + "test_a_root_volumes_setting_that_lxd_doesnt_take_refuses_the_update_before_the_outage",
    ),
    Tied(
        thing="how the root's volume was made (`block.filesystem`, `zfs.blocksize`, …)",
        place="the same",
        treatment=Treatment.ANEW,
        how="as the pool and the root device's `initial.*` keys say now",
        test=_IDENTITY + "test_what_a_root_volume_has_from_its_birth_hinders_nobody",
    ),
    Tied(
        thing="snapshots",
        place="`lxc info NAME`",
        treatment=Treatment.REFUSED,
        how="they stay with the old root, which is never removed then, and that is told",
        test="test_stage_room.py::test_copies_that_stay_for_their_snapshots_are_told_of",
    ),
    Tied(
        thing="backups that LXD keeps",
        place="`/1.0/instances/NAME/backups`",
        treatment=Treatment.REFUSED,
        how="they stay with the old root, which is never removed then, and that is told",
        test=_IDENTITY + "test_a_copy_with_backups_that_lxd_keeps_is_never_removed",
    ),
    Tied(
        thing="permissions of groups (LXD 5.21)",
        place="`lxc auth group show GROUP`",
        treatment=Treatment.TOLD,
        how="they stay with the old root; the report has the commands that grant them again",
        test=_IDENTITY + "test_permissions_of_groups_stay_with_the_old_root_and_that_is_told_once",
    ),
    Tied(
        thing="UUID, generation, cloud-init's instance id, vsock id, NVRAM of a virtual machine",
        place="`volatile.uuid`, `volatile.uuid.generation`, `volatile.cloud-init.instance-id`,"
        " `volatile.vsock_id`, `volatile.apply_nvram`",
        treatment=Treatment.ANEW,
        how="another root is another machine to its guest",
        test=_CONFIGURATION,
    ),
    Tied(
        thing="state of a run, names on the host, owners on disk, waiting templates",
        place="`volatile.last_state.*`, `volatile.DEVICE.host_name`, `volatile.DEVICE.last_state.*`,"
        " `volatile.idmap.next`, `volatile.apply_template`, `volatile.DEVICE.apply_quota`",
        treatment=Treatment.ANEW,
        how="LXD's own",
        test=_CONFIGURATION,
    ),
    Tied(
        thing="image and its properties",
        place="`volatile.base_image`, `image.*`",
        treatment=Treatment.ANEW,
        how="those of the new version",
        test="test_rounds.py::test_what_lxd_says_of_the_image_is_that_of_the_new_version",
    ),
    Tied(
        thing="logs and console log in LXD, metrics' counters",
        place="`lxc info NAME --show-log`",
        treatment=Treatment.ANEW,
        how="the old root's go with it; the last lines of a version that failed are in its report",
        test="test_evidence.py",
    ),
    Tied(
        thing="files on the root disk",
        place="the root",
        treatment=Treatment.REFUSED,
        how="where an image declares them a volume and no disk is there: see below",
        test="test_root_disk.py",
    ),
)


def markdown_table() -> str:
    """Return the table as docs/updater.md holds it, without a final newline."""
    rows = ["| what | where | treatment | how | test |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.thing} | {one.place} | {one.treatment} | {one.how} | `{one.test}` |"
        for one in TIED
    ]
    return "\n".join(rows)


NIC_TYPES = frozenset({"nic", "infiniband"})
# The group that placed it in a cluster, and the member to which an evacuated one goes back.
_OF_INSTANCES = ("volatile.cluster.group", "volatile.evacuate.origin")
# The guest that added the device.
_OF_DEVICES = ("devlxd.owner",)


def is_nic(device: Mapping[str, str]) -> bool:
    """Whether a device is an interface of the instance."""
    return device.get("type") in NIC_TYPES


def interface_name_key(device: str) -> str:
    """Return the key under which LXD keeps the name that it drew for an interface."""
    return f"volatile.{device}.name"


def kept_volatile(instance: Instance) -> dict[str, str]:
    """Return those of LXD's own keys that go on with the name, hardware addresses apart.

    All others tell of this root, this run or this host, and LXD writes them anew.
    """
    wanted = list(_OF_INSTANCES)
    for name, device in instance.expanded_devices.items():
        wanted += [f"volatile.{name}.{word}" for word in _OF_DEVICES]
        if is_nic(device) and "name" not in device:
            wanted.append(interface_name_key(name))
    return {key: instance.config[key] for key in wanted if instance.config.get(key)}
