"""What a specification changes in an image's configuration."""

from dataclasses import replace

import pytest

from lxdocker_lxd.convert.image_config import Healthcheck, ImageConfig, parse_image_config
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.overrides import change_files, config_fields, overridden
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.spec import parse_spec

RAW = b"""{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []},
"config": {"Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/run.sh"], "Cmd": ["serve"], "User": "web",
"WorkingDir": "/srv", "StopSignal": "SIGQUIT", "Volumes": {"/data": {}},
"ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"},
"Healthcheck": {"Test": ["CMD", "check"], "Interval": 30000000000, "Retries": 4}}}"""
IMAGE = parse_image_config(RAW, what="test")


def changed(text: str, image: ImageConfig = IMAGE) -> ImageConfig:
    return overridden(image, parse_spec(f"image: x\n{text}", name="web", file="web.yaml"))


def test_a_specification_that_says_nothing_changes_nothing() -> None:
    assert changed("") == IMAGE


def test_environment_is_set_over_the_images_and_may_be_removed() -> None:
    assert changed("env: {B: 2, A: 3}\n").env == ("PATH=/bin", "A=3", "B=2")
    assert changed("env: {A: }\n").env == ("PATH=/bin",)
    assert changed("env: {MISSING: }\n").env == IMAGE.env


def test_a_new_entrypoint_drops_the_command_meant_for_the_old_one() -> None:
    found = changed("entrypoint: [/other]\n")
    assert (found.entrypoint, found.cmd) == (("/other",), ())
    found = changed("entrypoint: [/other]\ncmd: [x]\n")
    assert (found.entrypoint, found.cmd) == (("/other",), ("x",))


def test_a_new_command_keeps_the_entrypoint() -> None:
    found = changed("cmd: [x, y]\n")
    assert (found.entrypoint, found.cmd) == (("/run.sh",), ("x", "y"))
    assert changed("cmd: []\n").cmd == ()


def test_the_rest_is_replaced_each_by_itself() -> None:
    found = changed("user: 5\nworking_dir: /\nstop_signal: 9\nvolumes: []\nports: [53/udp]\n")
    assert (found.user, found.working_dir, found.stop_signal) == ("5", "/", "9")
    assert (found.volumes, found.exposed_ports) == ((), ("53/udp",))


def test_a_stop_timeout_is_kept_under_dockers_name_zero_too() -> None:
    assert "StopTimeout" not in config_fields(changed(""))
    assert config_fields(changed("stop_timeout: 0\n"))["StopTimeout"] == 0
    assert config_fields(changed("stop_timeout: 90\n"))["StopTimeout"] == 90


def test_a_health_check_is_merged_field_by_field_or_switched_off() -> None:
    assert changed("healthcheck: {timeout: 2s}\n").healthcheck == Healthcheck(
        test=("CMD", "check"),
        interval_seconds=30,
        timeout_seconds=2,
        start_period_seconds=None,
        retries=4,
    )
    found = changed("healthcheck: {test: curl x}\n").healthcheck
    assert found is not None
    assert found.test == ("CMD-SHELL", "curl x")
    assert changed("healthcheck: {disable: true}\n").healthcheck is None
    assert changed("healthcheck: {test: [NONE]}\n").healthcheck is None


def test_times_without_a_test_are_a_mistake() -> None:
    with pytest.raises(UsageError, match="there is no test, and the image has none either"):
        changed("healthcheck: {interval: 5s}\n", replace(IMAGE, healthcheck=None))


def test_the_catalogue_has_the_keys_of_an_image_configuration() -> None:
    fields = config_fields(IMAGE)
    assert fields["Healthcheck"] == {
        "Test": ["CMD", "check"],
        "Interval": 30_000_000_000,
        "Retries": 4,
    }
    assert fields["Volumes"] == {"/data": {}}
    assert fields["Env"] == ["PATH=/bin", "A=1"]
    empty = b'{"rootfs": {"type": "layers", "diff_ids": []}}'
    assert config_fields(parse_image_config(empty, what="test")) == {"WorkingDir": "/"}


def test_the_longest_health_check_durations_stay_within_64_bits() -> None:
    raw = RAW.replace(b"30000000000", str(2**63 - 1).encode())
    check = config_fields(parse_image_config(raw, what="test"))["Healthcheck"]
    assert isinstance(check, dict)
    assert check["Interval"] == 2**63 - 1
    changed("healthcheck: {interval: 2562047h}\n")
    for text in ("2562048h", "9" * 5000 + "s", "9" * 5000 + "h"):
        with pytest.raises(UsageError, match=r"web\.yaml:2:.*at most 292 years"):
            changed(f"healthcheck: {{interval: {text}}}\n")


def test_a_file_of_the_image_is_not_turned_into_a_directory() -> None:
    """``files: /app/y`` made a directory of the program ``/app``."""
    text = "files: [{path: /app/y, content: x}]\n"
    spec = parse_spec(f"image: x\n{text}", name="web", file="web.yaml")
    tree = Tree()
    tree.put_file(b"app", b"program", mode=0o755)
    with pytest.raises(UsageError, match=r"files: /app/y can't be made: '/app' is in the way"):
        change_files(tree, spec.files, {}, mtime_ns=0)
    app = tree.lookup(b"app")
    assert app is not None
    assert app.content == b"program"
