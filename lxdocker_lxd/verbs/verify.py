"""``lxdocker-lxd verify``: what a tree promises, compared with what it holds."""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lxdocker_lxd.clients.gpg import GpgMissingError
from lxdocker_lxd.clients.remote_address import names_protocol, parse_address
from lxdocker_lxd.clients.signature_check import SignatureChecker, signature_checker
from lxdocker_lxd.clients.tree import Tree, UnreachedError
from lxdocker_lxd.clients.tree_http import HttpTree
from lxdocker_lxd.console import Console, document, human_size, table
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.progress import Progress
from lxdocker_lxd.serve.tree_directory import DirectoryTree
from lxdocker_lxd.serve.verify import VerifyReport, verify
from lxdocker_lxd.serve.verify_chain import verify_chain
from lxdocker_lxd.verbs.progress_listener import progress_listener
from lxdocker_lxd.verbs.surroundings import load_settings
from lxdocker_lxd.verbs.trusted_keys import trust


def run(options: argparse.Namespace, console: Console) -> int:
    """Check the tree, print the findings, return the exit code."""
    settings = load_settings(options)
    with progress_listener(settings.progress, console) as progress:
        if names_protocol(options.target):
            address = parse_address(options.target, what="verify")
            name = address.url
            whom = trust(options.keyring, options.ca)
            report = verify_chain(address, whom, jobs=settings.jobs, progress=progress)
        else:
            report, name = _tree_report(options, settings.jobs, progress)
    console.result(as_json(report) if options.format == "json" else as_table(report))
    wrong = sum(finding.severity == "wrong" for finding in report.findings)
    unreached = sum(finding.severity == "unreached" for finding in report.findings)
    if wrong:
        raise VerificationError(
            f"verify {name}: {wrong} finding{'s' * (wrong != 1)}",
            hint="export or convert again what is damaged; nothing was changed here",
        )
    if unreached:
        raise UnreachedError(
            f"verify {name}: {unreached} documents or files couldn't be read",
            hint="try again later",
        )
    return 0


def _tree_report(
    options: argparse.Namespace, jobs: int, progress: Progress
) -> tuple[VerifyReport, str]:
    """Check one tree; return its name too."""
    keyring = Path(options.keyring) if options.keyring else None
    authorities = Path(options.ca) if options.ca else None
    with _tree(options.target, authorities) as tree, _checker(keyring) as checker:
        report = verify(
            tree, jobs=jobs, checker=checker, strict=keyring is not None, progress=progress
        )
        return report, tree.name


@contextlib.contextmanager
def _tree(target: str, authorities: Path | None) -> Iterator[Tree]:
    if "://" not in target:
        yield DirectoryTree(Path(target))
        return
    with contextlib.closing(HttpTree(target, authorities)) as tree:
        yield tree


@contextlib.contextmanager
def _checker(keyring: Path | None) -> Iterator[SignatureChecker | None]:
    """Yield the checker of signatures; None where gpg is missing and nobody asked for it."""
    with contextlib.ExitStack() as stack:
        try:
            checker = stack.enter_context(signature_checker(keyring))
        except GpgMissingError:
            if keyring is not None:
                raise
            yield None
            return
        yield checker


def as_table(report: VerifyReport) -> str:
    """Return the findings for people, and a last line with the counts."""
    rows = [(finding.severity, finding.path, finding.problem) for finding in report.findings]
    wrong = sum(finding.severity == "wrong" for finding in report.findings)
    counts = (
        f"{report.documents} documents, {report.files} files ({human_size(report.size_bytes)})"
        f" and {report.signatures} signatures checked: {wrong or 'nothing'} wrong\n"
    )
    return (table(("severity", "path", "problem"), rows) + counts) if rows else counts


def as_json(report: VerifyReport) -> str:
    """Return the findings for programs."""
    return document(
        {
            "documents": report.documents,
            "files": report.files,
            "size_bytes": report.size_bytes,
            "signatures": report.signatures,
            "findings": [asdict(finding) for finding in report.findings],
        }
    )
