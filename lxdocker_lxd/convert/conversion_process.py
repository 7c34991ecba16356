"""A conversion that root asks for and another user does: the owner of the directories.

It is the command that the owner's own timer runs, in a session of its own (a terminal of root's must
not be in its reach), with the owner's ids, groups and home, and nothing of root's environment but
settings. It reports in JSON; what it says is a stranger's word: typed, bounded, and never trusted for more
than telling it.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from lxdocker_lxd.control_characters import spelled_out
from lxdocker_lxd.convert import report_document
from lxdocker_lxd.convert.run import ConvertOptions, RunReport
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import LxdockerError, ToolError
from lxdocker_lxd.ownership import Owner
from lxdocker_lxd.progress import (
    BytesDone,
    Event,
    ImageFinished,
    Notice,
    Progress,
    StageStarted,
)

_ENDING_SECONDS = 10.0
_LEAST_MEMORY_BYTES = 2 << 30
# Stacks of threads count as memory, and 8 MiB each would be most of it where many servers are asked.
_STACK_BYTES = 1 << 20
_MOST_LINE_BYTES = 1 << 16
_MOST_NUMBER = 1 << 62
_LAST_LINES = 3
# What a conversion may be told by the environment: where things are, how to reach the network, how to speak.
_KEPT = (
    *("PATH", "LANG", "LANGUAGE", "TZ", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_KEPT_BEGINNINGS = ("LC_", "LXDOCKER_LXD_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def convert_as(owner: Owner, options: ConvertOptions, progress: Progress) -> RunReport:
    """Run once over the specifications as ``owner`` and return what came of each product.

    Raises what the run fails with, in its category; ToolError when it can't be started or gives no
    report.
    """
    command = arguments(options)
    with _running(command, owner) as process:
        assert process.stdout is not None  # noqa: S101 - opened as pipes
        assert process.stderr is not None  # noqa: S101
        said = _Said(process.stderr, progress)
        listener = threading.Thread(target=said.listen, daemon=True)
        listener.start()
        content = process.stdout.read(report_document.MOST_BYTES + 1)
        if len(content) > report_document.MOST_BYTES:
            process.kill()
        code = process.wait()
        listener.join(_ENDING_SECONDS)
    if not content:
        raise said.failure(code, owner)
    return report_document.parse(content, what=f"the conversion as {owner.name}")


def arguments(options: ConvertOptions) -> list[str]:
    """Return the command line of a run with these options."""
    words = [sys.executable, "-P", "-m", "lxdocker_lxd", "convert"]
    words += [f"--specs={options.specs.absolute()}", f"--cache={options.cache.absolute()}"]
    words += [f"--lxdimages={options.lxdimages.absolute()}"]
    words += [f"--imageformat={options.image_format}", f"--jobs={options.jobs}"]
    words += [f"--versions={options.versions}", *(f"--name={name}" for name in options.names)]
    words += [f"--busybox={name}={path.absolute()}" for name, path in options.busybox.items()]
    words += ["--lxc"] if options.lxc else []
    words += ["--dry-run"] if options.dry_run else []
    words += [f"--config={options.settings_file.absolute()}"] if options.settings_file else []
    return [*words, "--format=json", "--progress=json"]


def environment(owner: Owner, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a conversion by ``owner`` from this process's ``own`` one."""
    kept = {
        name: value
        for name, value in own.items()
        if name in _KEPT or name.startswith(_KEPT_BEGINNINGS) or name.lower() in _PROXIES
    }
    # The program itself may lie where only its own start script looks.
    places = [str(Path(__file__).absolute().parents[2]), kept.get("PYTHONPATH", "")]
    python_path = os.pathsep.join(filter(None, places))
    who = {"HOME": owner.home, "USER": owner.name, "LOGNAME": owner.name}
    return {**kept, **who, "PYTHONPATH": python_path}


@contextlib.contextmanager
def _running(command: list[str], owner: Owner) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the process; it is ended with the block, and has time to clean up."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment(owner, os.environ),
            user=owner.user_id,
            group=owner.group_id,
            extra_groups=owner.groups,
            umask=0o022,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(
            f"convert as {owner.name}, to whom the directories belong: start {command[0]}: {error}",
            hint=f"install lxdocker-lxd where {owner.name} can read it, below /opt; or run this as"
            f" {owner.name}",
        ) from error
    with process:
        try:
            yield process
        except BaseException:
            _end(process)
            raise


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Give this process and what it starts half of the machine's memory each, at least 2 GiB.

    Where nothing else bounds it closer (a unit's ``MemoryMax=`` does on small machines), an image that asks
    for more fails alone, instead of whatever the kernel would end. A process may bound itself without any
    privilege, which root's units don't have over those of others.
    """
    total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most_bytes = max(total_bytes // 2, _LEAST_MEMORY_BYTES)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = soft if soft != resource.RLIM_INFINITY else most_bytes
    stack_bytes = threading.stack_size(_STACK_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (min(known, most_bytes), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        threading.stack_size(stack_bytes)


def _end(process: subprocess.Popen[bytes]) -> None:
    # All of its session: a packer may be at work.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_SECONDS)
            return


class _Said:
    """What the process writes to standard error: events, one JSON object a line, and last words."""

    def __init__(self, stream: IO[bytes], progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._words: list[str] = []

    def listen(self) -> None:
        """Pass all events on until the stream ends."""
        while line := self._stream.readline(_MOST_LINE_BYTES):
            event = parse_event(line)
            if event is not None:
                self._progress.emit(event)
            else:
                text = spelled_out(line.decode("utf-8", "backslashreplace").strip())
                self._words = [*self._words, text][-_LAST_LINES:]

    def failure(self, code: int, owner: Owner) -> LxdockerError:
        """Return the error of a run that gave no report."""
        found = {
            kind: text
            for kind, colon, text in (words.partition(": ") for words in self._words)
            if colon
        }
        if code > 0 and "error" in found:
            message = f"as {owner.name}: {found['error']}"
            return report_document.error_of(code, message, found.get("hint", ""))
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ToolError(
            f"convert as {owner.name}, to whom the directories belong: it {ended}:"
            f" {' / '.join(self._words) or 'no words'}",
            hint=f"can {owner.name} read {Path(__file__).parents[1]} and {sys.executable}?",
        )


def parse_event(line: bytes) -> Event | None:
    """Return the event that a line of ``--progress json`` is; None for any other line."""
    try:
        fields = json.loads(line)
        return _EVENTS[fields["event"]](fields)
    except (ValueError, TypeError, KeyError, RecursionError, LxdockerError):
        return None


def _bytes_done(fields: Mapping[str, object]) -> BytesDone:
    digest = fields["digest"]
    return BytesDone(
        image=_text(fields["image"]),
        stage=_text(fields["stage"]),
        digest=None if digest is None else Digest.parse(_text(digest)),
        done_bytes=_count(fields["done_bytes"]),
        total_bytes=_count(fields["total_bytes"]),
    )


def _finished(fields: Mapping[str, object]) -> ImageFinished:
    texts = {key: _text(fields[key]) for key in ("image", "outcome", "detail")}
    return ImageFinished(**texts)


_EVENTS: Mapping[str, Callable[[Mapping[str, object]], Event]] = {
    "stage-started": lambda one: StageStarted(image=_text(one["image"]), stage=_text(one["stage"])),
    "notice": lambda one: Notice(image=_text(one["image"]), text=_text(one["text"])),
    "image-finished": _finished,
    "bytes-done": _bytes_done,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_NUMBER:
        raise TypeError("a count is expected")
    return value
