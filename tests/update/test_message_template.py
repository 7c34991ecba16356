"""Templates: a text can't leave its place, and nothing is evaluated."""

import json

import pytest
from hypothesis import given

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.update.message_template import BodyTemplate, template_of
from lxdocker_lxd.update.notification import Message, document_of
from tests.update.messages import MESSAGES, message

ALL = (
    '{"text": "$title: $reason", "n": $priority, "s": $outage_seconds, "all": ["$text",'
    ' "${name}x", "$project", "$fingerprint"], "price": "$$5"}'
)


@given(MESSAGES)
def test_a_json_body_says_exactly_what_the_message_says(message: Message) -> None:
    found = json.loads(template_of(ALL).render(message))
    assert found["text"] == f"{message.title}: {message.reason}"
    assert found["s"] == message.outage_seconds
    assert found["all"] == [message.text, f"{message.name}x", message.project, message.fingerprint]
    assert found["price"] == "$5"


@given(MESSAGES)
def test_without_a_template_the_body_is_the_whole_message(message: Message) -> None:
    assert json.loads(BodyTemplate().render(message)) == document_of(message)


@given(MESSAGES)
def test_a_plain_body_holds_texts_as_they_are(message: Message) -> None:
    body = template_of("Subject: $title\n\n$text", "text/plain").render(message)
    assert body == f"Subject: {message.title}\n\n{message.text}".encode("utf-8", "replace")


def test_a_field_that_looks_like_a_template_stays_a_text() -> None:
    body = template_of("$title", "text/plain").render(message(title="$text ${id} {0} {{x}} %s"))
    assert body == b"$text ${id} {0} {{x}} %s"


@pytest.mark.parametrize(
    ("pattern", "content_type", "complaint"),
    [
        ('{"a": "$titel"}', "application/json", r"unknown name \$titel"),
        ('{"a": "$title.__class__"}', "text/plain", ""),
        ('{"a": "${title.__class__}"}', "text/plain", "begins no name"),
        ('{"a": "${title!r:>999}"}', "text/plain", "begins no name"),
        ("costs 5$", "text/plain", "begins no name"),
        ('{"a": $title}', "application/json", "no JSON"),
        ('{"a": "$title"', "application/json", "no JSON"),
        ("$outage_seconds", "application/json", ""),
        ("[" * 5000, "application/json", "no JSON"),
        ("x" * 20_000, "text/plain", "more than"),
        ('{"a": $title}', "application/vnd.x+json; charset=utf-8", "no JSON"),
        ('{"a": $name}', "application/json", "no JSON"),
        ('{"a": $project}', "application/json", "no JSON"),
    ],
)
def test_templates_are_checked_when_they_are_read(
    pattern: str, content_type: str, complaint: str
) -> None:
    if complaint:
        with pytest.raises(UsageError, match=complaint):
            template_of(pattern, content_type)
    else:
        assert template_of(pattern, content_type).render(message())
