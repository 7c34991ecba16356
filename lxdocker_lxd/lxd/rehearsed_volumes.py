"""Volumes of a LXD that only pretends: their snapshots are made and removed in a picture."""

from dataclasses import dataclass

from lxdocker_lxd.lxd import volume_requests
from lxdocker_lxd.lxd.failures import AbsentError, NameTakenError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.rehearsed import OnRequest, not_rehearsed
from lxdocker_lxd.lxd.resources import Volume, VolumeSnapshot


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a volume is."""

    pool: str
    name: str
    project: str
    target: str


class RehearsedVolumes:
    """Implements the port :class:`Volumes`: volumes stay as they are, snapshots come and go."""

    def __init__(self, lxd: Lxd, on_request: OnRequest) -> None:
        self._lxd = lxd
        self._tell = on_request
        self._snapshots: dict[_Place, tuple[VolumeSnapshot, ...]] = {}

    def list(self, pool: str, *, project: str = DEFAULT_PROJECT) -> tuple[Volume, ...]:
        """All custom volumes of a pool."""
        return self._lxd.volumes.list(pool, project=project)

    def get(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> Volume:
        """One volume."""
        return self._lxd.volumes.get(pool, name, project=project, target=target)

    def create(self, volume: Volume, *, target: str = "") -> None:
        """Raise RefusedError: no update makes volumes."""
        del target
        raise not_rehearsed(f"make the volume {volume.name} in pool {volume.pool}")

    def edit(self, volume: Volume) -> None:
        """Raise RefusedError: no update edits volumes."""
        raise not_rehearsed(f"edit the volume {volume.name} of pool {volume.pool}")

    def delete(self, pool: str, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Raise RefusedError: no update deletes volumes."""
        raise not_rehearsed(f"delete the volume {name} of pool {pool} in project {project}")

    # ---- snapshots

    def snapshots(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> tuple[VolumeSnapshot, ...]:
        """The snapshots there are and would be, the oldest first."""
        place = _Place(pool, name, project, target)
        if place not in self._snapshots:
            self._snapshots[place] = self._lxd.volumes.snapshots(
                pool, name, project=project, target=target
            )
        return self._snapshots[place]

    def create_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Note the request, and let the snapshot be there."""
        held = self.snapshots(pool, name, project=project, target=target)
        request = volume_requests.creating_snapshot(pool, name, snapshot, project, target=target)
        if snapshot in {one.name for one in held}:
            raise NameTakenError(f"could not {request.doing}: there is one of that name")
        made = VolumeSnapshot(pool=pool, volume=name, name=snapshot, project=project)
        self._snapshots[_Place(pool, name, project, target)] = (*held, made)
        self._tell(request, None, None)

    def restore_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Note the request."""
        request = volume_requests.restoring_snapshot(pool, name, snapshot, project, target=target)
        self._present(request.doing, _Place(pool, name, project, target), snapshot)
        self._tell(request, None, None)

    def delete_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Note the request, and let the snapshot be gone."""
        request = volume_requests.deleting_snapshot(pool, name, snapshot, project, target=target)
        place = _Place(pool, name, project, target)
        held = self._present(request.doing, place, snapshot)
        self._snapshots[place] = tuple(one for one in held if one.name != snapshot)
        self._tell(request, None, None)

    def _present(self, doing: str, place: _Place, snapshot: str) -> tuple[VolumeSnapshot, ...]:
        held = self.snapshots(place.pool, place.name, project=place.project, target=place.target)
        if snapshot not in {one.name for one in held}:
            raise AbsentError(f"could not {doing}: there is no such snapshot")
        return held
