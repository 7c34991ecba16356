"""Coverage-guided fuzzing: ``python -m tests.fuzz.run --seconds 300 [--target NAME]... [--keep]``.

Needs the extra ``fuzz`` (atheris). Each target runs in a process of its own, one after the other; a
table tells executions, coverage, new inputs and crashes. Inputs that crash stay in ``--work``.
``--keep`` chooses anew which inputs the tests replay, from those in ``--work``.
"""

import argparse
import base64
import random
import re
import resource
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import CORPUS, MOST_BYTES, read_corpus
from tests.fuzz.target import Target

_PACKAGE = str(Path(__file__).parents[2] / "lxdocker_lxd")
_WORD = re.compile(rb"[A-Za-z][A-Za-z0-9_./+-]{1,40}")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_MOST_STARTS = 10
_ROW = "{:20} {:>9} {:>8} {:>7} {:>9} {:>8} {:>7} {:>7}"


def main() -> int:
    """Fuzz as the command line says; 1 when a target crashed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--seconds", type=int, default=60, help="of the processor, for each target"
    )
    options.add_argument("--target", action="append", default=[])
    options.add_argument("--work", type=Path, help="where inputs are kept from run to run")
    options.add_argument("--keep", action="store_true")
    options.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        _fuzz(given.one[0], given.one[1:])
        return 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        work = given.work or Path(scratch)
        return _run_all(given.target, work, given.seconds, keep=given.keep)


def _run_all(names: list[str], work: Path, seconds: int, *, keep: bool) -> int:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - children load it after atheris

    chosen = [TARGETS[name] for name in names] or list(TARGETS.values())
    if not keep:
        heads = ("target", "inputs", "inputs/s", "edges", "features", "new", "cpu s", "crashes")
        print(_ROW.format(*heads), flush=True)
    crashed = 0
    for target in chosen:
        directory = work / target.name
        if keep:
            _keep(target, directory / "inputs")
        else:
            crashed += _run(target, directory, seconds)
    return 1 if crashed else 0


def _run(target: Target, directory: Path, seconds: int) -> int:
    """Fuzz one target in a process; print its row; return how many inputs crash it."""
    inputs, crashes = directory / "inputs", directory / "crashes"
    for made in (inputs, crashes):
        made.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate((*target.seeds, *read_corpus(target.name))):
        (inputs / f"seed-{number}").write_bytes(seed)
    before = set(crashes.iterdir())
    known = len(list(inputs.iterdir()))
    words = directory / "words"
    words.write_text("".join(f'"{word}"\n' for word in _words(target.seeds)))
    cpu_before = _cpu_seconds()
    texts: list[str] = []
    # A crash ends the process, and on a busy machine it gets less time than it was given.
    while (left := seconds - (_cpu_seconds() - cpu_before)) > 1 and len(texts) < _MOST_STARTS:
        arguments = [
            *(f"-max_total_time={left + 1:.0f}", f"-max_len={target.most_bytes}"),
            *(f"-dict={words}", "-rss_limit_mb=1500", "-timeout=60", "-print_final_stats=1"),
            *(f"-artifact_prefix={crashes}/", str(inputs)),
        ]
        log = directory / f"log-{len(texts)}"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "tests.fuzz.run", "--one", target.name, *arguments]
            subprocess.run(command, check=False, stdout=output, stderr=subprocess.STDOUT)
        texts.append(log.read_text(errors="replace"))
    cpu_seconds = _cpu_seconds() - cpu_before
    executed = sum(int(count) for text in texts for count in _EXECUTED.findall(text))
    speed = executed / max(cpu_seconds, 1)
    covered = [
        (int(edges), int(features)) for text in texts for edges, features in _COVERED.findall(text)
    ]
    new = len(list(inputs.iterdir())) - known
    found = len(set(crashes.iterdir()) - before)
    row = (target.name, executed, f"{speed:.0f}", *max(covered, default=(0, 0)), new)
    print(_ROW.format(*row, f"{cpu_seconds:.0f}", found), flush=True)
    return found


def _cpu_seconds() -> float:
    """Return what ended child processes took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _words(seeds: Iterable[bytes]) -> list[str]:
    return sorted({word.decode() for seed in seeds for word in _WORD.findall(seed)})[:300]


def _fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris  # noqa: PLC0415 - only here; tests don't need it

    with atheris.instrument_imports(include=["lxdocker_lxd", "yaml"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented here
    target = TARGETS[name]

    def mutated(data: bytes, most_bytes: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if target.mutation is not None and dice.random() < 0.5:
            made = target.mutation(data, dice)
            if len(made) <= most_bytes:
                return made
        changed: bytes = atheris.Mutate(data, most_bytes)
        return changed

    how: dict[str, Any] = {"custom_mutator": mutated} if target.mutation else {}
    atheris.Setup([sys.argv[0], *arguments], target.check, **how)
    atheris.Fuzz()


def _keep(target: Target, inputs: Path) -> None:
    """Choose the inputs that reach most lines for their size, a few kB of them."""
    found = [path.read_bytes() for path in sorted(inputs.iterdir())] if inputs.is_dir() else []
    candidates = {data for data in (*found, *read_corpus(target.name)) if len(data) <= MOST_BYTES}
    reached = {data: _reached(target, data) for data in candidates}
    chosen: list[bytes] = []
    covered: set[tuple[types.CodeType, int, int]] = set()
    left_bytes = MOST_BYTES
    while reached:
        best = max(
            reached, key=lambda data: (len(reached[data] - covered) / (len(data) + 30), data)
        )
        if not reached[best] - covered:
            break
        covered |= reached.pop(best)
        if len(best) <= left_bytes:
            chosen.append(best)
            left_bytes -= len(best)
        reached = {data: lines for data, lines in reached.items() if len(data) <= left_bytes}
    CORPUS.mkdir(exist_ok=True)
    lines = [base64.b64encode(data).decode() + "\n" for data in sorted(chosen, key=len)]
    (CORPUS / f"{target.name}.txt").write_text("".join(lines))
    print(
        f"{target.name}: {len(chosen)} of {len(candidates)} inputs, {sum(map(len, chosen))} bytes"
    )


def _reached(target: Target, data: bytes) -> set[tuple[types.CodeType, int, int]]:
    """Return the steps from line to line in this program that an input leads through."""
    found: set[tuple[types.CodeType, int, int]] = set()

    def entered(frame: types.FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        last = 0

        def step(inner: types.FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            if event == "line":
                found.add((inner.f_code, last, inner.f_lineno))
                last = inner.f_lineno
            return step

        return step

    sys.settrace(entered)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return found


if __name__ == "__main__":
    sys.exit(main())
