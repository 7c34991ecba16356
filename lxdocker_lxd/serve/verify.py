"""Checks a whole tree, ours or anyone's: documents, what they promise of files, and signatures.

What a client would get wrong, or lose without a word, is a finding. Checked are simplestreams trees
(``streams/v1/index.json`` and what it leads to, the signed forms too), the indexes of LXC's download
protocol, the registry's documents, and in an exported directory the record of its files.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from lxdocker_lxd.clients.signature_check import SignatureChecker
from lxdocker_lxd.clients.tree import (
    PLAIN_CHARACTERS,
    DamagedError,
    MissingError,
    Tree,
    UnreachedError,
    is_inside,
)
from lxdocker_lxd.json_bounds import check_values
from lxdocker_lxd.progress import Progress, StageStarted
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve import export_record, lxc_rules, stream_rules
from lxdocker_lxd.serve.certificate import CertificateError
from lxdocker_lxd.serve.export_plan import RECORD_PATH, SIGNATURE_SUFFIXES
from lxdocker_lxd.serve.export_record import ExportRecordError
from lxdocker_lxd.serve.file_check import FileCheck
from lxdocker_lxd.serve.finding import Finding, remark, wrong
from lxdocker_lxd.serve.stream_rules import INDEX_PATH, StreamListing
from lxdocker_lxd.serve.tree_signatures import TreeSignatures

REGISTRY_PATH = "1.0/index.json"

_MOST_DOCUMENT_BYTES = 64 << 20
_MOST_VALUES = 1_000_000
_BLOCK_BYTES = 1 << 16
_STREAM_SIGNATURE = ".gpg"
_SIGNATURE = ".asc"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was read, and what is wrong with it. ``signatures`` counts the good ones."""

    documents: int
    files: int
    size_bytes: int
    signatures: int
    findings: tuple[Finding, ...]


def verify(
    tree: Tree,
    *,
    jobs: int,
    checker: SignatureChecker | None,
    strict: bool,
    progress: Progress,
    lxc_only: bool = False,
) -> VerifyReport:
    """Check ``tree``, reading ``jobs`` files at a time.

    ``checker`` is None where signatures can't be checked; with ``strict`` the documents must be
    signed by one of its keys. ``lxc_only`` leaves all but LXC's indexes alone. Raises MissingError when there is no tree, UnreachedError when its
    first document can't be asked for, ToolError and StorageError; all else is a finding.
    """
    return _Verification(tree, checker, progress, strict=strict).report(jobs, lxc_only=lxc_only)


