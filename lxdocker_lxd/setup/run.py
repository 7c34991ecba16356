"""One run of setup: look, plan, do, or take back. What a person sees is the caller's."""

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

from lxdocker_lxd.lxd.place import Place
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.serve import this_host
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.setup import look as looking
from lxdocker_lxd.setup import own_program, system_trust, systemd, unit_files
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.authority import Authorities
from lxdocker_lxd.setup.contained import Contained
from lxdocker_lxd.setup.container_hands import BaseImages, Containers, ContainerVolumes, Powers
from lxdocker_lxd.setup.endpoint import Endpoint
from lxdocker_lxd.setup.facts import ClientFacts, Facts, HostFacts
from lxdocker_lxd.setup.files import Copies, Directories, Files, read_text
from lxdocker_lxd.setup.hand import Hand, Hands, look
from lxdocker_lxd.setup.hosts_file import HostsLines
from lxdocker_lxd.setup.installation import ContainerAuthorities, Installations, Servers
from lxdocker_lxd.setup.items import Target, target
from lxdocker_lxd.setup.key_groups import KeyGroups
from lxdocker_lxd.setup.lxd_hands import NetworkHand, PoolHand, ProfileDeviceHand, ServerKeyHand
from lxdocker_lxd.setup.plan import Plan, plan
from lxdocker_lxd.setup.proof import answers, plain_port
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.remotes import Remotes
from lxdocker_lxd.setup.self_test import Bench
from lxdocker_lxd.setup.wish import ROOT, Places, Wish

CONTAINER_KINDS = frozenset(
    {
        *("base-image", "container-volume", "container", "container-power"),
        *("container-program", "container-server", "container-authority"),
    }
)
LXD_KINDS = frozenset({"pool", "network", "profile-device", "server-key"}) | CONTAINER_KINDS
CERTIFICATE_KINDS = ("authority", "trust", "copy")
"""What a renewal of the certificate has to do with, the most important kind first."""


_REGISTRY = ("registry-1.docker.io", 443)


Reached = tuple[Lxd, Place]
"""A LXD and where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is there, what it shall be, and the way from one to the other."""

    facts: Facts
    target: Target
    plan: Plan
    hands: Hands


def prepare(
    reached: Reached | None,
    wish: Wish,
    settings: Settings,
    state: SetupState,
    *,
    configured: bool,
) -> Prepared:
    """Look and plan; change nothing. Raises LxdockerError. None stands for a machine without LXD."""
    lxd_facts = looking.lxd_facts(*reached) if reached else looking.NO_LXD
    at = (lambda path: path) if configured else wish.at
    serve = settings.serve
    host = HostFacts(
        settings=replace(serve, tls_dir=at(serve.tls_dir)),
        specs=at(settings.specs),
        cache=at(settings.cache),
        lxdimages=at(settings.lxdimages),
        configured=configured,
        clients=clients_of(wish, lxd_facts.packaging) if reached else (),
        listening=looking.listening(),
        interfaces=looking.interfaces(),
        networks=looking.networks(),
        systemd=runs_systemd(wish),
        missing_programs=looking.missing_programs(),
        missing_directories=looking.missing_directories(
            map(at, (settings.specs, settings.cache, settings.lxdimages, serve.tls_dir))
        ),
        seed=looking.seed(),
    )
    if host.systemd:
        own_program.expect_trusted(wish.command)
    facts = Facts(lxd=lxd_facts, host=host)
    found = target(facts, wish, state, unit_files.shipped())
    hands = {**host_hands(wish), **(lxd_hands(reached[0]) if reached else {})}
    remarks = (*found.remarks, *_plain_http(found.endpoint))
    steps = plan(found.items, look(found.items, hands), state, remarks)
    return Prepared(facts=facts, target=found, plan=steps, hands=hands)


def _plain_http(endpoint: Endpoint) -> Iterator[str]:
    """Say so where LXD would wait long for plain HTTP, which it asks for before each file."""
    host, _ = endpoint.host_and_port
    if urlsplit(endpoint.url).port is None and plain_port(host) == "dropped":
        yield (
            f"a firewall drops port 80 of {host}: LXD tries it before each file and waits for minutes;"
            " let it refuse the port, or give a --url with a port"
        )


def bench(prepared: Prepared, lxd: Lxd, wish: Wish, settings: Settings, here: Platform) -> Bench:
    """Return what the self-test works with."""
    serve, endpoint = prepared.facts.host.settings, prepared.target.endpoint
    flags = ["--tls-dir", str(serve.tls_dir)]
    certificate = ""
    if serve.key and serve.cert:
        flags = ["--key", str(serve.key), "--cert", str(serve.cert)]
    else:
        certificate = read_text(serve.tls_dir / "ca.crt") or ""
    for name in endpoint.names:
        flags += ["--name", name]
    asked = bool(settings.registries.of("docker.io").mirrors) or answers(*_REGISTRY)
    return Bench(
        lxd=lxd,
        work=Places.of(wish).self_test,
        command=wish.command,
        url=endpoint.url,
        host_and_port=endpoint.host_and_port,
        addresses=endpoint.addresses,
        tls_flags=tuple(flags),
        certificate=certificate,
        platform=here,
        registries=settings.registries if asked else None,
    )


def can_launch(lxd: Lxd) -> bool:
    """Whether the default profile says where an instance's root filesystem goes."""
    devices = lxd.profiles.get("default").devices.values()
    return any(device.get("path") == "/" for device in devices)


def clients_of(wish: Wish, packaging: str) -> tuple[ClientFacts, ...]:
    """Return the client configurations to write. Raises LxdockerError."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    return looking.clients(wish, Accounts(wish.root), packaging, os.environ, me)


def runs_systemd(wish: Wish) -> bool:
    """Whether systemd manages the machine that is set up."""
    return wish.root == ROOT and systemd.RUNNING.is_dir()


def host_hands(wish: Wish) -> Mapping[str, Hand]:
    """Return the hands for what the machine has beside LXD."""
    accounts = Accounts(wish.root)
    units = systemd.Units()
    here = wish.root == ROOT
    return {
        "user": accounts,
        "directory": Directories(accounts),
        "file": Files(accounts),
        "key-group": KeyGroups(accounts),
        "unit-file": Files(accounts, units.changed if here else None),
        "unit": units,
        "copy": Copies(accounts),
        "trust": Copies(accounts, system_trust.refresh if here else None),
        "remote": Remotes(accounts),
        "hosts-line": HostsLines(),
        "authority": Authorities(
            accounts=accounts, now=partial(datetime.now, UTC), host_names=this_host.server_names
        ),
    }


def lxd_hands(lxd: Lxd, contained: Contained | None = None) -> Mapping[str, Hand]:
    """Return the hands for what LXD has; ``contained`` is the container that is to be made."""
    return {
        "base-image": BaseImages(lxd),
        "container-volume": ContainerVolumes(lxd),
        "container": Containers(lxd, contained),
        "container-power": Powers(lxd),
        "container-program": Installations(lxd),
        "container-server": Servers(lxd),
        "container-authority": ContainerAuthorities(lxd),
        "pool": PoolHand(lxd),
        "network": NetworkHand(lxd),
        "profile-device": ProfileDeviceHand(lxd),
        "server-key": ServerKeyHand(lxd),
    }
