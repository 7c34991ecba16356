"""What every test shares: which tests run, how many examples, and the private LXD.

Plain ``pytest`` runs what needs no program from Debian and no root. ``pytest --real`` (what
tests/run.sh does) runs everything; a missing program is then a failure and nothing may skip.
"""

import os
import signal
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import workers
from tests.harness.lxd import PrivateLxd

REAL_MARKERS = ("lxd", "registry", "oracle", "browser", "tools", "root")
LONGEST_NAME_BYTES = 40
SLOWEST = 10

settings.register_profile(
    "dev",
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "full",
    parent=settings.get_profile("dev"),
    max_examples=300,
    print_blob=True,
)
settings.load_profile("full" if os.environ.get("LXDOCKER_TEST_FULL") == "1" else "dev")


# A shell's background job ignores SIGINT, one below nohup SIGHUP, and hands that down to every program
# that a test sends one to.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # A handler is gone in the programs that are started, and here nothing ends.
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real",
        action="store_true",
        default=False,
        help="also run the tests that need LXD, docker-registry, umoci, chromium, squashfs-tools or root",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs real parts, or belongs to the full run, unless that was asked for."""
    unwanted = set() if config.getoption("--real") else set(REAL_MARKERS)
    if os.environ.get("LXDOCKER_TEST_FULL") != "1":
        unwanted.add("full")
    left = [item for item in items if any(item.get_closest_marker(name) for name in unwanted)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    if hasattr(config, "workerinput"):
        items[:] = workers.longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give whole files to the workers, in the order in which they were collected."""
    from tests.harness.group_scheduling import GroupScheduling  # noqa: PLC0415 - plain pytest lacks it

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long bytes by their argument: every worker has to give a test the same name."""
    return argname if isinstance(val, bytes) and len(val) > LONGEST_NAME_BYTES else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--real`` a skipped test is a failed one: a run that says "passed" ran everything."""
    report = yield
    report.user_properties += [
        ("real", name) for name in REAL_MARKERS if item.get_closest_marker(name)
    ]
    if item.config.getoption("--real") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although --real was given: {report.longrepr}"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
    config: pytest.Config,
) -> None:
    """List every test that met a real part, so that a log shows what ran."""
    if not config.getoption("--real"):
        return
    counts: Counter[tuple[str, str]] = Counter()
    lines: list[str] = []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            # What failed to be collected is no test.
            if not isinstance(report, pytest.TestReport):
                continue
            if outcome == "passed" and report.when != "call":
                continue
            marks = sorted({str(value) for key, value in report.user_properties if key == "real"})
            counts.update((mark, outcome) for mark in marks)
            if "lxd" in marks:
                lines.append(f"{outcome:7} {report.duration:7.1f} s  {report.nodeid}")
    terminalreporter.section("tests against a real LXD")
    for line in lines:
        terminalreporter.write_line(line)
    terminalreporter.section("tests against real parts")
    for mark in REAL_MARKERS:
        shown = ", ".join(f"{counts[mark, how]} {how}" for how in ("passed", "failed", "error"))
        terminalreporter.write_line(f"{mark:9} {shown}")
    terminalreporter.section(f"slowest {SLOWEST} files")
    for file, seconds in list(_file_seconds(terminalreporter).items())[:SLOWEST]:
        terminalreporter.write_line(f"{seconds:7.1f} s  {file}")


def _file_seconds(terminalreporter: pytest.TerminalReporter) -> dict[str, float]:
    """What each file took, fixtures included; longest first."""
    found: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                found[report.nodeid.split("::", 1)[0]] += report.duration
    return dict(sorted(found.items(), key=lambda one: -one[1]))


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """No test changes the environment of those after it: which these are differs from run to run."""
    before = dict(os.environ)
    yield
    left = {
        name
        for name in before.keys() | os.environ.keys()
        if name != "PYTEST_CURRENT_TEST" and before.get(name) != os.environ.get(name)
    }
    for name in left:
        os.environ.pop(name, None)
    os.environ.update({name: before[name] for name in left & before.keys()})
    assert not left, f"this test leaves other values in the environment: {sorted(left)}"


@pytest.fixture(scope="session")
def private_lxd() -> Iterator[PrivateLxd]:
    """One LXD daemon of our own for the whole run, with a bridge and a ``dir`` pool."""
    with PrivateLxd() as lxd:
        yield lxd
