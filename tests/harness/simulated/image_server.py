"""Image servers as the simulated LXD sees them: with its cache of an hour, and its own updates."""

from dataclasses import replace
from datetime import timedelta

from lxdocker_lxd.lxd.failures import ImageFetchError
from lxdocker_lxd.lxd.records import Image, UpdateSource
from tests.harness.simulated.store import Published, Store

CACHE = timedelta(hours=1)
_EXPIRY_DAYS = 10


class ImageServers:
    """Fetches from what a test has published in ``store.servers``, by alias and type."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self, source: UpdateSource) -> Published:
        """What the alias names, as far as LXD knows: it reads an index at most once an hour."""
        store = self._store
        spelt = source.server.rstrip("/")
        # One tree under many URLs, as our image server has it.
        server = spelt.removesuffix("/.").rstrip("/").partition("/at/")[0]
        cached = store.indexes.get(spelt)
        if cached is None or cached[0] + CACHE <= store.clock():
            if server not in store.servers or not store.reachable(server):
                raise ImageFetchError(
                    f"could not fetch {source.alias} from {server}: connection refused", hint="look"
                )
            cached = (store.clock(), dict(store.servers[server]))
            store.indexes[spelt] = cached
        published = cached[1].get((source.alias, source.image_type))
        if published is None:
            raise ImageFetchError(
                f"could not fetch {source.alias} from {server}: The requested image couldn't be found",
                hint="look what it has",
            )
        if not store.reachable(server):
            raise ImageFetchError(f"could not fetch {source.alias} from {server}: no route")
        return published

    def fetch(
        self,
        source: UpdateSource,
        project: str,
        *,
        cached: bool,
        auto_update: bool = True,
        public: bool = False,
        by: str = "root",
    ) -> str:
        """Bring an image into the store; an image that is there gets the source."""
        store = self._store
        found = self.look(source)
        key = (project, found.fingerprint)
        now = store.clock()
        if key in store.images:
            held = store.images[key]
            store.images[key] = replace(
                held,
                update_source=held.update_source or source,
                auto_update=auto_update,
            )
        else:
            store.images[key] = Image(
                fingerprint=found.fingerprint,
                project=project,
                type=found.type,
                architecture="x86_64",
                size_bytes=found.size_bytes,
                public=public,
                cached=cached,
                auto_update=auto_update,
                profiles=("default",),
                properties=dict(found.properties),
                update_source=source,
                uploaded_at=now,
                created_at=now,
            )
            store.emit("image-created", "image", found.fingerprint, project, by=by)
        return found.fingerprint

    def renew(self, image: Image, *, by: str) -> str:
        """Look for a newer version of one image; its aliases move, the old row goes silently."""
        store = self._store
        source = image.update_source
        if source is None:
            return image.fingerprint
        try:
            fingerprint = self.look(source).fingerprint
            if fingerprint == image.fingerprint:
                return fingerprint
            self.fetch(source, image.project, cached=image.cached, by=by)
        except ImageFetchError:
            return image.fingerprint
        key = (image.project, fingerprint)
        store.images[key] = replace(
            store.images[key], cached=image.cached, last_used_at=image.last_used_at
        )
        for (project, name), (target, description) in list(store.aliases.items()):
            if (project, target) == (image.project, image.fingerprint):
                store.aliases[project, name] = (fingerprint, description)
        del store.images[image.project, image.fingerprint]
        return fingerprint

    def update_all(self) -> None:
        """LXD's hourly task: only ``image-created`` tells of it."""
        for image in list(self._store.images.values()):
            if image.auto_update:
                self.renew(image, by="")

    def prune(self) -> None:
        """LXD's daily task: cached images that no instance was made of for ten days go."""
        store = self._store
        days = int(store.server_config.get("images.remote_cache_expiry", _EXPIRY_DAYS))
        for key, image in list(store.images.items()):
            used = image.last_used_at or image.uploaded_at
            if image.cached and used and used + timedelta(days=days) <= store.clock():
                del store.images[key]
                store.emit("image-deleted", "image", image.fingerprint, image.project, by="")
