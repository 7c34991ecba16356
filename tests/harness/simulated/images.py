"""Images of the simulated LXD and their names: the ports ``Images`` and ``Aliases``."""

import hashlib
import io
import tarfile
from dataclasses import replace

import yaml

from lxdocker_lxd.lxd.calls import ImageUpload, ProjectImage, TransferStep
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    ChangedMeanwhileError,
    FingerprintMismatchError,
    ImageExistsError,
    NameTakenError,
    RefusedError,
)
from lxdocker_lxd.lxd.image_ports import OnTransfer
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Alias, Image, UpdateSource
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.image_server import ImageServers
from tests.harness.simulated.store import Store


def _etag(image: Image) -> str:
    covered = (image.public, image.auto_update, sorted(image.properties.items()), image.profiles)
    return hashlib.sha256(repr((covered, image.expires_at)).encode()).hexdigest()


class SimulatedImages:
    """Implements the port ``Images``."""

    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log
        self._servers = ImageServers(store)

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Image, ...]:
        def act() -> tuple[Image, ...]:
            owner = self._store.owner(project, "images")
            held = self._store.images.values()
            return tuple(
                replace(self._record(image), etag="") for image in held if image.project == owner
            )

        return self._log.made("images.list", project, act)

    def get(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> Image:
        return self._log.made(
            "images.get", fingerprint, lambda: self._record(self._held(fingerprint, project))
        )

    def _held(self, fingerprint: str, project: str) -> Image:
        key = (self._store.owner(project, "images"), fingerprint)
        if key not in self._store.images:
            raise AbsentError(f"image {fingerprint[:12]} of {project}: not found", hint="list them")
        return self._store.images[key]

    def _record(self, image: Image) -> Image:
        names = tuple(
            name
            for (project, name), (target, _) in sorted(self._store.aliases.items())
            if (project, target) == (image.project, image.fingerprint)
        )
        return replace(image, aliases=names, etag=_etag(image))

    def upload(
        self,
        upload: ImageUpload,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",  # noqa: ARG002 - every member gets the image
        on_transfer: OnTransfer | None = None,
    ) -> str:
        def act() -> str:
            # LXD looks for the project before it reads the body.
            self._store.owner(project, "images")
            root = io.BytesIO()
            for piece in upload.rootfs:
                root.write(piece)
                if on_transfer is not None:
                    done, total = root.tell(), upload.rootfs_size_bytes
                    on_transfer(TransferStep(stage="upload", done_bytes=done, total_bytes=total))
            return self._stored(upload, root.getvalue(), project)

        return self._log.made("images.upload", upload.filename, act, writes=True)

    def _stored(self, upload: ImageUpload, root: bytes, project: str) -> str:
        fingerprint = hashlib.sha256(upload.metadata + root).hexdigest()
        if upload.fingerprint and upload.fingerprint != fingerprint:
            raise FingerprintMismatchError(f"{upload.filename}: fingerprints don't match")
        owner = self._store.owner(project, "images")
        if (owner, fingerprint) in self._store.images:
            raise ImageExistsError(
                "Image with same fingerprint already exists", fingerprint=fingerprint
            )
        architecture, properties = _metadata(upload.metadata)
        self._store.image_files[fingerprint] = _files(root)
        now = self._store.clock()
        self._store.images[owner, fingerprint] = Image(
            fingerprint=fingerprint,
            project=owner,
            type="virtual-machine" if upload.virtual_machine else "container",
            architecture=architecture,
            size_bytes=len(upload.metadata) + len(root),
            filename=upload.filename,
            public=upload.public,
            profiles=("default",),
            properties={**properties, **upload.properties},
            uploaded_at=now,
            created_at=now,
        )
        self._store.emit("image-created", "image", fingerprint, owner)
        return fingerprint

    def pull(
        self,
        source: UpdateSource,
        *,
        project: str = DEFAULT_PROJECT,
        auto_update: bool = True,
        public: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> str:
        def act() -> str:
            owner = self._store.owner(project, "images")
            if on_transfer is not None:
                on_transfer(TransferStep(stage="rootfs", percent=100))
            held = set(self._store.images)
            found = self._servers.fetch(
                source, owner, cached=False, auto_update=auto_update, public=public
            )
            if (owner, found) in held:
                # LXD tells of it as of a new one, and leaves a cached one cached.
                self._store.emit("image-created", "image", found, owner)
            return found

        return self._log.made("images.pull", source.alias, act, writes=True)

    def refresh(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> str:
        def act() -> str:
            image = self._held(fingerprint, project)
            if image.update_source is None:
                raise RefusedError(
                    f"could not refresh {fingerprint[:12]}: Image has no update source"
                )
            found = self._servers.renew(image, by="root")
            if found != fingerprint:
                self._store.emit("image-refreshed", "image", fingerprint, image.project)
            return found

        return self._log.made("images.refresh", fingerprint, act, writes=True)

    def copy(self, source: ProjectImage, *, project: str) -> str:
        def act() -> str:
            image = self._held(source.fingerprint, source.project)
            owner = self._store.owner(project, "images")
            if (owner, image.fingerprint) in self._store.images:
                raise ImageExistsError(
                    "Image with same fingerprint already exists", fingerprint=image.fingerprint
                )
            self._store.images[owner, image.fingerprint] = replace(
                image, project=owner, cached=False, auto_update=False, update_source=None
            )
            self._store.emit("image-created", "image", image.fingerprint, owner)
            return image.fingerprint

        return self._log.made("images.copy", source.fingerprint, act, writes=True)

    def edit(self, image: Image, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            held = self._held(image.fingerprint, project)
            if image.etag and image.etag != _etag(held):
                raise ChangedMeanwhileError(f"image {image.fingerprint[:12]}: ETag doesn't match")
            self._store.images[held.project, held.fingerprint] = replace(
                held,
                public=image.public,
                auto_update=image.auto_update,
                properties=dict(image.properties),
                profiles=image.profiles,
                expires_at=image.expires_at or held.expires_at,
            )
            self._store.emit("image-updated", "image", held.fingerprint, held.project)

        self._log.made("images.edit", image.fingerprint, act, writes=True)

    def delete(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            image = self._held(fingerprint, project)
            for key, (target, _) in list(self._store.aliases.items()):
                if (key[0], target) == (image.project, fingerprint):
                    del self._store.aliases[key]
            del self._store.images[image.project, fingerprint]
            self._store.emit("image-deleted", "image", fingerprint, image.project)

        self._log.made("images.delete", fingerprint, act, writes=True)


def _metadata(tarball: bytes) -> tuple[str, dict[str, str]]:
    """Architecture and properties."""
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        member = archive.extractfile("metadata.yaml")
        assert member is not None
        document = yaml.safe_load(member.read())
    return str(document["architecture"]), dict(document.get("properties") or {})


def _files(root: bytes) -> dict[str, bytes]:
    """A tar's files; other root filesystems are opaque here."""
    try:
        with tarfile.open(fileobj=io.BytesIO(root)) as archive:
            return {
                f"/{member.name.strip('./')}": stream.read()
                for member in archive
                if (stream := archive.extractfile(member)) is not None
            }
    except tarfile.TarError:
        return {}


class SimulatedAliases:
    """Implements the port ``Aliases``."""

    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Alias, ...]:
        def act() -> tuple[Alias, ...]:
            owner = self._store.owner(project, "images")
            names = [name for where, name in sorted(self._store.aliases) if where == owner]
            return tuple(replace(self._record(name, project), etag="") for name in names)

        return self._log.made("aliases.list", project, act)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Alias:
        return self._log.made("aliases.get", name, lambda: self._record(name, project))

    def _key(self, name: str, project: str) -> tuple[str, str]:
        key = (self._store.owner(project, "images"), name)
        if key not in self._store.aliases:
            raise AbsentError(f"image alias {name!r} of {project}: not found", hint="list them")
        return key

    def _record(self, name: str, project: str) -> Alias:
        key = self._key(name, project)
        target, description = self._store.aliases[key]
        return Alias(
            name=name,
            fingerprint=target,
            project=project,
            type=self._store.images[key[0], target].type,
            description=description,
            etag=hashlib.sha256(f"{name} {target} {description}".encode()).hexdigest(),
        )

    def create(
        self, name: str, fingerprint: str, *, project: str = DEFAULT_PROJECT, description: str = ""
    ) -> None:
        def act() -> None:
            owner = self._store.owner(project, "images")
            if (owner, name) in self._store.aliases:
                raise NameTakenError(f"Alias {name!r} already exists", hint="choose another")
            self._point(name, fingerprint, project, description)
            self._store.emit("image-alias-created", "image-alias", name, owner, target=fingerprint)

        self._log.made("aliases.create", name, act, writes=True)

    def _point(self, name: str, fingerprint: str, project: str, description: str) -> None:
        owner = self._store.owner(project, "images")
        if (owner, fingerprint) not in self._store.images:
            raise AbsentError(f"image {fingerprint[:12]}: not found", hint="list them")
        self._store.aliases[owner, name] = (fingerprint, description)

    def move(self, alias: Alias, fingerprint: str) -> None:
        def act() -> None:
            held = self._record(alias.name, alias.project)
            if alias.etag and alias.etag != held.etag:
                raise ChangedMeanwhileError(
                    f"alias {alias.name!r}: ETag doesn't match", hint="again"
                )
            self._point(alias.name, fingerprint, alias.project, alias.description)
            owner = self._store.owner(alias.project, "images")
            self._store.emit(
                "image-alias-updated", "image-alias", alias.name, owner, target=fingerprint
            )

        self._log.made("aliases.move", alias.name, act, writes=True)

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            key = self._key(name, project)
            if (key[0], new_name) in self._store.aliases:
                raise NameTakenError(f"Alias {new_name!r} already exists", hint="choose another")
            self._store.aliases[key[0], new_name] = self._store.aliases.pop(key)
            self._store.emit("image-alias-renamed", "image-alias", new_name, key[0], old_name=name)

        self._log.made("aliases.rename", name, act, writes=True)

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            key = self._key(name, project)
            del self._store.aliases[key]
            self._store.emit("image-alias-deleted", "image-alias", name, key[0])

        self._log.made("aliases.delete", name, act, writes=True)
