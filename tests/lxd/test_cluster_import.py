"""Two members of a cluster on this machine: an import reaches both, a launch goes where it is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.image_server import free_port
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.lxd.data_image import VOLUME, write_data_layout
from tests.lxd.user import User

pytestmark = [pytest.mark.lxd, pytest.mark.tools]


class Member(PrivateLxd):
    """A daemon without bridge and pool of its own; the cluster has them."""

    endpoint = ""

    def _start(self) -> None:
        self._run_daemon()
        self.endpoint = f"127.0.0.1:{free_port()}"

    def preseed(self, document: object) -> None:
        """Configure it as ``lxd init`` does."""
        run("lxd", "init", "--preseed", env=self.environment, text_input=json.dumps(document))

    def _leave_politely(self) -> None:
        """Members can't decide anything once the other one is gone; what is left is removed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Member]:
    """The first of two members, ``one`` and ``two``, each with a part of the pool ``default``."""
    with Member() as one, Member() as two:
        one.lxc("storage", "create", "default", "dir")
        one.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
        one.preseed(
            {
                "config": {"core.https_address": one.endpoint},
                "cluster": {"server_name": "one", "enabled": True},
            }
        )
        token = one.lxc("cluster", "add", "two", "-q").stdout.strip().splitlines()[-1]
        source = {"entity": "storage-pool", "name": "default", "key": "source", "value": ""}
        two.preseed(
            {
                "cluster": {
                    "server_name": "two",
                    "enabled": True,
                    "server_address": two.endpoint,
                    "cluster_token": token,
                    "member_config": [source],
                }
            }
        )
        yield one
        names = one.instances()
        if names:
            one.lxc("delete", "--force", *names)


def test_an_import_reaches_both_and_a_launch_its_member(cluster: Member, tmp_path: Path) -> None:
    user = User(lxd=cluster, home=tmp_path / "home")
    write_data_layout(user.home / "db")
    assert user.image("oci:db:1.0", "--alias", "db")["outcome"] == "imported"
    for member in ("one", "two"):
        user.run("launch", "db", f"on-{member}", "--target", member, "--wait")
        assert cluster.shell(f"on-{member}", f"/bin/ls {VOLUME}") == "boots\nfirst\n"
    found = user.run("ps", "--format", "json").json["instances"]
    assert [(one["name"], one["location"], one["health"]) for one in found] == [
        ("on-one", "one", "healthy"),
        ("on-two", "two", "healthy"),
    ]
    assert "started as 70" in user.run("logs", "on-two").out
    # The volume is where its instance is, and is found there again.
    cluster.delete("on-two")
    user.run("launch", "db", "on-two", "--target", "two", "--wait")
    assert cluster.shell("on-two", f"/bin/cat {VOLUME}/boots") == "boot\nboot\n"
    said = user.run("launch", "db", "elsewhere", "--target", "three", code=3)
    assert "hint: there is no three among them: lxc cluster list" in said.err
    assert sorted(cluster.instances()) == ["on-one", "on-two"]
