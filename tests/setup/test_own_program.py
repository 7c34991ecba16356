"""What root's units start is root's alone, or no unit is written."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.setup.own_program import expect_trusted
from lxdocker_lxd.setup.payload import Payload
from lxdocker_lxd.trusted_path import UntrustedFileError, check_trusted, check_trusted_trees
from tests.harness.other_user import NOBODY


def program(directory: Path) -> Path:
    """An installation's command."""
    path = directory / "bin" / "lxdocker-lxd"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def refusal(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        expect_trusted((str(path), "setup"))
    return caught.value


@pytest.mark.root
class TestRootsUnits:
    def test_a_program_in_a_users_home_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        path = program(tmp_path / "alice")
        for one in (tmp_path / "alice", path.parent, path):
            os.chown(one, NOBODY, NOBODY)
        error = refusal(path)
        assert f"{path}: use {path}: " in error.message
        assert "belongs to nobody" in error.message
        first, second = error.hint.splitlines()[1:]
        assert "python3 -m venv /opt/lxdocker-lxd" in first
        assert second.strip() == "sudo /opt/lxdocker-lxd/bin/lxdocker-lxd setup"

    def test_modules_that_a_user_can_write_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = program(tmp_path / "opt")
        modules = tmp_path / "modules"
        (modules / "package").mkdir(parents=True)
        module = modules / "package" / "module.py"
        module.write_text("")
        monkeypatch.syspath_prepend(str(modules))
        os.chown(module, NOBODY, NOBODY)
        assert f"{module} belongs to nobody" in refusal(path).message
        os.chown(module, 0, 0)
        module.chmod(0o664)
        assert f"others can write to {module}" in refusal(path).message

    def test_a_link_in_anothers_hand_on_the_way_is_refused(self, tmp_path: Path) -> None:
        # /opt/run -> alice/run -> opt/bin: first and last are root's.
        path = program(tmp_path / "opt")
        alice = tmp_path / "alice"
        alice.mkdir()
        (alice / "run").symlink_to(path)
        (tmp_path / "run").symlink_to(alice / "run")
        check_trusted(tmp_path / "run", executable=True)
        os.chown(alice, NOBODY, NOBODY)
        with pytest.raises(UntrustedFileError, match="alice belongs to nobody"):
            check_trusted(tmp_path / "run", executable=True)


class TestTrees:
    def test_all_below_counts_and_what_links_lead_to(self, tmp_path: Path) -> None:
        me = os.geteuid()
        tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
        for one in (tree, elsewhere):
            (one / "below").mkdir(parents=True)
            (one / "below" / "file").write_text("")
        (tree / "link").symlink_to(elsewhere)
        (tree / "round").symlink_to(tree)
        (tree / "nowhere").symlink_to(tmp_path / "absent")
        check_trusted_trees([tree, tmp_path / "absent"], owner=me)
        for place in (tree / "below" / "file", elsewhere / "below" / "file", elsewhere / "below"):
            before = place.stat().st_mode
            place.chmod(0o777)
            with pytest.raises(UntrustedFileError, match="others can write"):
                check_trusted_trees([tree], owner=me)
            place.chmod(before)

    @pytest.mark.root
    def test_a_way_through_anothers_hand_counts_though_it_leads_to_a_tree_that_is_checked(
        self, tmp_path: Path
    ) -> None:
        tree, alice = tmp_path / "tree", tmp_path / "alice"
        tree.mkdir()
        alice.mkdir()
        (alice / "link").symlink_to(tree)
        (tree / "link").symlink_to(alice / "link")
        check_trusted_trees([tree])
        os.chown(alice, NOBODY, NOBODY)
        with pytest.raises(UntrustedFileError, match="alice belongs to nobody"):
            check_trusted_trees([tree])

    def test_where_anybody_could_make_it_what_is_absent_is_not_trusted(
        self, tmp_path: Path
    ) -> None:
        tmp_path.chmod(0o1777)
        with pytest.raises(UntrustedFileError, match="others can write"):
            check_trusted_trees([tmp_path / "absent"], owner=os.geteuid())

    def test_links_without_an_end_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "link")
        with pytest.raises(UntrustedFileError):
            check_trusted_trees([tmp_path / "link"], owner=os.geteuid())


def test_what_is_copied_into_a_container_can_be_changed_by_root_alone(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("")
    file.chmod(0o666)
    made = Payload(own=(("lib/module.py", file),), foreign=()).archive(own_only=True)
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        assert [member.mode & 0o777 for member in tar] == [0o644]
