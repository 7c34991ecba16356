"""The updater's section of the settings: mistakes are named, and docs/notifications.md is true."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.settings import Surroundings, load
from lxdocker_lxd.update.enrolment import Poll
from lxdocker_lxd.update.hook import Point
from lxdocker_lxd.update.message_template import template_of
from lxdocker_lxd.update.metrics import Tally, rendered
from lxdocker_lxd.update.notification import Topic
from lxdocker_lxd.update.notify_command import NotifyCommand
from lxdocker_lxd.update.receivers import ping_of, receivers_of
from lxdocker_lxd.update.retention import Retention
from lxdocker_lxd.update.settings import Listen, UpdateSettings
from lxdocker_lxd.update.webhook import Webhook
from tests.update.messages import NOW, message

DOCUMENT = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


def settings(text: str) -> UpdateSettings:
    surroundings = Surroundings(environment={}, home="/root", user_id=0)
    return load(text, file="config.yaml", flags={}, surroundings=surroundings).update


def test_without_the_section_nobody_is_told_and_nothing_listens() -> None:
    for text in ("", "jobs: 1\n", "update:\n", "update: {notify: , hooks: }\n"):
        found = settings(text)
        assert (receivers_of(found), ping_of(found), dict(found.hooks)) == ((), None, {})
        assert (found.metrics, found.runs_programs) == (None, False)


def test_who_looks_at_image_servers_and_how_often() -> None:
    assert (settings("").poll, settings("").poll_interval_seconds) == (Poll.LXD, 60)
    found = settings("update: {poll: remote, poll_interval: 5}\n")
    assert (found.poll, found.poll_interval_seconds) == (Poll.REMOTE, 5)
    for text in ("poll: often", "poll_interval: 4", "poll_interval: 100000"):
        with pytest.raises(UsageError, match="expected"):
            settings(f"update: {{{text}}}\n")


def test_how_long_copies_are_kept_by_project_and_everywhere_else() -> None:
    text = "retention: {keep: 1w, copies: 5, projects: {shop: {copies: 1}}}"
    found = settings(f"update: {{{text}}}\n").retention
    assert found.of("default") == Retention(keep=timedelta(days=7), copies=5)
    assert found.of("shop") == Retention(keep=timedelta(days=7), copies=1)
    assert settings("").retention.of("any") == Retention()


def test_every_example_of_the_document_works() -> None:
    assert len(EXAMPLES) == 5
    for example in EXAMPLES:
        for receiver in receivers_of(settings(example)):
            assert isinstance(receiver, Webhook | NotifyCommand)
            body = receiver.body.render(message(title='a "b"\n\\'))
            assert isinstance(receiver, NotifyCommand) or json.loads(body)


def test_the_first_example_says_what_it_says() -> None:
    found = settings(EXAMPLES[0])
    assert found.metrics == Listen(host="127.0.0.1", port=9178)
    assert found.runs_programs
    assert found.hooks["backup"].timeout_seconds == 900
    assert ping_of(found) is not None
    assert found.receivers[0].minimum == "warning"


def test_the_document_names_what_there_is() -> None:
    for topic in set(Topic) - {Topic.TEST}:
        assert f"| `{topic}` |" in DOCUMENT
    for point in Point:
        assert f"`{point.key}`" in DOCUMENT
    names = re.findall(
        r"^# TYPE lxdocker_lxd_update_(\w+)",
        rendered(Tally(started=NOW).with_round(NOW, good=True), NOW).decode(),
        re.MULTILINE,
    )
    assert len(names) == 20
    for name in names:
        assert re.search(rf"`{name}[`{{]", DOCUMENT), name
    table = DOCUMENT[DOCUMENT.index("### Templates") : DOCUMENT.index("ntfy, with")]
    for word in re.findall(r"`\$([a-z_]+)`", table):
        if word != "name":
            template_of(f"${word}", "text/plain")


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("notfy: {}", "unknown key 'notfy'"),
        ("notify: {Ops: {url: 'https://h/'}}", "lower case"),
        ("notify: {../x: {url: 'https://h/'}}", "lower case"),
        ("notify: {ops: {}}", "either url or url_file"),
        ("notify: {ops: {url: 'https://h/', url_file: /x}}", "either url or url_file"),
        ("notify: {ops: {url: 'https://h/', command: [/bin/x]}}", "at once"),
        ("notify: {ops: {url: 'http://h/'}}", "insecure: true"),
        ("notify: {ops: {url: 'ftp://h/'}}", "expected https://"),
        ("notify: {ops: {url: 'https://a:s3cr3t@h/'}}", "no user and password"),
        ("notify: {ops: {url: 'https://h:99999/'}}", "expected https://"),
        ("notify: {ops: {url: 'https://h/a b'}}", "without spaces"),
        ("notify: {ops: {url_file: relative}}", "absolute path"),
        ("notify: {ops: {command: sendmail -t}}", "expected a list"),
        ("notify: {ops: {command: [sendmail]}}", "absolute path"),
        ("notify: {ops: {command: []}}", "absolute path"),
        ("notify: {ops: {url: 'https://h/', body: '{\"a\": \"$titel\"}'}}", "unknown name"),
        ("notify: {ops: {url: 'https://h/', body: '$title'}}", "no JSON"),
        ("notify: {ops: {url: 'https://h/', minimum: loud}}", "one of info, warning, error"),
        ("notify: {ops: {url: 'https://h/', timeout: 0}}", "from 1 to 300"),
        ("notify: {ops: {url: 'https://h/', content_type: json}}", "media type"),
        ("notify: {ops: {url: 'https://h/', headers: {Content-Type: x}}}", "request itself"),
        ("notify: {ops: {url: 'https://h/', headers: {'a b': x}}}", "no name of a header"),
        ('notify: {ops: {url: "https://h/", headers: {a: "x\\ny"}}}', "one line"),
        ("ping: https://h/", "expected key: value"),
        ("ping: {url: 'http://h/'}", "insecure: true"),
        ("hooks: {Dump: {command: [/bin/x]}}", "lower case"),
        ("hooks: {dump: {}}", "expected a command"),
        ("hooks: {dump: {command: [/bin/x], where: moon}}", "instance or host"),
        ("hooks: {dump: {command: [/bin/x], projects: [a]}}", "a hook of the instance has none"),
        ("hooks: {dump: {command: [/bin/x], where: host, user: 3}}", "a hook of the host has none"),
        ("hooks: {dump: {command: [/bin/x], user: root}}", "whole number"),
        ("retention: {keep: forever}", "12h, 3d or 2w"),
        ("retention: {copies: 0}", "from 1 to 1000"),
        ("retention: {projects: {shop: {keep: 3}}}", "12h, 3d or 2w"),
        ("metrics: 9178", "HOST:PORT"),
        ("metrics: '127.0.0.1:0'", "HOST:PORT"),
    ],
)
def test_mistakes_are_named_with_their_place(section: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        settings(f"update:\n  {section}\n")
    said = caught.value.message + caught.value.hint
    assert caught.value.message.startswith("config.yaml:2:")
    assert complaint in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize("text", ["[::1]:9178", "localhost:80", "0.0.0.0:9178", "none"])
def test_where_metrics_are_served(text: str) -> None:
    found = settings(f"update:\n  metrics: '{text}'\n").metrics
    assert (found is None) == (text == "none")


def test_secrets_are_never_shown() -> None:
    text = "{url: 'https://h/s3cr3t', headers: {Authorization: Bearer s3cr3t}}"
    found = settings(f"update: {{notify: {{ops: {text}}}, ping: {text}}}\n")
    assert "s3cr3t" not in repr(found) + repr(receivers_of(found)) + repr(ping_of(found))
