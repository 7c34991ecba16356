"""Platforms in OCI's words, what may stand in for them, and LXD's words for them.

Names are normalised on entry as containerd/platforms does: ``x86_64`` is ``amd64``, ``aarch64`` is
``arm64``, ``armhf`` is ``arm/v7``, ``armel`` is ``arm/v6``; ``amd64/v1`` and ``arm64/v8`` are the
plain architecture, plain ``arm`` is ``arm/v7``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from lxdocker_lxd.errors import UsageError

_WORD = re.compile(r"[A-Za-z0-9_.-]+")

# Other people's names for an architecture, with the variant they imply.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86": ("386", ""),
    "armhf": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv7": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv6": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv5tel": ("arm", "v5"),
    "ppc64el": ("ppc64le", ""),
}
_KNOWN = frozenset(
    {"amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64", "mips64le", "mipsle"}
)
_OPERATING_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd"})
_PLAIN_VARIANTS = {
    ("amd64", "v1"): "",
    ("arm64", "v8"): "",
    ("arm64", "v8.0"): "",
    ("arm64", "v9.0"): "v9",
    ("arm", ""): "v7",
}
# The names simplestreams clients and metadata.yaml use; LXD maps them to kernel architectures.
_LXD_ARCHITECTURES = {
    "amd64": "amd64",
    "arm64": "arm64",
    "386": "i386",
    "ppc64le": "ppc64el",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Platform:
    """Operating system, architecture and variant; build one with ``parse`` or ``normalised``."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``os/arch[/variant]``, ``arch[/variant]`` or a kernel's or Debian's name.

        ``parse(str(platform)) == platform``. Raises UsageError.
        """
        parts = text.split("/")
        if not all(_WORD.fullmatch(part) for part in parts) or len(parts) > 3:  # noqa: PLR2004 - os, architecture, variant
            raise UsageError(
                f"platform {text!r} is not os/architecture[/variant]",
                hint="for example linux/arm64, linux/arm/v7 or amd64",
            )
        if parts[0].lower() in _OPERATING_SYSTEMS and len(parts) > 1:
            return cls.normalised(*parts)
        if len(parts) < 3 and _is_architecture(parts[0]):  # noqa: PLR2004 - architecture, variant
            return cls.normalised("linux", *parts)
        if len(parts) > 1:
            return cls.normalised(*parts)
        raise UsageError(
            f"platform {text!r}: this architecture is not known",
            hint=f"known are {', '.join(sorted(_LXD_ARCHITECTURES.values()))}, armhf and armel",
        )

    @classmethod
    def normalised(cls, os: str, architecture: str, variant: str = "") -> Self:
        """Return the platform these words mean; unknown words are kept, in lower case."""
        name = architecture.lower()
        variant = variant.lower()
        name, implied = _ARCHITECTURES.get(name, (name, ""))
        variant = variant or implied
        if variant[:1].isdigit():
            variant = "v" + variant
        variant = _PLAIN_VARIANTS.get((name, variant), variant)
        return cls(os=os.lower(), architecture=name, variant=variant)

    @property
    def lxd_architecture(self) -> str:
        """LXD's name: ``amd64``, ``arm64``, ``armhf``, ``armel``, ``i386``, …; UsageError if none.

        ``arm/v7`` and ``arm/v8`` are ``armhf``; older 32-bit ARM is ``armel``.
        """
        if self.os == "linux" and self.architecture == "arm":
            return "armel" if self.variant in {"v5", "v6"} else "armhf"
        name = _LXD_ARCHITECTURES.get(self.architecture)
        if self.os != "linux" or name is None:
            raise UsageError(
                f"platform {self}: LXD has no name for it",
                hint="known are linux on amd64, arm64, armhf, armel, i386, ppc64el, s390x, riscv64",
            )
        return name

    def substitutes(self) -> Iterator["Platform"]:
        """Yield the platforms whose images run on this one, the best first, itself included.

        Lower variants come next, then the 32-bit sibling, as in containerd/platforms.
        """
        yield self
        level = _level(self.variant)
        if self.architecture == "amd64":
            for lower in range(level - 1, 1, -1):
                yield self._like("amd64", f"v{lower}")
            if level > 1:
                yield self._like("amd64", "")
            yield self._like("386", "")
        elif self.architecture == "arm64":
            for variant in _lower_arm64(self.variant):
                yield self._like("arm64", variant)
            for lower in range(8, 4, -1):
                yield self._like("arm", f"v{lower}")
        elif self.architecture == "arm":
            for lower in range(level - 1, 4, -1):
                yield self._like("arm", f"v{lower}")

    def _like(self, architecture: str, variant: str) -> "Platform":
        return Platform(os=self.os, architecture=architecture, variant=variant)

    def __str__(self) -> str:
        parts = [self.os, self.architecture, self.variant]
        return "/".join(part for part in parts if part)


class Candidate(Protocol):
    """Anything that may say which platform it is for."""

    @property
    def platform(self) -> Platform | None:
        """The platform, or None when nothing is said."""
        ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


def choose(candidates: Sequence[AnyCandidate], wanted: Platform) -> AnyCandidate | None:
    """Return the candidate that runs best on ``wanted``, or None.

    Of equals the first wins (image-spec, image-index.md). A candidate without a platform is the
    last resort; whoever takes it has to look at the image's own configuration.
    """
    for platform in wanted.substitutes():
        for candidate in candidates:
            if candidate.platform == platform:
                return candidate
    return next((candidate for candidate in candidates if candidate.platform is None), None)


def host_platform(machine: str) -> Platform:
    """Return the platform of a host whose ``uname -m`` is ``machine``; raise UsageError."""
    platform = Platform.normalised("linux", machine)
    platform.lxd_architecture  # noqa: B018 - raises when this host can't be a target
    return platform


def _is_architecture(word: str) -> bool:
    return word.lower() in _ARCHITECTURES or word.lower() in _KNOWN


def _level(variant: str) -> int:
    number = variant.removeprefix("v")
    return int(number) if re.fullmatch(r"[0-9]{1,2}", number) else 0


def _lower_arm64(variant: str) -> Iterator[str]:
    """Yield the variants from v9.x down to plain arm64; v9.n includes v8.(n+5)."""
    match = re.fullmatch(r"v([89])(?:\.([0-9]))?", variant)
    if match is None:
        return
    minor = int(match[2] or 0)
    eights = minor - 1
    if match[1] == "9":
        for lower in range(minor - 1, -1, -1):
            yield f"v9.{lower}" if lower else "v9"
        eights = minor + 5
    for lower in range(eights, 0, -1):
        yield f"v8.{lower}"
    yield ""
