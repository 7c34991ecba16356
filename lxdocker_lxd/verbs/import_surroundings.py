"""What the commands that import share: settings into options, the catalogue's names, a LXD."""

import argparse
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.image_import import Destination
from lxdocker_lxd.importing.lxc_directory import LxcDirectory, read_certificate
from lxdocker_lxd.importing.lxc_remotes import SIMPLESTREAMS, LxcRemote
from lxdocker_lxd.importing.source_choice import Choice, RemoteChoice, choose
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.verbs.surroundings import this_platform

_SUFFIXES = (".yaml", ".yml")


def convert_options(settings: Settings) -> ConvertOptions:
    """Return what ``convert`` would be asked with these settings."""
    return ConvertOptions(
        specs=settings.specs,
        cache=settings.cache,
        lxdimages=settings.lxdimages,
        host=this_platform(),
        registries=settings.registries,
        image_format=settings.imageformat,
        jobs=settings.jobs,
        versions=settings.versions,
        limits=settings.limits,
        settings_file=settings.file,
    )


def lxc_directory() -> LxcDirectory:
    """Return the configuration of this user's lxc."""
    return LxcDirectory.find(os.environ)


def destination(options: argparse.Namespace, lxc: LxcDirectory) -> Destination:
    """Return the connected LXD and the project that the options name."""
    name = options.target_remote
    project = options.project or (lxc.remote(name).project if name else "") or DEFAULT_PROJECT
    return Destination(lxd=open_lxd(lxc.place(name)), remote=name, project=project)


def chosen(text: str, settings: Settings, lxc: LxcDirectory) -> Choice:
    """Return what ``text`` names here; raises UsageError, and what broken files raise."""
    return choose(
        text,
        specs=_spec_names(settings.specs),
        products=_products(settings.lxdimages),
        remotes=lxc.remotes,
        own_url=settings.serve.url or "",
    )


def from_server(server: str, alias: str, lxc: LxcDirectory) -> RemoteChoice:
    """Return the image ``alias`` of a server, which is a URL or a remote's name."""
    if "://" not in server:
        return RemoteChoice(remote=lxc.remote(server), alias=alias)
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname:
        raise UsageError(
            f"--from {server!r}: LXD pulls images over https only",
            hint="write https://HOST[:PORT], or the name of a remote that lxc knows",
        )
    return RemoteChoice(
        remote=LxcRemote(name="", address=server, protocol=SIMPLESTREAMS), alias=alias
    )


class Certificates:
    """What is trusted for an image server: a file that was given, or what lxc has pinned."""

    def __init__(self, lxc: LxcDirectory, given: str | None) -> None:
        self._lxc = lxc
        self._given = given

    def __call__(self, remote: LxcRemote) -> str:
        """Return the PEM text for a remote, empty for none."""
        if self._given:
            return read_certificate(Path(self._given))
        if remote.name:
            return self._lxc.certificate(remote.name)
        same = (one for one in self._lxc.remotes().values() if one.serves_for(remote.address))
        found = (self._lxc.certificate(one.name) for one in same)
        return next((text for text in found if text), "")


def _spec_names(directory: Path) -> Collection[str]:
    try:
        return {
            path.stem
            for path in directory.iterdir()
            if path.suffix in _SUFFIXES and not path.name.startswith(".")
        }
    except OSError:
        # Nothing can be named there; what needs the directory says why.
        return ()


def _products(directory: Path) -> Mapping[str, str]:
    names: dict[str, str] = {}
    for product in CatalogueDirectory(directory).read().products:
        names.update(dict.fromkeys(product.aliases, product.name))
        names[product.name] = product.name
    return names
