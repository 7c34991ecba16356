"""``lxdocker-lxd images``: what the catalogue holds, and whether its files are what they should be."""

import argparse
from collections.abc import Iterator

from lxdocker_lxd.catalogue import Catalogue, Product, Version
from lxdocker_lxd.catalogue_directory import CatalogueDirectory, Finding
from lxdocker_lxd.console import Console, document, human_size, table
from lxdocker_lxd.errors import NotFoundError, VerificationError
from lxdocker_lxd.verbs.surroundings import load_settings

_SHORT_DIGITS = 12


def run(options: argparse.Namespace, console: Console) -> int:
    """List the published images, or check their files with ``--verify``."""
    directory = CatalogueDirectory(load_settings(options).lxdimages)
    if not directory.directory.is_dir():
        raise NotFoundError(
            f"list images: {directory.directory} does not exist",
            hint="name the directory with --lxdimages, or run lxdocker-lxd convert first",
        )
    if options.verify:
        return _verify(options, console, directory)
    catalogue = directory.read()
    if options.format == "json":
        console.result(as_json(catalogue, directory))
    else:
        console.result(as_table(catalogue))
    return 0


def as_table(catalogue: Catalogue) -> str:
    """Return one row a version, the newest of each product first."""
    rows = [
        (
            product.name,
            product.architecture,
            version.serial,
            version.fingerprint[:_SHORT_DIGITS],
            human_size(version.size_bytes),
            version.image_format,
            version.source.reference,
        )
        for product, version in _versions(catalogue)
    ]
    return table(("name", "arch", "version", "fingerprint", "size", "format", "source"), rows)


def as_json(catalogue: Catalogue, directory: CatalogueDirectory) -> str:
    """Return every version with the full paths of its files."""
    images = [
        {
            "name": product.name,
            "architecture": product.architecture,
            "aliases": list(product.aliases),
            "description": product.description,
            "serial": version.serial,
            "newest": version is product.newest,
            "fingerprint": version.fingerprint,
            "size_bytes": version.size_bytes,
            "format": version.image_format,
            "compression": version.compression,
            "published_at": version.published_at.isoformat(),
            "source": version.source.reference,
            "manifest_digest": version.source.manifest_digest,
            "files": {file.role: str(directory.path(file).absolute()) for file in version.files},
        }
        for product, version in _versions(catalogue)
    ]
    return document({"images": images})


def _versions(catalogue: Catalogue) -> Iterator[tuple[Product, Version]]:
    for product in catalogue.products:
        for version in reversed(product.versions):
            yield product, version


def _verify(options: argparse.Namespace, console: Console, directory: CatalogueDirectory) -> int:
    findings = directory.verify()
    checked = sum(len(product.versions) for product in directory.read().products)
    if options.format == "json":
        console.result(
            document({"checked": checked, "findings": [_fields(one) for one in findings]})
        )
    else:
        console.result(f"{checked} versions checked, {len(findings)} findings")
    if findings:
        for one in findings:
            console.note(f"error: {one.name}/{one.architecture} {one.serial}: {one.problem}")
        raise VerificationError(
            f"verify {directory.directory}: {len(findings)} files are not what the catalogue says",
            hint="restore them, or remove the product's versions and run convert again",
        )
    return 0


def _fields(finding: Finding) -> dict[str, str]:
    return {
        "name": finding.name,
        "architecture": finding.architecture,
        "serial": finding.serial,
        "problem": finding.problem,
    }
