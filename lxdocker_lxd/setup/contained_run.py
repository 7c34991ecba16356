"""One run of setup for a server in a container: look, plan, and prove that LXD reaches it."""

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.lxc_directory import LxcDirectory
from lxdocker_lxd.importing.lxc_remotes import SIMPLESTREAMS
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.setup import look as looking
from lxdocker_lxd.setup.contained_items import ContainerFacts, contained, target
from lxdocker_lxd.setup.container_hands import BASE_ALIAS, local_image
from lxdocker_lxd.setup.facts import Facts, HostFacts
from lxdocker_lxd.setup.files import read_text
from lxdocker_lxd.setup.hand import look
from lxdocker_lxd.setup.inside import Inside
from lxdocker_lxd.setup.installation import installed_digest
from lxdocker_lxd.setup.plan import plan
from lxdocker_lxd.setup.proof import UnprovenError, prove
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.run import Prepared, Reached, clients_of, host_hands, lxd_hands
from lxdocker_lxd.setup.self_test import Tick
from lxdocker_lxd.setup.wish import Wish

# Go's resolver reads /etc/hosts again when it is five seconds old.
_RESOLVED_SECONDS = 20.0
_POLL_SECONDS = 1.0


def prepare_container(
    reached: Reached, wish: Wish, settings: Settings, state: SetupState, lxc: LxcDirectory
) -> Prepared:
    """Look and plan; change nothing. Raises LxdockerError."""
    lxd, place = reached
    if not isinstance(place, SocketPlace):
        raise UsageError(
            f"--in-container with {place}: the name of the container must be known on its machine",
            hint="run setup there",
        )
    lxd_facts = looking.lxd_facts(lxd, place)
    host = HostFacts(
        settings=settings.serve,
        specs=settings.specs,
        cache=settings.cache,
        lxdimages=settings.lxdimages,
        configured=False,
        clients=clients_of(wish, lxd_facts.packaging),
        interfaces=looking.interfaces(),
        networks=looking.networks(),
        seed=looking.seed(),
    )
    facts = Facts(lxd=lxd_facts, host=host)
    found = _container_facts(reached, facts, wish, lxc)
    aim = target(facts, found, wish, state)
    hands = {**host_hands(wish), **lxd_hands(lxd, contained(facts, found, wish, state))}
    steps = plan(aim.items, look(aim.items, hands), state, aim.remarks)
    return Prepared(facts=facts, target=aim, plan=steps, hands=hands)


def _container_facts(
    reached: Reached, facts: Facts, wish: Wish, lxc: LxcDirectory
) -> ContainerFacts:
    lxd, _ = reached
    bridge = facts.lxd.bridge
    image, fetched = _image(reached, wish, lxc)
    return ContainerFacts(
        network=lxd.networks.get(bridge).config if bridge else {},
        given_out=frozenset(one.address for one in lxd.networks.leases(bridge)) if bridge else (),
        image=image,
        fetched=fetched,
        digest=installed_digest(),
        address=_address(reached[0], wish.container),
    )


def _address(lxd: Lxd, name: str) -> str:
    """Return the fixed address of a container that is there; empty for none."""
    try:
        found = lxd.instances.get(name)
    except AbsentError:
        return ""
    return found.devices.get("eth0", {}).get("ipv4.address", "")


def _image(reached: Reached, wish: Wish, lxc: LxcDirectory) -> tuple[str, Mapping[str, str]]:
    """Return the local image's name, and where it is to be fetched from."""
    remote, separator, alias = wish.container_image.rpartition(":")
    if not separator or remote == "local":
        # One that isn't there is told before anything is made.
        if Inside(reached[0], wish.container).state() == "absent":
            local_image(reached[0], alias)
        return alias, {}
    found = lxc.remote(remote)
    if found.protocol != SIMPLESTREAMS:
        raise UsageError(
            f"--container-image {wish.container_image}: {remote} is no image server",
            hint=f"copy it first: lxc image copy {wish.container_image} local: --alias NAME",
        )
    source = {
        "server": found.address,
        "alias": alias,
        "certificate": lxc.certificate(remote),
    }
    return BASE_ALIAS, source


def prove_container(prepared: Prepared, reached: Reached, on_tick: Callable[[Tick], None]) -> None:
    """Let LXD itself look into the server by its name; raise UnprovenError with what it says."""
    name = next(item.name for item in prepared.target.items if item.kind == "container-authority")
    certificate = read_text(Path(name)) or ""
    url = prepared.target.endpoint.url
    began = time.monotonic()
    while True:
        try:
            prove(reached[0], url, certificate, serial=f"setup-{secrets.token_hex(6)}")
            break
        except UnprovenError:
            if time.monotonic() - began > _RESOLVED_SECONDS:
                raise
            time.sleep(_POLL_SECONDS)
    text = f"LXD itself reaches {url} and trusts its certificate"
    on_tick(Tick(text=text, seconds=time.monotonic() - began))
