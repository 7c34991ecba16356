"""Trees shaped like registries: one for each registry host and each namespace of Docker Hub.

Pure. LXE makes a remote and an alias out of a pod's image name (``interpretation.py`` holds its
steps), and the lxd client joins a remote's URL with paths; so each name before the first slash
is a tree of its own. ``ghcr.io/a/b:1`` is asked for as ``a/b%1`` in the remote ``ghcr.io``,
``grafana/grafana`` as ``grafana`` in the remote ``grafana``, and behind a host with a port the
colon stays: ``localhost:5000/app:1`` is ``app:1`` in the remote ``localhost%5000``. People write
``docker.io:nginx:1.27`` to lxc; those aliases are there too.

Who gets an alias, when several images could:

* names and tags: the version its product stands for, never an older or a staged one; a source with
  a plain tag before one that is pinned to a digest; then the specification named like the
  repository, then the first by name;
* a repository without a tag: ``latest``, or its only source in the catalogue;
* digests: the newest version that isn't staged, whatever its product stands for by now.
"""

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lxdocker_lxd.catalogue import Catalogue, Product, PublishedFile, Version
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.reference import (
    DEFAULT_REGISTRY,
    DEFAULT_TAG,
    OFFICIAL_NAMESPACE,
    Reference,
    parse_source,
)
from lxdocker_lxd.serve.alias_claims import Claim, settled
from lxdocker_lxd.serve.stream_document import Listing, product_key, stream_files

