"""Variables for an instance, as ``docker run`` takes them: ``--env`` and ``--env-file``.

Pure. A name without ``=`` takes the caller's own variable, and nothing where there is none. Lines
of a file that are empty or begin with ``#`` don't count; quotes are part of the value, as in Docker.
No message ever repeats a value.

LXD takes an empty value for no value, and what starts an instance strips blanks at a value's end: one
blank is what an empty value is kept as.
"""

from collections.abc import Iterable, Mapping

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.spec_values import variable_name

PREFIX = "environment."
_BLANKS = " \t"


def variables(
    files: Iterable[tuple[str, str]], given: Iterable[str], caller: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the variables by name: those of ``files`` (name and text), then ``given``.

    Raises UsageError for a name that is none, and for a value that LXD can't hold.
    """
    found: dict[str, str] = {}
    for file, text in files:
        # Other characters that end lines elsewhere are part of a value.
        lines = text.removeprefix("\ufeff").split("\n")
        for number, line in enumerate(lines, start=1):
            stripped = line.lstrip().removesuffix("\r")
            if stripped and not stripped.startswith("#"):
                _add(found, stripped, caller, where=f"{file}:{number}")
    for item in given:
        _add(found, item, caller, where="--env")
    return found


def _add(found: dict[str, str], item: str, caller: Mapping[str, str], *, where: str) -> None:
    name, equals, value = item.partition("=")
    try:
        variable_name(name)
    except ValueError as error:
        raise UsageError(f"{where}: {error}", hint="write NAME=VALUE") from error
    if any(character.isspace() for character in name):
        raise UsageError(f"{where}: the name {name!r} holds a blank", hint="write NAME=VALUE")
    if not equals:
        if name not in caller:
            return
        value = caller[name]
    if "\n" in value or "\r" in value or "\0" in value:
        raise UsageError(
            f"{where}: the value of {name} has several lines, which LXD can't hold",
            hint="put it into a file inside the instance and name that by LXDOCKER_ENVFILE",
        )
    if not _is_text(name + value):
        raise UsageError(
            f"{where}: the value of {name!a} is not UTF-8 text, and LXD holds nothing else",
            hint="put it into a file inside the instance and name that by LXDOCKER_ENVFILE",
        )
    found[name] = value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_config(found: Mapping[str, str]) -> Mapping[str, str]:
    """Return the instance keys of these variables."""
    return {f"{PREFIX}{name}": value or " " for name, value in found.items()}


def trimmed(config: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of variables whose values an instance sees without the blanks at their end."""
    keys = (key for key in config if key.startswith(PREFIX) and config[key].strip(_BLANKS))
    return tuple(key.removeprefix(PREFIX) for key in keys if config[key][-1] in _BLANKS)
