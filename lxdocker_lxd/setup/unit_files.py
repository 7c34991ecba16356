"""The units that come with the program."""

from importlib.resources import files


def shipped() -> dict[str, str]:
    """Return their texts by name."""
    return {
        entry.name: entry.read_text("utf-8")
        for entry in files("lxdocker_lxd.setup").joinpath("units").iterdir()
    }