class _Verification:
    def __init__(
        self, tree: Tree, checker: SignatureChecker | None, progress: Progress, *, strict: bool
    ) -> None:
        self._tree = tree
        self._progress = progress
        self._signatures = TreeSignatures(checker, strict, self._document)
        self._files = FileCheck(tree, progress)
        self._found: list[Finding] = []
        self._documents = 0
        self._answered = False

    def report(self, jobs: int, *, lxc_only: bool) -> VerifyReport:
        self._progress.emit(StageStarted(image="verify", stage="documents"))
        roots = () if lxc_only else self._tree.roots() or ("",)
        kinds = [*map(self._streams, roots), self._lxc()]
        kinds += [] if lxc_only else [self._registry()]
        if not any(kinds):
            raise MissingError(
                f"verify {self._tree.name}: neither {INDEX_PATH} nor {lxc_rules.INDEXES[0]} is there",
                hint="name the directory or URL that clients are given as their remote",
            )
        self._record()
        self._unlisted_signatures()
        self._found += self._files.findings(jobs)
        return VerifyReport(
            documents=self._documents,
            files=self._files.files,
            size_bytes=self._files.size_bytes,
            signatures=self._signatures.checked,
            findings=tuple(dict.fromkeys(self._found)),
        )

    # ---- documents

    def _document(self, path: str) -> bytes | None:
        """Return a document, None where there is none; what prevents reading it is a finding."""
        try:
            content = self._read(path, compressed=False)
        except MissingError:
            self._answered = True
            return None
        except DamagedError as error:
            self._found.append(wrong(path, error.message))
            return None
        except UnreachedError as error:
            if not self._answered:
                raise
            finding = Finding(severity="unreached", path=path, problem=error.message)
            self._found.append(finding)
            return None
        self._answered = True
        self._documents += 1
        if not path.endswith(SIGNATURE_SUFFIXES):
            self._twin(path, content)
        return content

    def _read(self, path: str, *, compressed: bool) -> bytes:
        pieces: list[bytes] = []
        left_bytes = _MOST_DOCUMENT_BYTES
        with self._tree.open(path, compressed=compressed) as body:
            while block := body.read(_BLOCK_BYTES):
                pieces.append(block)
                left_bytes -= len(block)
                if left_bytes < 0:
                    raise DamagedError(f"{path}: longer than {_MOST_DOCUMENT_BYTES} bytes")
        return b"".join(pieces)

    def _expected(self, path: str) -> bytes | None:
        """Return a document that another one names; that it is missing is a finding."""
        before = len(self._found)
        content = self._document(path)
        if content is None and len(self._found) == before:
            self._found.append(wrong(path, "it is missing"))
        return content

    def _twin(self, path: str, content: bytes) -> None:
        """Compare a document with the form that clients get who understand gzip: nearly all."""
        try:
            twin = self._read(path, compressed=True)
        except MissingError:
            return
        except DamagedError as error:
            self._found.append(wrong(path, error.message))
        except UnreachedError as error:
            self._found.append(Finding(severity="unreached", path=path, problem=error.message))
        else:
            if twin != content:
                self._found.append(wrong(path, "its gzip form says something else"))

    def _json(self, path: str, content: bytes) -> object:
        """Return the value of a JSON text; None, and a finding, if it is none."""
        try:
            check_values(content, most=_MOST_VALUES)
            value: object = json.loads(content)
        except (ValueError, RecursionError) as error:
            self._found.append(wrong(path, f"no JSON: {str(error)[:200]}"))
            return None
        return value

    # ---- simplestreams

    def _streams(self, root: str) -> bool:
        """Check the tree below ``root``; return whether there is one."""
        path = root + INDEX_PATH
        content = self._document(path)
        if content is None:
            return any(finding.path == path for finding in self._found)
        documents = [(path, content)]
        listing = StreamListing()
        entries, findings = stream_rules.read_index(self._json(path, content), path=INDEX_PATH)
        listing.findings += findings
        values: dict[str, object] = {}
        for entry in entries:
            products = self._expected(root + entry.path)
            if products is None:
                continue
            documents.append((root + entry.path, products))
            values[entry.path] = self._json(root + entry.path, products)
            stream_rules.read_products(values[entry.path], entry, listing)
        listing.findings += listing.conflicts(INDEX_PATH)
        self._found += [replace(one, path=root + one.path) for one in listing.findings]
        self._promise(root, listing)
        self._stream_signatures(root, documents, values)
        return True

    def _promise(self, root: str, listing: StreamListing) -> None:
        for file in listing.files:
            promise = self._files.promise(root + file.path)
            promise.sha256.update(filter(None, (file.sha256,)))
            if file.size_bytes is not None:
                promise.size_bytes.add(file.size_bytes)
        for one in listing.combinations:
            self._files.combine(
                replace(one, metadata=root + one.metadata, rootfs=root + one.rootfs)
            )

    def _stream_signatures(
        self, root: str, documents: list[tuple[str, bytes]], values: dict[str, object]
    ) -> None:
        self._found += self._signatures.group(documents, _STREAM_SIGNATURE)
        path = root + _clear_signed(INDEX_PATH)
        message = self._document(path)
        if message is None:
            detached = self._document(root + INDEX_PATH + _STREAM_SIGNATURE)
            if self._signatures.strict and detached is None:
                self._found.append(wrong(root + INDEX_PATH, "it is not signed"))
            return
        value = self._signed_value(path, message)
        if value is None:
            return
        plain, _ = stream_rules.read_index(self._json(*documents[0]), path=INDEX_PATH)
        signed, findings = stream_rules.read_index(value, path=_clear_signed(INDEX_PATH))
        self._found += [
            replace(one, path=root + one.path) for one in findings if one.severity == "wrong"
        ]
        if {_clear_signed(entry.path): entry.products for entry in plain} != {
            entry.path: entry.products for entry in signed
        }:
            self._found.append(wrong(path, f"it says something else than {INDEX_PATH}"))
        for entry in signed:
            self._signed_products(root, entry.path, values)

    def _signed_products(self, root: str, name: str, values: dict[str, object]) -> None:
        if not name.endswith(".sjson"):
            self._found.append(wrong(root + name, "a signed index leads to an unsigned document"))
            return
        message = self._expected(root + name)
        if message is None:
            return
        plain = name.removesuffix(".sjson") + ".json"
        value = self._signed_value(root + name, message)
        if value is not None and value != values.get(plain):
            self._found.append(wrong(root + name, f"it says something else than {plain}"))

    def _signed_value(self, path: str, message: bytes) -> object:
        content, finding = self._signatures.clear_signed(path, message)
        self._found += [finding] if finding is not None else []
        return self._json(path, content) if content is not None else None

    # ---- LXC

    def _lxc(self) -> bool:
        """Check the indexes of LXC's download protocol; return whether there are any."""
        documents: list[tuple[str, bytes | None]] = []
        for path in lxc_rules.INDEXES:
            content = self._document(path)
            # Some servers answer every question with a page.
            if content is None or content.lstrip().startswith(b"<"):
                continue
            documents.append((path, content))
            listing = lxc_rules.read_index(content, path=path)
            self._found += listing.findings
            for listed in listing.paths:
                self._files.promise(listed).is_xz = True
        if not documents:
            return any(finding.path in lxc_rules.INDEXES for finding in self._found)
        signed = any(self._document(path + _SIGNATURE) is not None for path, _ in documents)
        if self._signatures.strict and not signed:
            self._found.append(wrong(documents[0][0], "it is not signed"))
        files = sorted(self._files.xz_paths()) if signed else []
        self._found += self._signatures.group(
            [*documents, *((path, None) for path in files)], _SIGNATURE
        )
        for path in files:
            self._files.promise(path).signature = self._signatures.file(path, _SIGNATURE)
        return True

    # ---- the registry of 2015, and exports

    def _registry(self) -> bool:
        """Check the registry's index and what it names; return whether there is one."""
        content = self._document(REGISTRY_PATH)
        if content is None or content.lstrip().startswith(b"<"):
            return False
        documents: list[tuple[str, bytes]] = [(REGISTRY_PATH, content)]
        for kind, path in _trusted(self._json(REGISTRY_PATH, content)):
            if not is_inside(path):
                self._found.append(wrong(REGISTRY_PATH, f"{path[:200]!r} leads out of the tree"))
                continue
            named = self._expected(path)
            if named is not None:
                documents.append((path, named))
                if kind == "trusted_certs":
                    self._certificate(path, named)
        self._found += self._signatures.group(documents, _SIGNATURE)
        return True

    def _certificate(self, path: str, content: bytes) -> None:
        try:
            fingerprint = x509.facts(content).fingerprint
        except CertificateError as error:
            self._found.append(wrong(path, error.message))
            return
        if fingerprint != path.rpartition("/")[2]:
            self._found.append(wrong(path, f"it is the certificate {fingerprint}"))

    def _unlisted_signatures(self) -> None:
        """Check what is signed though no document names it: files of earlier builds for LXC."""
        for path, ending in self._tree.signed(SIGNATURE_SUFFIXES):
            check = self._signatures.further(path, ending)
            if check is not None:
                self._files.promise(path).signature = check

    def _record(self) -> None:
        """Promise what the record of an export says, if the tree is one on this machine."""
        if self._tree.is_remote:
            return
        content = self._document(RECORD_PATH)
        if content is None:
            return
        try:
            files = export_record.parse(content, name=RECORD_PATH)
        except ExportRecordError as error:
            self._found.append(wrong(RECORD_PATH, error.message))
            return
        for path, file in files.items():
            if file.sha256 is None or file.size_bytes is None:
                text = "the export that made this tree didn't end: run it again"
                self._found.append(remark(path, text))
            else:
                promise = self._files.promise(quote(path, safe=PLAIN_CHARACTERS))
                promise.sha256.add(file.sha256)
                promise.size_bytes.add(file.size_bytes)


def _clear_signed(path: str) -> str:
    return path.removesuffix(".json") + ".sjson"


def _trusted(document: object) -> Iterator[tuple[str, str]]:
    """Yield the keys and certificates that a registry names, without the slash at the beginning."""
    servers = document.get("servers") if isinstance(document, dict) else None
    for server in servers if isinstance(servers, list) else ():
        for kind in ("trusted_keys", "trusted_certs"):
            paths: Iterable[object] = ()
            if isinstance(server, dict) and isinstance(server.get(kind), list):
                paths = server[kind]
            for path in paths:
                yield kind, str(path).removeprefix("/")
