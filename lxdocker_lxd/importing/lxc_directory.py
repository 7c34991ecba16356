"""The directory where ``lxc`` keeps its remotes and certificates; read, never written.

The first that exists counts: ``LXD_CONF``, Debian's ``~/.config/lxc``, the snap's. Certificates
of servers lie in ``servercerts/NAME.crt``, the client's own in ``client.crt`` and ``client.key``.
"""

from collections.abc import Mapping
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.errors import NotFoundError, UsageError
from lxdocker_lxd.importing.lxc_remotes import LXD_PROTOCOL, LxcRemote, parse_remotes
from lxdocker_lxd.lxd.place import Place, RemotePlace, SocketPlace, find_socket
from lxdocker_lxd.spec_yaml import SpecError

_MOST_CERTIFICATE_BYTES = 1 << 20
_BROKEN_HINT = "correct that line, or move the file away: lxc then makes a new one"


class LxcDirectory:
    """One client's configuration; an empty one where there is none."""

    def __init__(self, directory: Path | None, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self._environment = environment
        self._remotes: Mapping[str, LxcRemote] | None = None

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> "LxcDirectory":
        """Return the configuration of this user's lxc."""
        if named := environment.get("LXD_CONF"):
            return cls(Path(named), environment)
        home = Path(environment.get("HOME", "/"))
        known = (home / ".config/lxc", home / "snap/lxd/common/config")
        found = next((path for path in known if (path / "config.yml").exists()), None)
        return cls(found, environment)

    def remotes(self) -> Mapping[str, LxcRemote]:
        """Return all remotes by name; SpecError names file and line of what is broken in it."""
        if self._remotes is None:
            try:
                self._remotes = parse_remotes(self._text(), file=str(self._file))
            except SpecError as error:
                raise SpecError(error.message, hint=error.hint or _BROKEN_HINT) from error
        return self._remotes

    @property
    def _file(self) -> Path | None:
        return self.directory / "config.yml" if self.directory else None

    def _text(self) -> str:
        if self._file is None:
            return ""
        try:
            return self._file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise storage_error("read", self._file, error) from error

    def remote(self, name: str) -> LxcRemote:
        """Return one remote; NotFoundError when lxc has none of this name."""
        known = self.remotes()
        if name not in known:
            raise NotFoundError(
                f"there is no remote {name!r} in {self._file or 'the configuration of lxc'}",
                hint=f"known are {', '.join(sorted(known))}; `lxc remote add` adds one",
            )
        return known[name]

    def place(self, name: str) -> Place:
        """Return where the LXD named ``name`` is; an empty name is the one of this machine."""
        if not name:
            return find_socket(self._environment)
        remote = self.remote(name)
        if remote.protocol != LXD_PROTOCOL:
            raise UsageError(
                f"the remote {name!r} is an image server ({remote.protocol}), not a LXD",
                hint="name a remote that speaks the protocol lxd",
            )
        if remote.local:
            # Written unix:///PATH, unix:/PATH or, for the usual socket, unix://
            path = remote.address.removeprefix("unix:").strip("/")
            if path:
                return SocketPlace(socket=Path("/", path))
            return find_socket(self._environment)
        assert self.directory is not None  # noqa: S101 - only a file has such remotes
        return RemotePlace(
            url=remote.address,
            client_certificate=self.directory / "client.crt",
            client_key=self.directory / "client.key",
            server_certificate=self._pinned(name),
        )

    def _pinned(self, name: str) -> Path | None:
        if self.directory is None:
            return None
        path = self.directory / "servercerts" / f"{name}.crt"
        return path if path.exists() else None

    def certificate(self, name: str) -> str:
        """Return the PEM text pinned for a remote, empty for none."""
        path = self._pinned(name)
        return "" if path is None else read_certificate(path)


def read_certificate(path: Path) -> str:
    """Return a PEM file's text; raise UsageError for another file, and StorageError."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(_MOST_CERTIFICATE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"the certificate {path} does not exist", hint="name the CA's PEM file"
        ) from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise UsageError(f"{path} holds no certificate in PEM", hint="name the CA's PEM file")
    return text
