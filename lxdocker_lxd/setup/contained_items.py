"""All that a host has whose image server lives in a container, in the order in which it is made. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.setup import subnet
from lxdocker_lxd.setup.client_items import client_items
from lxdocker_lxd.setup.contained import MARK, Contained, address_in, checked_name
from lxdocker_lxd.setup.endpoint import Endpoint
from lxdocker_lxd.setup.facts import Facts
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.items import Target
from lxdocker_lxd.setup.lxd_items import POOL, Bridge, lxd_items
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.wish import Places, Wish

ADDRESS = ":443"
"""Where the server listens inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """What setup looked at besides.

    ``network`` is the bridge's configuration, empty for one that is to be made; ``given_out`` are its
    addresses that are in use. ``image`` is the local image to make the container of; ``fetched`` says
    from where it comes, empty for one that is here. ``digest`` is this program's. ``address`` is the
    one a container that is there has; empty for none.
    """

    network: Mapping[str, str]
    given_out: Collection[str]
    image: str
    fetched: Mapping[str, str]
    digest: str
    address: str = ""


def contained(facts: Facts, found: ContainerFacts, wish: Wish, state: SetupState) -> Contained:
    """Return where the container shall be; raise UsageError where it can't be."""
    name = checked_name(wish.container)
    bridge = Bridge.of(facts, wish, state)
    if facts.lxd.clustered:
        raise UsageError(
            "--in-container: in a cluster every member would have to know the container's name",
            hint="set up one machine beside it: lxdocker-lxd setup --lxd URL there",
        )
    interface = bridge.subnet or found.network.get("ipv4.address", "")
    if "/" not in interface or found.network.get("ipv4.dhcp") == "false":
        raise UsageError(
            "--in-container: LXD has no bridge that gives out IPv4 addresses",
            hint="make one: lxc network create lxdbr0, then run setup again",
        )
    host_name = f"{name}.{found.network.get('dns.domain') or 'lxd'}".lower()
    return Contained(
        name=name,
        host_name=host_name,
        image=found.image,
        pool=_pool(facts, bridge),
        network=bridge.name,
        address=_address(interface, found, state),
    )


def _pool(facts: Facts, bridge: Bridge) -> str:
    devices = facts.lxd.default_devices.values()
    root = next((one for one in devices if one.get("path") == "/"), None)
    if root:
        return root["pool"]
    if bridge.initialise:
        return POOL
    raise UsageError(
        "--in-container: LXD's default profile has no root disk",
        hint="run `lxd init`, then setup again",
    )


def _address(interface: str, found: ContainerFacts, state: SetupState) -> str:
    """Return the address that the container has, the one chosen before, or a free one."""
    if found.address:
        return found.address
    before = next((one for one in state.records if one.kind == "container"), None)
    if before:
        return address_in(before.after["definition"])
    return str(subnet.free_address(IPv4Interface(interface), found.given_out))


def target(facts: Facts, found: ContainerFacts, wish: Wish, state: SetupState) -> Target:
    """Return what the host shall have. Raises UsageError."""
    shall = contained(facts, found, wish, state)
    bridge = Bridge.of(facts, wish, state)
    remote = wish.remote_name or facts.host.settings.remote_name
    places = Places.of(wish)
    authority = places.state.with_name(f"{shall.name}.crt")
    items = (
        *lxd_items(facts, wish, bridge),
        *_container_items(shall, found),
        *_server_items(shall, found),
        Item(
            kind="container-authority",
            name=str(authority),
            wanted={
                "of": shall.name,
                "mode": "0644",
                "names": f"{shall.host_name},{shall.address}",
                "networks": ",".join(_networks(bridge, found)),
            },
            text=f"certificate of the CA in {shall.name}",
            reason="what users' clients and LXD trust the server by",
        ),
        _hosts_line(shall, wish),
        *client_items(
            facts.host.clients,
            shall.url,
            remote,
            pinned=authority,
            trust=places.trust if wish.system_trust else None,
        ),
    )
    names = (shall.host_name, shall.address)
    endpoint = Endpoint(addresses=(ADDRESS,), url=shall.url, names=names)
    return Target(items=items, endpoint=endpoint, remarks=())


def _networks(bridge: Bridge, found: ContainerFacts) -> Iterator[str]:
    """Yield the bridge's networks, with its own address in each."""
    addresses = (bridge.subnet, *(found.network.get(f"ipv{one}.address", "") for one in "46"))
    return (one for one in addresses if "/" in one)


def _container_items(shall: Contained, found: ContainerFacts) -> Iterator[Item]:
    if found.fetched:
        yield Item(
            kind="base-image",
            name=found.image,
            wanted={**found.fetched, "for": shall.name},
            text=f"image {found.fetched['alias']} of {found.fetched['server']}",
            reason="what the container is made of",
            policy="keep",
        )
    for path, volume in shall.volumes.items():
        yield Item(
            kind="container-volume",
            name=f"{shall.pool}/{volume}",
            wanted={"of": shall.name, "path": path},
            text=f"volume {volume} in pool {shall.pool}",
            reason=f"{path}, which outlives the container",
            policy="claim",
            hint="it isn't setup's: choose another name of the container",
        )
    yield Item(
        kind="container",
        name=shall.name,
        wanted={"definition": shall.definition},
        text=f"container {shall.name}",
        reason=f"the image server's, at {shall.address} on {shall.network}",
        policy="claim",
        hint=f"choose another name, or delete it; one that is setup's has the key {MARK}",
    )


def _server_items(shall: Contained, found: ContainerFacts) -> Iterator[Item]:
    yield Item(
        kind="container-power",
        name=shall.name,
        wanted={"status": "running", "address": shall.address},
        text=f"{shall.name} started",
        reason="runs now and at every boot",
    )
    yield Item(
        kind="container-program",
        name=shall.name,
        wanted={"digest": found.digest},
        text=f"this program in {shall.name}",
        reason="the same one as here",
        policy="insist",
    )
    yield Item(
        kind="container-server",
        name=shall.name,
        wanted={
            "address": ADDRESS,
            "url": shall.url,
            "names": f"{shall.host_name},{shall.address}",
            "digest": found.digest,
        },
        text=f"server, converter and their timers in {shall.name}",
        reason=f"{shall.url}, with a CA of its own",
        policy="insist",
    )


def _hosts_line(shall: Contained, wish: Wish) -> Item:
    path = Places.of(wish).hosts
    return Item(
        kind="hosts-line",
        name=f"{path}#{shall.host_name}",
        wanted={"address": shall.address},
        text=f"{shall.host_name} in {path}",
        reason="so LXD itself finds the server: its name service answers on the bridge only",
        policy="claim",
        hint="correct or remove that line",
    )
