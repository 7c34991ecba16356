"""Who converts is the owner of the directories: root in somebody else's becomes them, or refuses."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.convert import conversion_process, report_document
from lxdocker_lxd.convert.packing.split_image import packed
from lxdocker_lxd.convert.packing.tarball import TarSink
from lxdocker_lxd.convert.run import ImageFormat
from lxdocker_lxd.errors import StorageError, UsageError, VerificationError
from lxdocker_lxd.ownership import (
    Owner,
    UnsafeDirectoryError,
    expect_closed,
    expect_own,
    open_plain,
)
from lxdocker_lxd.progress import BytesDone, ImageFinished, Notice, StageStarted
from tests.convert.test_pack import feeding, job, sample_tar
from tests.convert.workshop import Workshop, outcomes
from tests.harness.other_user import NOBODY, SECRET, Machine, everybodys_python


@pytest.fixture
def machine() -> Iterator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="lxowner-", dir="/tmp"))
    root.chmod(0o755)
    try:
        yield Machine(root)
    finally:
        shutil.rmtree(root)


def said(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in json.loads(done.stdout)["images"]}


@pytest.mark.root
class TestRootInAnothersDirectories:
    def test_root_becomes_the_owner_and_their_own_run_goes_on(self, machine: Machine) -> None:
        machine.workshop.both("web", b"one")
        machine.give()
        first = machine.convert("--progress=plain")
        assert (first.returncode, said(first)) == (0, {"web": "built"}), first.stderr
        assert "web: merge" in first.stderr
        assert machine.owners() == {NOBODY}
        # What broke the service for good was a first run of root's.
        second = machine.convert(user=NOBODY)
        assert (second.returncode, said(second)) == (0, {"web": "unchanged"}), second.stderr
        machine.workshop.both("web", b"two")
        assert said(machine.convert(user=NOBODY)) == {"web": "built"}
        assert said(machine.convert("--dry-run")) == {"web": "unchanged"}
        assert machine.owners() == {NOBODY}

    def test_nothing_of_roots_environment_goes_along(self, machine: Machine) -> None:
        machine.give()
        owner = Owner.of(machine.images.stat())
        env = conversion_process.environment(
            owner,
            {
                "PATH": "/bin",
                "HOME": "/root",
                "SECRET": "hunter2",
                "DOCKER_CONFIG": "/root/.docker",
                "XDG_RUNTIME_DIR": "/run/user/0",
                "SSH_AUTH_SOCK": "/root/agent",
                "LXDOCKER_LXD_JOBS": "2",
                "HTTPS_PROXY": "http://proxy:3128",
                "LD_PRELOAD": "/root/x.so",
            },
        )
        assert env == {
            "PATH": "/bin",
            "LXDOCKER_LXD_JOBS": "2",
            "HTTPS_PROXY": "http://proxy:3128",
            "HOME": owner.home,
            "USER": "nobody",
            "LOGNAME": "nobody",
            # So it finds itself also where only a start script names the place.
            "PYTHONPATH": str(Path(conversion_process.__file__).parents[2]),
        }

    @pytest.mark.parametrize(
        "place",
        [
            "images/images",
            "images/catalogue.json",
            "images/.lock",
            "cache/partial",
            "cache/headers",
            "cache/headers/sha512",
            "cache/blobs",
            "cache/blobs/sha256",
            "cache/lock",
            "cache/index.lock",
            "cache/index.json",
            "cache/oci-layout",
        ],
    )
    def test_links_that_the_owner_plants_lead_root_nowhere(
        self, machine: Machine, place: str
    ) -> None:
        machine.workshop.both("web", b"one")
        link = machine.theirs / place
        link.parent.mkdir(parents=True, exist_ok=True)
        is_file = place.endswith(("lock", "json", "layout"))
        link.symlink_to(machine.private / "shadow" if is_file else machine.private)
        machine.give()
        done = machine.convert()
        assert SECRET.decode() not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        machine.expect_private_unchanged()
        assert machine.owners() == {NOBODY}

    def test_several_owners_are_refused(self, machine: Machine) -> None:
        os.chown(machine.images, NOBODY, NOBODY)
        done = machine.convert()
        assert done.returncode == UsageError.exit_code
        assert "several users' directories" in done.stderr
        assert "chown -R USER:" in done.stderr
        assert list(machine.images.iterdir()) == []

    def test_a_directory_of_roots_that_another_can_move_away_is_refused(
        self, machine: Machine
    ) -> None:
        os.chown(machine.theirs, NOBODY, NOBODY)
        done = machine.convert()
        assert done.returncode == StorageError.exit_code
        assert f"{machine.theirs} belongs to nobody" in done.stderr

    def test_a_third_users_directory_behind_a_link_is_refused(self, machine: Machine) -> None:
        third = machine.root / "third"
        third.mkdir()
        (third / "mail").write_text("kept")
        os.chown(third, 4321, 4321)
        for path in (machine.cache, machine.images):
            path.rmdir()
            path.symlink_to(third)
        machine.give()
        done = machine.convert()
        assert done.returncode == StorageError.exit_code
        assert "belongs to nobody" in done.stderr
        assert [path.name for path in third.iterdir()] == ["mail"]

    def test_what_does_not_exist_yet_is_made_by_who_owns_the_place(self, machine: Machine) -> None:
        machine.workshop.both("web", b"one")
        machine.cache.rmdir()
        machine.images.rmdir()
        machine.give()
        assert said(machine.convert()) == {"web": "built"}
        assert machine.owners() == {NOBODY}

    def test_a_failure_of_theirs_is_told_as_ones_own(self, machine: Machine) -> None:
        machine.give()
        done = machine.convert("--name=absent")
        assert done.returncode == 3
        assert "error: as nobody: " in done.stderr
        assert "absent" in done.stderr

    def test_a_program_that_they_cannot_run_is_told(self, machine: Machine) -> None:
        machine.give()
        hidden = machine.private / "python"
        hidden.symlink_to(everybodys_python())
        found = conversion_process.convert_as
        options = machine.workshop.options
        before = sys.executable
        sys.executable = str(hidden)
        try:
            with pytest.raises(Exception, match="convert as nobody, to whom the dir") as caught:
                found(Owner.of(machine.images.stat()), options, machine.workshop.events)
        finally:
            sys.executable = before
        assert "/opt" in caught.value.hint  # type: ignore[attr-defined]

    def test_an_older_run_of_roots_is_told_with_the_way_out(self, machine: Machine) -> None:
        machine.workshop.both("web", b"one")
        machine.give()
        (machine.cache / "blobs").mkdir()
        done = machine.convert(user=NOBODY)
        assert done.returncode == StorageError.exit_code
        assert "it belongs to root" in done.stderr
        assert "chown -R --no-dereference nobody:" in done.stderr


class TestOwnDirectories:
    """Also without root: what a link leads to isn't the cache's or the catalogue's."""

    @pytest.mark.parametrize("place", ["headers/sha512", "partial", "blobs/sha256"])
    def test_prune_removes_nothing_behind_a_link(self, tmp_path: Path, place: str) -> None:
        workshop = Workshop(tmp_path)
        workshop.both("web", b"one")
        workshop.run()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / ("a" * 64)).write_bytes(SECRET)
        os.utime(elsewhere / ("a" * 64), (0, 0))
        link = workshop.options.cache / place
        link.rename(tmp_path / "moved")
        link.symlink_to(elsewhere)
        with pytest.raises(UnsafeDirectoryError, match="it is a symbolic link"):
            workshop.run()
        assert (elsewhere / ("a" * 64)).read_bytes() == SECRET

    def test_the_images_directory_may_be_no_link(self, tmp_path: Path) -> None:
        workshop = Workshop(tmp_path)
        workshop.both("web", b"one")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        workshop.options.lxdimages.mkdir()
        (workshop.options.lxdimages / "images").symlink_to(elsewhere)
        with pytest.raises(UnsafeDirectoryError, match="it is a symbolic link"):
            workshop.run()
        assert list(elsewhere.iterdir()) == []

    def test_whole_directories_may_be_elsewhere_by_a_link(self, tmp_path: Path) -> None:
        workshop = Workshop(tmp_path)
        workshop.both("web", b"one")
        for name, path in (("a", workshop.options.cache), ("b", workshop.options.lxdimages)):
            (tmp_path / name).mkdir()
            path.symlink_to(tmp_path / name)
        assert outcomes(workshop.run()) == {"web": "built"}

    @pytest.mark.tools
    @pytest.mark.parametrize("image_format", ["tar", "gzip", "squashfs"])
    def test_a_temporary_name_that_becomes_a_link_is_not_followed(
        self, tmp_path: Path, image_format: ImageFormat
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(SECRET)
        place = tmp_path / "images"
        place.mkdir()

        def feed(sink: TarSink) -> None:
            for path in place.iterdir():
                path.unlink()
                path.symlink_to(victim)
            feeding(sample_tar())(sink)

        with packed(replace(job(b"", image_format), feed=feed), place) as image:
            assert len(image.files) == 2
        assert victim.read_bytes() == SECRET

    def test_a_directory_that_others_may_write_to_is_not_ones_own(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with pytest.raises(UnsafeDirectoryError, match="others can write"):
            expect_own(tmp_path)
        with pytest.raises(UnsafeDirectoryError, match="others can write"):
            expect_closed(tmp_path / "below" / "below")
        tmp_path.chmod(0o700)
        expect_own(tmp_path)
        expect_closed(tmp_path / "below")

    def test_only_plain_files_are_opened(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "link").symlink_to("file")
        os.mkfifo(tmp_path / "pipe")
        with open_plain(tmp_path / "file") as file:
            assert file.read() == b"x"
        for name in ("link", "pipe", "."):
            with pytest.raises(OSError, match="symbolic links"):
                open_plain(tmp_path / name)

    def test_a_catalogue_that_is_a_link_is_not_read(self, tmp_path: Path) -> None:
        workshop = Workshop(tmp_path)
        workshop.options.lxdimages.mkdir()
        workshop.directory.document.symlink_to("/dev/zero")
        with pytest.raises(StorageError):
            workshop.directory.read()


class TestWhatAnotherProcessSays:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b"{}",
            b'{"images": [], "freed_bytes": true}',
            b'{"images": {}, "freed_bytes": 0}',
            b'{"images": [1], "freed_bytes": 0}',
            b'{"images": [{"name": 1}], "freed_bytes": 0}',
            b'{"images": [{"name": "a", "architecture": null, "outcome": "owned"}], "freed_bytes": 0}',
            b"[" * 100_000,
            b"\xff",
        ],
    )
    def test_a_report_that_is_none_is_refused(self, content: bytes) -> None:
        with pytest.raises(VerificationError, match="no report of a conversion"):
            report_document.parse(content, what="test")

    def test_a_report_comes_back_as_it_was(self, tmp_path: Path) -> None:
        workshop = Workshop(tmp_path)
        workshop.both("web", b"one")
        workshop.spec("broken", "image: oci:absent.layout\n")
        report = workshop.run()
        content = json.dumps(report_document.fields_of(report)).encode()
        again = report_document.parse(content, what="test")
        assert report_document.fields_of(again) == report_document.fields_of(report)
        assert [type(one.error) for one in again.outcomes if one.error] != []

    def test_events_are_typed_and_others_are_none(self) -> None:
        lines = {
            b'{"event": "stage-started", "image": "a", "stage": "merge"}': StageStarted,
            b'{"event": "notice", "image": "a", "text": "t"}': Notice,
            b'{"event": "image-finished", "image": "a", "outcome": "built", "detail": ""}': (
                ImageFinished
            ),
            b'{"event": "bytes-done", "image": "a", "stage": "s", "digest": null,'
            b' "done_bytes": 1, "total_bytes": 2}': BytesDone,
        }
        for line, kind in lines.items():
            assert isinstance(conversion_process.parse_event(line), kind)
        for line in (
            b"error: words",
            b"{}",
            b'{"event": "notice", "image": 1, "text": "t"}',
            (
                b'{"event": "bytes-done", "image": "a", "stage": "s", "digest": "x",'
                b' "done_bytes": -1, "total_bytes": 2}'
            ),
            b"[" * 60_000,
        ):
            assert conversion_process.parse_event(line) is None

    def test_it_has_half_of_the_memory(self) -> None:
        """What an image asks for beyond that fails in its process, and is told as such."""
        wish = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + (2 << 30)
        before = resource.getrlimit(resource.RLIMIT_DATA)
        with pytest.raises(MemoryError), conversion_process.bounded_memory():
            bytearray(wish)
        assert resource.getrlimit(resource.RLIMIT_DATA) == before

    def test_threads_that_wait_for_servers_take_little_of_it(self) -> None:
        """Stacks count: two hundred of the usual size would be most of what small machines have."""
        before = threading.stack_size()
        with conversion_process.bounded_memory():
            assert threading.stack_size() == 1 << 20
        assert threading.stack_size() == before
