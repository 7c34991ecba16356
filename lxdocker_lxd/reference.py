"""Image references and the other places an image can come from.

Grammar (distribution/reference)::

    reference        := name [":" tag] ["@" digest]
    name             := [registry "/"] path
    registry         := host [":" port]
    host             := component ("." component)* | "[" IPv6 "]"
    component        := letters, digits and inner hyphens
    path             := path-component ("/" path-component)*       (at most 255 characters)
    path-component   := [a-z0-9]+ (separator [a-z0-9]+)*
    separator        := "." | "_" | "__" | "-"+
    tag              := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}

Normalisation: the first component is a registry only if it holds ``.``, ``:`` or an upper-case
letter or is ``localhost``; otherwise the registry is ``docker.io`` (``index.docker.io`` is the same
one). A single component on docker.io lives in ``library/``. Neither tag nor digest means
``:latest``. With both, the digest decides and the tag is kept for display.

Sources beside a registry are written ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]`` and
``docker-archive:FILE[:TAG]``; the tag follows the first colon, so tags may hold colons themselves.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self, cast

from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import UsageError

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
OFFICIAL_NAMESPACE = "library/"
PATH_LENGTH_LIMIT = 255
# No host name (253), path, tag and digest are longer together.
LENGTH_LIMIT = 1024

_LEGACY_REGISTRY = "index.docker.io"
_HOST_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(
    rf"(?:{_HOST_COMPONENT}(?:\.{_HOST_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_PATH_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SHOWN_CHARACTERS = 160

ArchiveKind = Literal["oci-archive", "docker-archive"]


class InvalidReferenceError(UsageError):
    """Text that is no image reference; the message names the one rule it breaks."""

    def __init__(self, text: str, rule: str, *, hint: str = "") -> None:
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
        super().__init__(
            f"image reference {shown!r}: {rule}",
            hint=hint or "write [registry/]repository[:tag][@digest], for example nginx:1.27",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A normalised image reference; ``parse(str(reference)) == reference``."""

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference ``text`` means; raise InvalidReferenceError."""
        _check_characters(text)
        name, at, digest_text = text.partition("@")
        digest = _parse_digest(text, digest_text) if at else None
        registry, rest = _split_registry(name)
        path, colon, tag = rest.partition(":")
        if not name:
            raise InvalidReferenceError(text, "the repository name is missing")
        if not _REGISTRY.fullmatch(registry):
            raise InvalidReferenceError(
                text, f"{registry!r} is not a registry host name", hint=_registry_hint(registry)
            )
        _check_path(text, path)
        if registry == DEFAULT_REGISTRY and "/" not in path:
            path = OFFICIAL_NAMESPACE + path
        _check_length(text, path)
        if colon:
            _check_tag(text, tag)
        return cls(
            registry=registry,
            repository=path,
            tag=tag if colon else None if digest else DEFAULT_TAG,
            digest=digest,
        )

    @property
    def name(self) -> str:
        """Registry and repository without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form Docker shows: ``nginx:latest``, ``grafana/grafana:10.4``."""
        if self.registry != DEFAULT_REGISTRY:
            return str(self)
        # On docker.io a namespace may look like a host; then only the long form says what is meant.
        if _split_registry(self.repository)[0] != DEFAULT_REGISTRY:
            return str(self)
        namespace, _, rest = self.repository.partition("/")
        official = namespace + "/" == OFFICIAL_NAMESPACE and "/" not in rest
        return (rest if official else self.repository) + self._suffix

    @property
    def selector(self) -> str:
        """What a registry is asked for: the digest if there is one, otherwise the tag."""
        return str(self.digest) if self.digest else self.tag or DEFAULT_TAG

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def __str__(self) -> str:
        return self.name + self._suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSource:
    """An OCI image layout directory, ``oci:DIR[:TAG]``."""

    directory: str
    tag: str | None

    def __str__(self) -> str:
        return f"oci:{_with_tag(self.directory, self.tag)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSource:
    """A tar file holding an image layout or the output of ``docker save``."""

    file: str
    kind: ArchiveKind
    tag: str | None

    def __str__(self) -> str:
        return f"{self.kind}:{_with_tag(self.file, self.tag)}"


ImageSource = Reference | LayoutSource | ArchiveSource


def parse_source(text: str) -> ImageSource:
    """Return the source ``text`` names; ``parse_source(str(source)) == source``.

    The words ``oci:``, ``oci-archive:`` and ``docker-archive:`` win over a repository of that name
    (write ``docker.io/library/oci:1`` for one). Raises UsageError.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in {"oci", "oci-archive", "docker-archive"}:
        return Reference.parse(text)
    path, tagged, tag = rest.partition(":")
    wanted = "a directory" if kind == "oci" else "a file"
    if not path:
        raise UsageError(
            f"image source {text!r}: {wanted} must follow {kind}:",
            hint=f"write {kind}:PATH or {kind}:PATH:TAG",
        )
    if tagged and not tag:
        raise UsageError(
            f"image source {text!r}: a tag must follow the last colon",
            hint=f"write {kind}:{path} for the only image in it, or {kind}:{path}:TAG",
        )
    if "\0" in rest:
        raise UsageError(f"image source {text!r}: a path can't hold a NUL character")
    if kind == "oci":
        return LayoutSource(directory=path, tag=tag or None)
    return ArchiveSource(file=path, kind=cast("ArchiveKind", kind), tag=tag or None)


