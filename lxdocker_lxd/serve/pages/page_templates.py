"""The door to Jinja: templates from the package, everything escaped, nothing guessed.

Each text that a template puts out is made legible first and escaped then; an unknown name is an
error. Times and sizes have one form everywhere.
"""

import re
import shlex
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lxdocker_lxd.annotations import web_address
from lxdocker_lxd.serve.pages.legible import legible
from lxdocker_lxd.serve.pages.static_files import STATIC_FILES
from lxdocker_lxd.serve.version_comparison import health_text

_SHORT_DIGITS = 12
_THOUSAND = 1000
_MINUS = "\N{MINUS SIGN}"
_UNITS = ("B", "kB", "MB", "GB", "TB")
_CODE = re.compile(r"`([^`]+)`")


def page(template: str, **values: object) -> bytes:
    """Return the page that ``template`` makes of ``values``: the same bytes for the same values."""
    return _ENVIRONMENT.get_template(template).render(**values).encode()


def size_text(size_bytes: int) -> str:
    """Return a size with a decimal unit, as ``lxdocker-lxd images`` writes sizes."""
    size, unit = float(abs(size_bytes)), 0
    while size >= _THOUSAND and unit < len(_UNITS) - 1:
        size, unit = size / _THOUSAND, unit + 1
    digits = f"{size:.0f}" if unit == 0 else f"{size:.1f}"
    return f"{_MINUS if size_bytes < 0 else ''}{digits}\N{NO-BREAK SPACE}{_UNITS[unit]}"


def size_change_text(size_bytes: int) -> str:
    """Return a difference of sizes with its sign."""
    return f"+{size_text(size_bytes)}" if size_bytes > 0 else size_text(size_bytes)


def short_digest(digest: str) -> str:
    """Return as many digits as people compare, after the algorithm if there is one."""
    algorithm, colon, digits = digest.rpartition(":")
    return f"{algorithm}{colon}{digits[:_SHORT_DIGITS]}"


def time_element(moment: datetime) -> Markup:
    """Return a moment for people and programs, in UTC: pages don't depend on when they are read."""
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M}\N{NO-BREAK SPACE}UTC"
    )


def with_code(text: str) -> Markup:
    """Return our own prose with its `words` in code elements."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _finished(value: Any) -> Any:  # noqa: ANN401 - Jinja hands over whatever a template puts out
    """Make text legible; what a template or a filter has made is already."""
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finished,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters |= {
        "size": size_text,
        "size_change": size_change_text,
        "short": short_digest,
        "moment": time_element,
        "with_code": with_code,
        "web_address": web_address,
        "shell": shlex.join,
        "health": health_text,
    }
    environment.globals["static"] = {name: file.path for name, file in STATIC_FILES.items()}
    return environment


_ENVIRONMENT = _environment()
