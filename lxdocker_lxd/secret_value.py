"""What looks like a secret: the one rule for catalogue, pages, images and the updater's messages. Pure.

It is a guess by names, and by the shape of a value: wide enough that passwords of compose files are
found, and no promise that all are.
"""

import re
from collections.abc import Mapping

from lxdocker_lxd.catalogue import Json

HIDDEN = "[hidden]"
SECRET_WORDS = (
    r"passw|passphrase|secret|token|credential|(?:api|access|private|encryption)[._-]?key"  # noqa: S105 - a pattern
    r"|(?<![a-z])pass(?![a-z])|(?<=[._-])pwd(?![a-z])"
)
"""What the name of a secret has in it, as a pattern that ignores case."""
_WORDS = re.compile(SECRET_WORDS, re.IGNORECASE)
# The value is then the path of a file that holds it, as images of Docker's library have it.
_FILE_NAME = re.compile(r"[._-]file\Z", re.IGNORECASE)
_VALUE = re.compile(
    r"[a-z][a-z0-9+.-]{0,40}://[^\s/?#@:]{0,400}:[^\s/?#@]{1,400}@"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----",
    re.IGNORECASE,
)


def looks_secret(name: str, value: str = "") -> bool:
    """Whether a setting or variable may be a secret by its name, or by its value.

    Values that tell are URLs with a password, and private keys. ``DB_PASSWORD_FILE`` names a place.
    """
    if _VALUE.search(value):
        return True
    return bool(_WORDS.search(name)) and not _FILE_NAME.search(name)


def told(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return an OCI image's ``config`` as everybody may read it.

    Of an entry of ``Env`` that looks like a secret only the name is left, without ``=``. An empty value
    is none that anybody must not know.
    """
    env = config.get("Env")
    if not isinstance(env, list):
        return dict(config)
    return {**config, "Env": [_told(entry) for entry in env if isinstance(entry, str)]}


def _told(entry: str) -> str:
    name, _, value = entry.partition("=")
    return name if value and looks_secret(name, value) else entry
