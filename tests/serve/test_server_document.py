"""docs/server.md shows what curl sees: every example is run, against a server as the page starts it.

In a ``console`` block a line with ``$`` is a command, the others are what it prints. ``…`` stands for
anything within a line, a line of it for any lines.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.running import RunningServer
from tests.serve.shelf import Shelf

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
ROOTFS = bytes(range(250)) * 4000
SHOWN_PORT, SHOWN_PLAIN_PORT = 8443, 8080


def examples() -> list[tuple[str, list[str]]]:
    """Commands and the lines they are to print, in the order of the page."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def pattern(lines: list[str]) -> str:
    """What the lines of an example match."""
    parts = []
    for line in lines:
        words = re.escape(line).replace("…", ".*")
        parts.append("(?:[^\n]*\n)*" if line == "…" else f"{words}\n")
    return "".join(parts)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    shelf = Shelf(tmp_path / "images")
    shelf.publish("web", ROOTFS)
    found = RunningServer(shelf, tmp_path)
    with RunningServer.free_port() as plain:
        pass
    found.certificate_flags = ("--tls-dir", str(tmp_path / "tls"), "--name", "images.lan")
    found.flags = ("--http-address", f"127.0.0.1:{plain}", "--metrics", "local")
    try:
        found.start()
        (tmp_path / ".curlrc").write_text(
            "silent\nshow-error\ncacert = ca.crt\n"
            f"connect-to = images.lan:{SHOWN_PORT}:127.0.0.1:{found.port}\n"
            f"connect-to = images.lan:{SHOWN_PLAIN_PORT}:127.0.0.1:{plain}\n"
        )
        yield found
    finally:
        found.stop()


@pytest.mark.tools
def test_every_example_of_the_page_holds(server: RunningServer, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "CURL_HOME": str(tmp_path), "HOME": str(tmp_path)}
    shown = examples()
    assert len(shown) > 15
    for command, lines in shown:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        # curl -w begins where the body ended; headers have carriage returns, status lines no reason.
        said = re.sub(r"[ \r]+\n", "\n", done.stdout.decode("utf-8", "replace"))
        said = said.rstrip("\n") + "\n" if said else ""
        wanted = pattern(lines)
        assert re.fullmatch(wanted, said), f"$ {command}\nexpected:\n{lines}\ngot:\n{said}"


def test_every_metric_is_on_the_page(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "images")
    server = RunningServer(shelf, tmp_path, "--metrics", "local")
    try:
        server.start()
        text = server.get("/metrics").body.decode()
    finally:
        server.stop()
    names = set(re.findall(r"^# TYPE lxdocker_lxd_(\w+)", text, re.MULTILINE))
    table = PAGE.read_text().partition("| name, after")[2].partition("\n\n")[0]
    named = {
        name
        for row in table.splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row[: row.index("|", 1)])
    }
    assert names == named


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / target).is_file(), target
