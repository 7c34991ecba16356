"""One run over all specifications, as values: what is asked for and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.platform import Platform

ImageFormat = Literal["squashfs", "gzip", "tar"]
Outcome = Literal["built", "unchanged", "failed", "would-build", "removed", "would-remove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """What a run is asked to do.

    ``host``: the platform of specifications without ``architectures``. ``busybox``: static busybox
    programs by LXD architecture, beside the host's own. ``names``: convert only these; empty for
    all. ``jobs``: images pulled, and layers of one image downloaded, at once. ``versions``: how
    many versions of each product to keep at least. ``packer_memory_bytes``: None for a quarter of
    the machine's, at most 512 MiB. ``limits``: how large layers may be. ``settings_file``: the file
    that was named for all of this, for a run as another user.
    """

    specs: Path
    cache: Path
    lxdimages: Path
    host: Platform
    registries: RegistriesSettings
    image_format: ImageFormat = "squashfs"
    jobs: int = 3
    names: tuple[str, ...] = ()
    dry_run: bool = False
    busybox: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    versions: int = 3
    lxc: bool = False
    packer_memory_bytes: int | None = None
    limits: LayerLimits = field(default_factory=LayerLimits)
    settings_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutcome:
    """What came of one product, or of one specification that failed before it had any.

    ``architecture`` is empty in the latter case. ``reason`` says why it was built or removed, or is
    the error's message. ``serial``, ``fingerprint`` and ``size_bytes`` are those of what is
    published now, None where nothing is.
    """

    name: str
    architecture: str
    outcome: Outcome
    reason: str
    serial: str | None = None
    fingerprint: str | None = None
    size_bytes: int | None = None
    seconds: float = 0.0
    error: LxdockerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What came of a run, in order of name and architecture."""

    outcomes: tuple[ImageOutcome, ...]
    freed_bytes: int = 0

    @property
    def exit_code(self) -> int:
        """0 when nothing failed; the common code when everything failed for one kind of reason;
        otherwise 1.
        """
        codes = {outcome.error.exit_code for outcome in self.outcomes if outcome.error}
        if not codes:
            return 0
        alone = all(outcome.error for outcome in self.outcomes)
        return codes.pop() if alone and len(codes) == 1 else 1
