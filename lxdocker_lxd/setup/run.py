"""One run of setup: look, plan, do, or take back. What a person sees is the caller's."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from lxdocker_lxd.lxd.place import Place
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.serve import this_host
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.setup import look as looking
from lxdocker_lxd.setup import system_trust, systemd, unit_files
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.authority import Authorities
from lxdocker_lxd.setup.facts import Facts, HostFacts
from lxdocker_lxd.setup.files import Copies, Directories, Files
from lxdocker_lxd.setup.hand import Hand, Hands, look
from lxdocker_lxd.setup.items import Target, target
from lxdocker_lxd.setup.lxd_hands import NetworkHand, PoolHand, ProfileDeviceHand, ServerKeyHand
from lxdocker_lxd.setup.plan import Plan, plan
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.remotes import Remotes
from lxdocker_lxd.setup.wish import ROOT, Wish

LXD_KINDS = frozenset({"pool", "network", "profile-device", "server-key"})
CERTIFICATE_KINDS = frozenset({"authority", "copy", "trust"})
"""What a renewal of the certificate has to do with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is there, what it shall be, and the way from one to the other."""

    facts: Facts
    target: Target
    plan: Plan
    hands: Hands


def prepare(
    lxd: Lxd, place: Place, wish: Wish, settings: Settings, state: SetupState, *, configured: bool
) -> Prepared:
    """Look and plan; change nothing. Raises LxdockerError."""
    accounts = Accounts(wish.root)
    lxd_facts = looking.lxd_facts(lxd, place)
    at = (lambda path: path) if configured else wish.at
    serve = settings.serve
    host = HostFacts(
        settings=replace(serve, tls_dir=at(serve.tls_dir)),
        specs=at(settings.specs),
        cache=at(settings.cache),
        lxdimages=at(settings.lxdimages),
        configured=configured,
        clients=looking.clients(wish, accounts, lxd_facts.packaging, os.environ, _me()),
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
    facts = Facts(lxd=lxd_facts, host=host)
    found = target(facts, wish, state, unit_files.shipped())
    hands = {**host_hands(wish), **lxd_hands(lxd)}
    steps = plan(found.items, look(found.items, hands), state, found.remarks)
    return Prepared(facts=facts, target=found, plan=steps, hands=hands)


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


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
        "unit-file": Files(accounts, units.changed if here else None),
        "unit": units,
        "copy": Copies(accounts),
        "trust": Copies(accounts, system_trust.refresh if here else None),
        "remote": Remotes(accounts),
        "authority": Authorities(
            accounts=accounts, now=partial(datetime.now, UTC), host_names=this_host.server_names
        ),
    }


def lxd_hands(lxd: Lxd) -> Mapping[str, Hand]:
    """Return the hands for what LXD has."""
    return {
        "pool": PoolHand(lxd),
        "network": NetworkHand(lxd),
        "profile-device": ProfileDeviceHand(lxd),
        "server-key": ServerKeyHand(lxd),
    }
