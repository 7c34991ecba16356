"""Who becomes PID 1, why, and what an operator has to set."""

import pytest

from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.supervisor import supervisor_choice
from tests.guest.lxd_guest import bare_tree, image_config


def choice(
    tree: Tree | None, *command: str, disable: bool | None = None, path: str = "", signal: int = 15
) -> tuple[str, str, int | None]:
    config = image_config(entrypoint=command, env=[f"PATH={path}"] if path else [])
    chosen = supervisor_choice(tree, config, disable, stop_signal=signal)
    assert chosen.reason
    assert (chosen.halt_hint == "") == (chosen.halt_signal is None)
    return chosen.mode, chosen.init, chosen.halt_signal


@pytest.mark.parametrize(
    ("program", "init", "halt_signal"),
    [
        ("/usr/bin/tini", "tini", 3),
        ("/sbin/docker-init", "tini", 3),
        ("/usr/bin/dumb-init", "dumb-init", None),
        ("/usr/bin/catatonit", "catatonit", 3),
        ("/bin/s6-svscan", "s6", None),
        ("/lib/systemd/systemd", "systemd", None),
        ("/sbin/runit-init", "runit", None),
        ("/sbin/my_init", "my_init", 15),
        ("/sbin/init", "init", None),
    ],
)
def test_known_inits_become_pid_1(program: str, init: str, halt_signal: int | None) -> None:
    tree = bare_tree({program: b""})
    assert choice(tree, program, "x", signal=3) == ("exec", init, halt_signal)


def test_names_are_looked_up_in_the_image_s_path_and_links_followed() -> None:
    tree = bare_tree({"opt/tini-0.19/tini": b"", "bin/app": b""})
    tree.put_symlink(b"opt/bin/start", b"../tini-0.19/tini")
    assert choice(tree, "start", path="/nowhere:/opt/bin") == ("exec", "tini", 15)
    assert choice(tree, "start", path="/bin") == ("supervise", "", None)
    systemd = bare_tree({"lib/systemd/systemd": b""})
    systemd.put_symlink(b"sbin/init", b"/lib/systemd/systemd")
    assert choice(systemd, "/sbin/init") == ("exec", "systemd", None)


def test_slash_init_is_s6_overlay_only_with_its_files() -> None:
    assert choice(bare_tree({"init": b""}), "/init") == ("supervise", "", None)
    for file in ("command/s6-overlay-suexec", "etc/s6/init/env", "etc/s6-overlay/x"):
        tree = bare_tree({"init": b"", file: b""})
        assert choice(tree, "/init") == ("exec", "s6-overlay", None)


def test_other_programs_are_supervised() -> None:
    tree = bare_tree({"bin/app": b"", "opt/init": b""})
    tree.put_symlink(b"bin/loop", b"loop")
    for command in (["app"], ["/opt/init"], ["missing"], ["loop"], []):
        assert choice(tree, *command)[0] == "supervise"


@pytest.mark.parametrize(
    "word",
    ["../app", "bin/../../app", "", "/bin/sh -c " + "x" * 300, "a" * 300, "../../..", "a\0b"],
)
def test_words_that_are_no_clean_names_refuse_no_image(word: str) -> None:
    """Each of these failed as an unsafe name, though Docker runs the image."""
    assert choice(bare_tree({"app": b""}), word) == ("supervise", "", None)


def test_relative_words_count_from_the_working_directory() -> None:
    tree = bare_tree({"usr/tini": b"", "opt/x": b""})
    tree.put_symlink(b"bin/start", b"../../../usr/tini")
    assert choice(tree, "/bin/start") == ("exec", "tini", 15)
    for word in ("../usr/tini", "../../bin/start"):
        config = image_config(entrypoint=[word], working_dir="/opt")
        assert supervisor_choice(tree, config, None, stop_signal=15).init == "tini"
    # Nothing there: the name alone makes no init.
    assert choice(tree, "/opt/tini") == ("supervise", "", None)


def test_the_spec_decides() -> None:
    tree = bare_tree({"bin/tini": b"", "bin/app": b""})
    assert choice(tree, "tini", disable=False) == ("supervise", "tini", None)
    # Without a supervisor nothing translates: the program's own stop signal has to be set.
    assert choice(tree, "app", disable=True, signal=2) == ("exec", "", 2)
    assert choice(tree, "tini", disable=True) == ("exec", "tini", 15)


def test_without_files_the_name_decides() -> None:
    assert choice(None, "/init") == ("exec", "s6-overlay", None)
    assert choice(None, "tini", signal=3) == ("exec", "tini", 3)
    assert choice(None, "nginx") == ("supervise", "", None)
