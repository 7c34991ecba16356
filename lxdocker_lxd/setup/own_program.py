"""Our program as root's units start it: its command line, and that only root can change what runs then."""

import sys
from collections.abc import Iterator
from pathlib import Path

import lxdocker_lxd
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.trusted_path import UntrustedFileError, check_trusted, check_trusted_trees

_PROGRAM = "lxdocker-lxd"
_HINT = """install it where only root can write, from its sources, and run setup from there:
  sudo python3 -m venv /opt/lxdocker-lxd && sudo /opt/lxdocker-lxd/bin/pip install .
  sudo /opt/lxdocker-lxd/bin/lxdocker-lxd setup"""


def command() -> tuple[str, ...]:
    """Return how a unit starts this program."""
    for program in (Path(sys.argv[0]), Path(sys.executable).with_name(_PROGRAM)):
        if program.name == _PROGRAM and program.is_file():
            return (str(program.absolute()),)
    return (sys.executable, "-m", "lxdocker_lxd")


def expect_trusted(words: tuple[str, ...]) -> None:
    """Raise UsageError unless only root can change what a unit would run with this command.

    That is the program, its interpreter, and every directory that modules come from. Whoever could change
    one of them would be root when the unit starts next.
    """
    try:
        for program in (Path(words[0]), Path(sys.executable)):
            check_trusted(program, executable=True)
        places = dict.fromkeys(_module_directories())
        check_trusted_trees(place for place in places if place.is_absolute())
    except UntrustedFileError as error:
        raise UsageError(
            f"write units in which root starts {words[0]}: {error.message}", hint=_HINT
        ) from error


def _module_directories() -> Iterator[Path]:
    """Yield this package, where modules came from, and where Python would look for others."""
    yield Path(lxdocker_lxd.__file__).parent
    # Says where the standard library is.
    yield Path(sys.prefix) / "pyvenv.cfg"
    for name, module in tuple(sys.modules.items()):
        if "." not in name and (file := getattr(module, "__file__", None)):
            place = Path(file)
            yield place.parent.parent if place.stem == "__init__" else place.parent
    # A unit has a working directory of its own.
    here = Path.cwd()
    yield from (
        Path(place) for place in sys.path if Path(place).is_absolute() and Path(place) != here
    )
