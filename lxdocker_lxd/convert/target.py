"""One product a run wants: a specification for one architecture, with all that is packed into it.

Making targets touches the machine (busybox, the packer's version) but neither network nor catalogue.
What several targets share is looked up once.
"""

from dataclasses import dataclass

from lxdocker_lxd.catalogue import RebuildInputs
from lxdocker_lxd.convert.busybox import Busybox, find_busybox
from lxdocker_lxd.convert.guest_scripts import guest_digest
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.packing.settings import PackSettings, pack_settings
from lxdocker_lxd.convert.packing.squashfs import PROGRAM, Mksquashfs
from lxdocker_lxd.convert.packing.tarball import compressor_version
from lxdocker_lxd.convert.rebuild import packer_text
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.convert.spec_directory import LoadedSpec
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One product and its ingredients; ``label`` names it in events and messages."""

    loaded: LoadedSpec
    platform: Platform
    architecture: str
    label: str
    settings: PackSettings
    packer: Mksquashfs | None
    busybox: Busybox
    guest_digest: str
    lxc: bool
    limits: LayerLimits

    @property
    def key(self) -> tuple[str, str]:
        """Name and architecture, as in the catalogue."""
        return self.loaded.spec.name, self.architecture

    def inputs(self, manifest_digest: str) -> RebuildInputs:
        """Return all that decides the bytes of this product made from that manifest."""
        program = compressor_version(self.settings.algorithm)
        if self.packer is not None:
            program = f"{PROGRAM} {self.packer.version}"
        return RebuildInputs(
            manifest_digest=manifest_digest,
            spec_digest=str(self.loaded.digest),
            guest_digest=self.guest_digest,
            packer=packer_text(
                self.settings, program, lxc=compressor_version("xz") if self.lxc else ""
            ),
        )


class Toolbox:
    """What the targets of one run share, found when first needed. For one thread."""

    def __init__(self, options: ConvertOptions) -> None:
        self._options = options
        self._packer: Mksquashfs | LxdockerError | None = None
        self._busybox: dict[str, Busybox | LxdockerError] = {}

    def targets(self, loaded: LoadedSpec) -> tuple[Target | tuple[str, LxdockerError], ...]:
        """Return a specification's targets; an architecture that fails comes with its error."""
        found: list[Target | tuple[str, LxdockerError]] = []
        for platform in loaded.spec.architectures or (self._options.host,):
            architecture = platform.lxd_architecture
            try:
                found.append(self._target(loaded, platform, architecture))
            except LxdockerError as error:
                found.append((architecture, error))
        return tuple(found)

    def _target(self, loaded: LoadedSpec, platform: Platform, architecture: str) -> Target:
        spec = loaded.spec
        settings = pack_settings(self._options.image_format, spec.compression)
        busybox = self._find_busybox(architecture)
        several = len(spec.architectures) > 1
        return Target(
            loaded=loaded,
            platform=platform,
            architecture=architecture,
            label=f"{spec.name}/{architecture}" if several else spec.name,
            settings=settings,
            packer=self._find_packer() if settings.image_format == "squashfs" else None,
            busybox=busybox,
            guest_digest=str(guest_digest(busybox.digest)),
            lxc=self._options.lxc or spec.lxc,
            limits=self._options.limits,
        )

    def _find_packer(self) -> Mksquashfs:
        if self._packer is None:
            try:
                self._packer = Mksquashfs.find()
            except LxdockerError as error:
                self._packer = error
        if isinstance(self._packer, LxdockerError):
            raise self._packer
        return self._packer

    def _find_busybox(self, architecture: str) -> Busybox:
        if architecture not in self._busybox:
            try:
                self._busybox[architecture] = find_busybox(
                    architecture,
                    host_architecture=self._options.host.lxd_architecture,
                    given=self._options.busybox,
                )
            except LxdockerError as error:
                self._busybox[architecture] = error
        found = self._busybox[architecture]
        if isinstance(found, LxdockerError):
            raise found
        return found
