"""The directory of imports: their specifications, their catalogue, their layers, and the records.

specs/NAME.yaml   one for each imported source; a user may edit it, and refresh follows
images/           the catalogue they are converted into
cache/            layers, as ``convert`` keeps them
imports.json      what was imported where
"""

import json
from collections.abc import Callable
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.importing.import_record import ImportRecord, parse, render
from lxdocker_lxd.ownership import expect_closed_for_root

_HEAD = (
    "# Written by lxdocker-lxd import; keys of docs/spec.md may be added, refresh follows them.\n"
)


class ImportDirectory:
    """One directory; safe for several processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def specs(self) -> Path:
        """Specifications of what was imported."""
        return self.directory / "specs"

    @property
    def images(self) -> Path:
        """The catalogue's directory."""
        return self.directory / "images"

    @property
    def cache(self) -> Path:
        """Downloaded layers."""
        return self.directory / "cache"

    @property
    def _document(self) -> Path:
        return self.directory / "imports.json"

    def write_spec(self, name: str, image: str, architecture: str = "") -> bool:
        """Write the specification of an import unless there is one; whether it was written.

        Raises StorageError.
        """
        path = self.specs / f"{name}.yaml"
        expect_closed_for_root(self.specs)
        if path.exists():
            return False
        atomic.make_directory(self.specs)
        atomic.write(path, spec_text(image, architecture).encode())
        return True

    def remove_spec(self, name: str) -> None:
        """Take back the specification of an import that came to nothing."""
        (self.specs / f"{name}.yaml").unlink(missing_ok=True)

    def records(self) -> tuple[ImportRecord, ...]:
        """Return what was imported; raise ImportsError and StorageError."""
        # What it says is done with this user's rights.
        expect_closed_for_root(self.directory)
        try:
            content = self._document.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise atomic.storage_error("read", self._document, error) from error
        return parse(content, file=str(self._document))

    def change(
        self, change: Callable[[tuple[ImportRecord, ...]], tuple[ImportRecord, ...]]
    ) -> None:
        """Replace the records by ``change`` of them, one process at a time."""
        atomic.make_directory(self.directory)
        with atomic.locked(self.directory / ".lock"):
            before = self.records()
            after = change(before)
            if after != before:
                atomic.write(self._document, render(after))


def spec_text(image: str, architecture: str = "") -> str:
    """Return the text of an import's specification."""
    # A JSON text is a YAML text, whatever characters it has.
    lines = f"{_HEAD}image: {json.dumps(image, ensure_ascii=False)}\n"
    return lines + (f"architectures: [{architecture}]\n" if architecture else "")
