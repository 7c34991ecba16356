"""Bodies of messages as their receivers want them: text with ``$names``. Pure.

Nothing is evaluated: a name stands for one of a message's fields and nothing else, ``$$`` for a
dollar sign. In a JSON body each text is escaped so that it can't end the string it stands in; a
template whose result could be anything but JSON is refused when it is read.
"""

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.update.notification import Message, Severity, Topic, document_of, json_of

JSON = "application/json"
PRIORITIES = {Severity.INFO: 3, Severity.WARNING: 4, Severity.ERROR: 5}
_MOST_CHARACTERS = 1 << 14


class TemplateError(UsageError):
    """A template with an unknown name, or one that makes no JSON."""


class _Words(string.Template):
    idpattern = r"[a-z][a-z_]*"
    flags = re.ASCII


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyTemplate:
    """A checked template; without ``pattern`` the body is the whole message as JSON."""

    pattern: str = ""
    content_type: str = JSON

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, so that what is put in gets escaped for it."""
        kind = self.content_type.partition(";")[0].strip().lower()
        return kind == JSON or kind.endswith("+json")

    def render(self, message: Message) -> bytes:
        """Return the body, encoded in UTF-8."""
        if not self.pattern:
            return json_of(message).encode()
        return _Words(self.pattern).substitute(self._words(message)).encode("utf-8", "replace")

    def _words(self, message: Message) -> Mapping[str, str]:
        return {
            key: _inside(value) if self.is_json or not isinstance(value, str) else value
            for key, value in _values(message).items()
        }


def template_of(pattern: str, content_type: str = JSON) -> BodyTemplate:
    """Return the checked template; raise TemplateError."""
    if len(pattern) > _MOST_CHARACTERS:
        raise TemplateError(f"a body of more than {_MOST_CHARACTERS} characters")
    template = BodyTemplate(pattern=pattern, content_type=content_type)
    if not pattern:
        return template
    words = _Words(pattern)
    known = sorted(_values(_SAMPLES[0]))
    hint = "known names: " + ", ".join(known) + "; a dollar sign is $$"
    if not words.is_valid():
        raise TemplateError("a $ that begins no name", hint=hint)
    unknown = sorted(set(words.get_identifiers()) - set(known))
    if unknown:
        raise TemplateError(f"unknown name ${unknown[0]}", hint=hint)
    if template.is_json:
        for sample in _SAMPLES:
            _expect_json(template.render(sample))
    return template


def _expect_json(body: bytes) -> None:
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TemplateError(
            f"the body is no JSON: {error}",
            hint='texts stand in quotes, as in {"text": "$title"}; or set another content_type',
        ) from error


def _values(message: Message) -> dict[str, object]:
    return document_of(message) | {"priority": PRIORITIES[message.severity]}


def _inside(value: object) -> str:
    """Return a value as it stands inside a JSON document; texts without their quotes."""
    encoded = json.dumps(value, ensure_ascii=True)
    return encoded[1:-1] if isinstance(value, str) else encoded


_PLAIN = Message(
    id="id",
    at=datetime(2000, 1, 1, tzinfo=UTC),
    topic=Topic.TEST,
    severity=Severity.INFO,
    host="host",
    title="",
)
# The second would break out of a string, or out of quotes that a template forgot.
_SAMPLES = (
    _PLAIN,
    Message(
        id='"',
        at=_PLAIN.at,
        topic=Topic.PROBLEM,
        severity=Severity.ERROR,
        host='\\"',
        title='x"\\\n\t{}[],:',
        project="1",
        name="null",
        running="'",
        fingerprint="$text",
        reason="\u2028é\U0001f40b",
        transaction="}",
        outage_seconds=1.5,
    ),
)