INDEX_HOST = "index.docker.io"
Standing = Mapping[tuple[str, str], Version]
"""The version each product's aliases stand for, by the product's key."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class View:
    """One registry host's tree, or with ``namespace`` that of one namespace of Docker Hub.

    ``host`` is spelt as in image names, a port included. ``root`` is the tree's path.
    """

    host: str
    namespace: str = ""

    @property
    def root(self) -> str:
        """The tree's prefix, with a slash at its end."""
        return f"lxe/hub/{self.namespace}/" if self.namespace else f"lxe/{self.host}/"

    @property
    def remote(self) -> str:
        """The name LXE derives for the remote, from what stands before the first slash."""
        return self.namespace or self.host.replace(":", "%", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A version in a view, and what it was made from."""

    product: Product
    version: Version
    files: tuple[PublishedFile, PublishedFile]
    reference: Reference


def members(catalogue: Catalogue) -> Mapping[View, Sequence[Member]]:
    """Return every view that has an image, in the order of roots, and what is in it.

    Images from layouts and archives are in none.
    """
    found: defaultdict[View, list[Member]] = defaultdict(list)
    for product in catalogue.products:
        for version in product.versions:
            reference = _registry_reference(version.source.reference)
            files = stream_files(version)
            if reference is None or files is None:
                continue
            member = Member(product=product, version=version, files=files, reference=reference)
            for view in _views_of(reference.registry, reference.repository.partition("/")[0]):
                found[view].append(member)
    return {view: found[view] for view in sorted(found, key=lambda view: view.root)}


def listings(view: View, images: Sequence[Member], standing: Standing) -> Iterator[Listing]:
    """Yield what the stream of ``view`` lists: each of ``images`` once, with its aliases."""
    aliases = settled(_claims(view, images, standing))
    seen: set[str] = set()
    for member in images:
        if member.version.fingerprint not in seen:
            seen.add(member.version.fingerprint)
            key = _key(member, standing)
            yield Listing(
                key=key,
                product=member.product,
                version=member.version,
                files=member.files,
                aliases=aliases.get(key, ()),
            )


@functools.lru_cache(maxsize=1 << 15)
def _registry_reference(text: str) -> Reference | None:
    try:
        source = parse_source(text)
    except UsageError:
        return None
    return source if isinstance(source, Reference) else None


@functools.lru_cache(maxsize=1 << 12)
def _views_of(registry: str, first: str) -> tuple[View, ...]:
    """Return the views of an image: ``first`` is the first part of its repository."""
    if registry != DEFAULT_REGISTRY:
        return (View(host=registry),)
    hosts = (View(host=DEFAULT_REGISTRY), View(host=INDEX_HOST))
    # A namespace that looks like a host is read as one by every reader of names.
    is_host = Reference.parse(f"{first}/x").registry != DEFAULT_REGISTRY
    return hosts if is_host else (*hosts, View(host=DEFAULT_REGISTRY, namespace=first))


def _key(member: Member, standing: Standing) -> str:
    return product_key(
        member.product,
        member.version,
        standing=standing[member.product.key] is member.version,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """A claim before sorting: the least ``rank`` goes first."""

    rank: tuple[object, ...]
    claim: Claim


def _claims(view: View, images: Sequence[Member], standing: Standing) -> Iterator[Claim]:
    """Yield all aliases that images of ``view`` could have, in the order of their right to them."""
    current = [image for image in images if standing[image.product.key] is image.version]
    sources: defaultdict[str, set[Reference]] = defaultdict(set)
    for image in current:
        sources[image.reference.repository].add(image.reference)
    ranked: list[_Ranked] = []
    for image in current:
        only = len(sources[image.reference.repository]) == 1
        ranked.extend(_tag_claims(view, image, _key(image, standing), only=only))
    for image in images:
        if image.version.serial <= standing[image.product.key].serial:
            ranked.extend(_digest_claims(view, image, _key(image, standing)))
    ranked.sort(key=lambda ranking: ranking.rank)
    return (ranking.claim for ranking in ranked)


def _tag_claims(view: View, image: Member, key: str, *, only: bool) -> Iterator[_Ranked]:
    """Yield ``repository``, ``repository%tag`` and ``repository:tag``.

    Deeper names go first: ``a/amd64`` is a repository before it is ``a`` on amd64.
    """
    tag = image.reference.tag
    names = _names(view, image.reference.repository)
    for name in (*names.asked, *names.written):
        rank = (
            0,
            -name.count("/"),
            image.reference.digest is not None,
            *_preference(image),
        )
        if tag == DEFAULT_TAG or only:
            yield _ranked(rank, image, key, name)
        if tag is not None:
            for separator in _separators(view):
                yield _ranked(rank, image, key, f"{name}{separator}{tag}")


def _digest_claims(view: View, image: Member, key: str) -> Iterator[_Ranked]:
    """Yield ``repository@digest`` and ``repository%tag@digest``, for both digests of the image."""
    separator = _separators(view)[0]
    tag = image.reference.tag
    source = image.version.source
    rank = (1, -int(image.version.serial.replace("_", "")), *_preference(image))
    for name in _names(view, image.reference.repository).asked:
        for digest in dict.fromkeys((source.top_digest, source.manifest_digest)):
            yield _ranked(rank, image, key, f"{name}@{digest.replace(':', separator, 1)}")
            if tag is not None:
                yield _ranked(rank, image, key, f"{name}{separator}{tag}@{digest}")


def _ranked(rank: tuple[object, ...], image: Member, key: str, alias: str) -> _Ranked:
    claim = Claim(holder=key, architecture=image.product.architecture, alias=alias)
    return _Ranked(rank=rank, claim=claim)


def _preference(image: Member) -> tuple[bool, str, str]:
    named_alike = image.product.name == image.reference.repository.rpartition("/")[2]
    return not named_alike, image.product.name, image.product.architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """A repository's names in a view: those LXE asks for, and those people write besides."""

    asked: tuple[str, ...]
    written: tuple[str, ...] = ()


@functools.lru_cache(maxsize=1 << 15)
def _names(view: View, repository: str) -> _Names:
    if view.namespace:
        return _Names(asked=(repository.removeprefix(f"{view.namespace}/"),))
    official = repository.removeprefix(OFFICIAL_NAMESPACE)
    if view.host not in {DEFAULT_REGISTRY, INDEX_HOST} or "/" in official:
        return _Names(asked=(repository,))
    # LXE drops "docker.io/library/" as a whole, so it never asks that remote for the long name.
    if view.host == DEFAULT_REGISTRY:
        return _Names(asked=(official,), written=(repository,))
    return _Names(asked=(repository, official))


def _separators(view: View) -> tuple[str, ...]:
    """Return what stands before a tag: as LXE writes it first, then as people do."""
    return (":",) if ":" in view.host else ("%", ":")
