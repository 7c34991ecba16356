"""What ``setup`` can be asked to make: a host that serves, one with the server in a container, a server."""

import argparse
import os
from typing import Protocol

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.lxc_directory import LxcDirectory
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.setup import self_test
from lxdocker_lxd.setup.contained_run import prepare_container, prove_container
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.run import Prepared, Reached, bench, can_launch, prepare
from lxdocker_lxd.setup.self_test import OnTick
from lxdocker_lxd.setup.wish import Places, Wish
from lxdocker_lxd.verbs.lxd_address import lxd_place
from lxdocker_lxd.verbs.surroundings import load_settings, this_platform


class Job(Protocol):
    """One kind of machine to make."""

    def prepared(self, state: SetupState) -> Prepared:
        """Look and plan; raise LxdockerError."""
        ...

    def obstacle(self) -> str:
        """Return why it can't be tested; empty when it can."""
        ...

    def test(self, found: Prepared, on_tick: OnTick) -> None:
        """Prove that it works; raise LxdockerError."""
        ...

    def farewell(self, found: Prepared) -> str:
        """Return what a person does next."""
        ...


def job(options: argparse.Namespace, wish: Wish) -> Job:
    """Return what the options ask for; raise UsageError, and what an absent LXD raises."""
    if not wish.lxd:
        _refuse(
            "--no-lxd",
            {
                "--in-container": bool(wish.container),
                "--lxd": bool(options.lxd),
                "--auto-update-interval": wish.update_hours is not None,
            },
        )
        return _Host(options, wish, None)
    if wish.container:
        given = {"--address": bool(wish.addresses), "--url": bool(wish.url)}
        _refuse("--in-container", given | {"--name": bool(wish.names)})
    place = lxd_place(options)
    reached = (open_lxd(place), place)
    return (_InContainer if wish.container else _Host)(options, wish, reached)


def _refuse(flag: str, others: dict[str, bool]) -> None:
    for other, given in others.items():
        if given:
            raise UsageError(f"{flag} and {other} contradict each other", hint="give one of them")


class _Host:
    """The machine itself serves; without a LXD it does nothing else."""

    def __init__(self, options: argparse.Namespace, wish: Wish, reached: Reached | None) -> None:
        self._reached = reached
        self._wish = wish
        config = Places.of(wish).config
        if not options.config and config.exists():
            options.config = str(config)
        self._settings: Settings = load_settings(options)
        self._configured = bool(options.config)

    def prepared(self, state: SetupState) -> Prepared:
        for record in state.records:
            if record.kind == "container-server":
                raise UsageError(
                    f"the image server of this machine lives in the container {record.name}",
                    hint=f"lxdocker-lxd setup --in-container {record.name}, or first setup --undo",
                )
        return prepare(
            self._reached, self._wish, self._settings, state, configured=self._configured
        )

    def obstacle(self) -> str:
        if self._reached is None:
            return "there is no LXD to launch in"
        return "" if can_launch(self._reached[0]) else "LXD's default profile has no root disk"

    def test(self, found: Prepared, on_tick: OnTick) -> None:
        if self._reached is not None:
            lxd, _ = self._reached
            self_test.run(bench(found, lxd, self._wish, self._settings, this_platform()), on_tick)

    def farewell(self, found: Prepared) -> str:
        remote = _remote(found)
        called = f", as remote {remote}" if remote else ""
        launch = f"  lxc launch {remote}:nginx web\n" if remote else ""
        return (
            f"ready: {found.target.endpoint.url}{called}\n\n"
            f"put a specification into {found.facts.host.specs}, as nginx.yaml.example there, then:\n"
            f"  lxdocker-lxd convert\n{launch}"
            "take all of this back: lxdocker-lxd setup --undo\n"
        )


class _InContainer:
    """The server lives in a container of this machine's LXD."""

    def __init__(self, options: argparse.Namespace, wish: Wish, reached: Reached) -> None:
        self._reached = reached
        self._wish = wish
        self._settings: Settings = load_settings(options)

    def prepared(self, state: SetupState) -> Prepared:
        for record in state.records:
            if record.kind == "authority":
                raise UsageError(
                    "this machine is set up to serve images itself", hint="first: setup --undo"
                )
            if record.kind == "container-server" and record.name != self._wish.container:
                raise UsageError(
                    f"the image server of this machine lives in the container {record.name}",
                    hint=f"give --in-container {record.name}, or first setup --undo",
                )
        lxc = LxcDirectory.find(os.environ)
        return prepare_container(self._reached, self._wish, self._settings, state, lxc)

    def obstacle(self) -> str:
        return ""

    def test(self, found: Prepared, on_tick: OnTick) -> None:
        prove_container(found, self._reached, on_tick)

    def farewell(self, found: Prepared) -> str:
        name, remote = self._wish.container, _remote(found)
        return (
            f"ready: {found.target.endpoint.url}, as remote {remote}\n\n"
            f"put a specification into the container {name}, then:\n"
            f"  lxc file push nginx.yaml {name}/etc/lxdocker-lxd/specs/\n"
            f"  lxc exec {name} -- systemctl start lxdocker-lxd-convert\n"
            f"  lxc launch {remote}:nginx web\n"
            "take all of this back: lxdocker-lxd setup --undo\n"
        )


def _remote(found: Prepared) -> str:
    names = (item.name.rpartition("#")[2] for item in found.target.items if item.kind == "remote")
    return next(names, "")
