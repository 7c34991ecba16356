"""Counts what rounds ask of LXD, and measures how long a plan takes; no LXD is needed.

    python -m tests.benchmarks.bench_update_requests [--instances N] [--projects N]

The LXD is the simulated one of the tests. A call of it stands for one request of the adapter (reading
what LXD is at work on, of one project, too), but for the waits for LXD's own work, which aren't counted.
Printed are:

* an idle round of N instances in N projects, each with images of its own;
* a round that updates N instances of one image in one project: requests for each, by kind;
* the processor's time of one plan of N instances outside a weekly window.

The service's claim to LXD comes to five requests a round beside these.
"""

import argparse
import time
from collections import Counter

from lxdocker_lxd.lxd.resources import Project
from lxdocker_lxd.update.plan import plan
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.scene import Picture
from tests.update.test_rounds import AUTO, House

AIM_IDLE = 60
AIM_UPDATE = 12
AIM_PLAN_SECONDS = 0.05
_WINDOW = {"user.lxdocker.update.window": "sun 02:00-03:00 Europe/Berlin"}


def house_of(instances: int, projects: int, config: dict[str, str] | None = None) -> House:
    """A simulated LXD with instances that follow an alias ``app`` of their project."""
    house = House()
    names = ["default"] if projects == 1 else [f"p{number:02}" for number in range(projects)]
    for name in names:
        if name != "default":
            config_of = {"features.images": "true", "features.profiles": "false"}
            house.lxd.user.projects.create(Project(name=name, config=config_of))
    for number in range(instances):
        project = names[number % projects]
        fingerprint = house.lxd.add_image("one", alias="app", project=project)
        keys = {
            **AUTO,
            **(config or {}),
            "user.lxdocker.image": "local|app",
            "user.lxdocker.update.of": f"{project}/i{number:03}",
        }
        house.lxd.launch(f"i{number:03}", fingerprint, config=keys, project=project)
    house.run()
    house.lxd.log.restart_count()
    return house


def idle_requests(instances: int, projects: int) -> Counter[str]:
    """The calls of a round in which nothing is to be done, by name."""
    house = house_of(instances, projects)
    house.run()
    return Counter(call.name for call in house.lxd.log.calls)


def update_requests(instances: int) -> Counter[str]:
    """The calls of a round that updates them all."""
    house = house_of(instances, 1)
    house.lxd.add_image("two", alias="app")
    report = house.run()
    assert len(report.outcomes) == instances, report
    assert not report.bad, report
    return Counter(call.name for call in house.lxd.log.calls)


def plan_seconds(instances: int) -> float:
    """The processor's time of a plan outside of a weekly window; the best of three."""
    house = house_of(instances, 1, _WINDOW)
    house.lxd.add_image("two", alias="app")
    picture = Picture(house.lxd, house.lxd.clock, Problems())
    picture.look_at_instances()
    picture.look()
    scene = picture.scene()
    taken = []
    for _ in range(3):
        began = time.process_time()
        decisions = plan(scene)
        taken.append(time.process_time() - began)
    assert len(decisions) == instances
    return min(taken)


def main() -> None:
    """Count, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--projects", type=int, default=50)
    options = parser.parse_args()
    count = options.instances
    print("calls of the simulated LXD; waits for LXD's own work aren't counted")
    idle = idle_requests(count, options.projects)
    print(
        f"idle round, {count} instances in {options.projects} projects:"
        f" {idle.total()} requests (aim: {AIM_IDLE})"
    )
    updates = update_requests(count)
    print(
        f"update of {count} instances of one image: {updates.total() / count:.1f} requests each"
        f" (aim: {AIM_UPDATE})"
    )
    for name, number in updates.most_common():
        print(f"    {number / count:6.2f}  {name}")
    seconds = plan_seconds(count)
    print(
        f"plan of {count} instances outside a weekly window: {seconds * 1000:.0f} ms of processor"
        f" (aim: {AIM_PLAN_SECONDS * 1000:.0f})"
    )


if __name__ == "__main__":
    main()