def _with_tag(path: str, tag: str | None) -> str:
    return path if tag is None else f"{path}:{tag}"


def _check_characters(text: str) -> None:
    if not text:
        raise InvalidReferenceError(text, "it is empty")
    if len(text) > LENGTH_LIMIT:
        raise InvalidReferenceError(
            text, f"it has {len(text)} characters, more than {LENGTH_LIMIT}"
        )
    if scheme := _SCHEME.match(text):
        raise InvalidReferenceError(
            text,
            f"it must not start with {scheme[0]}",
            hint=f"write it without {scheme[0]}",
        )
    for character in text:
        if character.isspace():
            raise InvalidReferenceError(text, "it holds white space")
        if not "!" <= character <= "~":
            raise InvalidReferenceError(text, f"it holds the character {character!r}")
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReferenceError(
            text,
            "64 hexadecimal digits are an image identifier, not a name",
            hint="write repository@sha256:… to name an image by its digest",
        )


def _parse_digest(text: str, digest_text: str) -> Digest:
    if "@" in digest_text:
        raise InvalidReferenceError(text, "it holds more than one @")
    try:
        return Digest.parse(digest_text)
    except UsageError as error:
        raise InvalidReferenceError(text, error.message, hint=error.hint) from error


def _split_registry(name: str) -> tuple[str, str]:
    """Return registry and the rest of ``name``; nothing is checked yet."""
    first, slash, rest = name.partition("/")
    if not slash:
        return DEFAULT_REGISTRY, name
    if first == _LEGACY_REGISTRY:
        return DEFAULT_REGISTRY, rest
    if first == "localhost" or "." in first or ":" in first or first.lower() != first:
        return first, rest
    return DEFAULT_REGISTRY, name


def _registry_hint(registry: str) -> str:
    if registry.lower() != registry and "." not in registry and ":" not in registry:
        return "repository names must be lowercase; with capitals this is read as a host name"
    return "a host name holds letters, digits, hyphens and dots, and an optional :port"


def _check_path(text: str, path: str) -> None:
    if path.lower() != path:
        raise InvalidReferenceError(
            text,
            f"the repository name {path!r} must be lowercase",
            hint=f"try {text.replace(path, path.lower())}",
        )
    for component in path.split("/"):
        if not component:
            raise InvalidReferenceError(
                text, "the repository name has an empty component (a / too many)"
            )
        if _PATH_COMPONENT.fullmatch(component):
            continue
        if stranger := re.search(r"[^a-z0-9._-]", component):
            raise InvalidReferenceError(
                text, f"the repository name can't hold the character {stranger[0]!r}"
            )
        if not component[0].isalnum() or not component[-1].isalnum():
            raise InvalidReferenceError(
                text, f"the component {component!r} must start and end with a letter or digit"
            )
        raise InvalidReferenceError(
            text,
            f"the component {component!r} may separate words only by one dot, one or two"
            " underscores, or hyphens",
        )


def _check_length(text: str, path: str) -> None:
    if len(path) > PATH_LENGTH_LIMIT:
        raise InvalidReferenceError(
            text,
            f"the repository name has {len(path)} characters, more than {PATH_LENGTH_LIMIT}",
        )


def _check_tag(text: str, tag: str) -> None:
    if _TAG.fullmatch(tag):
        return
    if not tag:
        raise InvalidReferenceError(text, "the tag after the colon is empty")
    if stranger := re.search(r"[^A-Za-z0-9_.-]", tag):
        raise InvalidReferenceError(text, f"the tag can't hold the character {stranger[0]!r}")
    if tag[0] in ".-":
        raise InvalidReferenceError(text, "the tag must start with a letter, digit or underscore")
    raise InvalidReferenceError(text, f"the tag has {len(tag)} characters, more than 128")
