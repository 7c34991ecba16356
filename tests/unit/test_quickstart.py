"""The quick start's parts that need neither root nor LXD."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lxdocker_lxd.convert.inspection import inspect
from lxdocker_lxd.convert.layout import open_layout
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.reference import LayoutSource
from tests.harness.hostile_values import COMMANDS, CONTROLS, PORTS_NOT
from tests.harness.tiny_image import tiny_image

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "quickstart.sh"


def call(function: str, *, look_in: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run one function of the script with another root directory to look in."""
    done = subprocess.run(
        ["bash", "-c", f'. "$1"; LOOK_IN=$2; {function}', "bash", SCRIPT, look_in],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | (env or {}),
    )
    return done.returncode, done.stdout.strip()


def ask(question: str, *arguments: str, document: object = None) -> list[str]:
    """Ask the script's helper, as the script does."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart" / "answers.py", question, *arguments],
        check=True,
        capture_output=True,
        text=True,
        input=json.dumps(document),
    )
    return done.stdout.splitlines()


def program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


class TestWhereLxdIs:
    def test_debians_package(self, tmp_path: Path) -> None:
        program(tmp_path / "usr/bin/lxc")
        program(tmp_path / "usr/bin/lxd")
        expected = f"{tmp_path}/usr/bin/lxc {tmp_path}/var/lib/lxd"
        assert call("locate_lxd", look_in=tmp_path) == (0, expected)

    def test_the_snap_with_ubuntus_placeholder_beside_it(self, tmp_path: Path) -> None:
        program(tmp_path / "snap/bin/lxc")
        # Ubuntu ships /usr/sbin/lxc, which only offers to install the snap.
        program(tmp_path / "usr/sbin/lxc")
        expected = f"{tmp_path}/snap/bin/lxc {tmp_path}/var/snap/lxd/common/lxd"
        assert call("locate_lxd", look_in=tmp_path) == (0, expected)

    def test_a_client_alone_is_no_lxd(self, tmp_path: Path) -> None:
        program(tmp_path / "usr/bin/lxc")
        assert call("locate_lxd", look_in=tmp_path) == (1, "")

    def test_lxd_dir_decides(self, tmp_path: Path) -> None:
        program(tmp_path / "bin/lxc")
        program(tmp_path / "snap/bin/lxc")
        env = {"LXD_DIR": "/elsewhere", "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        code, found = call("locate_lxd", look_in=tmp_path, env=env)
        assert (code, found) == (0, f"{tmp_path}/bin/lxc /elsewhere")


class TestAnswers:
    @pytest.mark.parametrize(
        ("image", "name"),
        [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("ghcr.io/owner/Web_App:v2", "web-app"),
            ("host:5000/group/name@sha256:" + "a" * 64, "name"),
            ("oci:/srv/layouts/shop:latest", "shop"),
            ("oci-archive:/tmp/shop.tar", "shop"),
            ("specs/shop.yaml", "shop"),
            ("./layout", "layout"),
            ("---", "image"),
            ("x" * 100, "x" * 40),
        ],
    )
    def test_a_name_for_an_instance(self, image: str, name: str) -> None:
        assert ask("name", image) == [name]
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", name)

    def test_the_files_of_the_newest_version_for_this_machine(self) -> None:
        def entry(architecture: str, mark: str, *, newest: bool) -> dict[str, object]:
            files = {"metadata": f"{mark}.tar", "rootfs": f"{mark}.squashfs"}
            fields = {"name": "web", "architecture": architecture, "newest": newest}
            return {**fields, "fingerprint": mark, "files": files}

        document = {
            "images": [
                entry("arm64", "other", newest=True),
                entry("amd64", "new", newest=True),
                entry("amd64", "old", newest=False),
            ]
        }
        found = ask("files", "web", "amd64", document=document)
        assert found == ["new", "new.tar", "new.squashfs"]
        assert ask("files", "shop", "amd64", document=document) == []

    @pytest.mark.parametrize(
        ("exposed", "expected"),
        [
            ({"80/tcp": {}, "443/tcp": {}}, ["80"]),
            ({"53/udp": {}, "8053": {}}, ["8053"]),
            ({"53/udp": {}}, []),
            (None, []),
        ],
    )
    def test_the_port_to_ask(self, exposed: object, expected: list[str]) -> None:
        config = {"ExposedPorts": exposed} if exposed else {}
        document = {"products": [{"name": "web", "versions": [{"config": config}]}]}
        assert ask("port", "web", document=document) == expected

    def test_the_address_is_a_global_one(self) -> None:
        def address(family: str, scope: str, text: str) -> dict[str, str]:
            return {"family": family, "scope": scope, "address": text}

        local = {"addresses": [address("inet", "local", "127.0.0.1")]}
        both = [address("inet6", "global", "fd00::2"), address("inet", "global", "10.1.2.3")]
        network = {"lo": local, "eth0": {"addresses": both}}
        assert ask("address", document={"network": network}) == ["10.1.2.3"]
        assert ask("address", document={"network": None}) == []

    def test_what_the_default_profile_has(self) -> None:
        devices = {
            "eth0": {"type": "nic"},
            "data": {"type": "disk", "path": "/data"},
            "root": {"type": "disk", "path": "/"},
        }
        assert ask("devices", "root", document={"devices": devices}) == ["root"]
        assert ask("devices", "nic", document={"devices": devices}) == ["eth0"]
        assert ask("devices", "nic", document={"devices": {}}) == []

    def test_a_bridge_overlaps_no_route(self) -> None:
        # All of the private range is taken, but for one /24.
        routes = [{"dst": "default"}, {"dst": "10.64.0.0/11"}, {"dst": "10.96.1.0/24"}]
        routes += [{"dst": f"10.96.{third}.0/24"} for third in range(2, 256)]
        routes += [{"dst": f"10.{second}.0.0/16"} for second in range(97, 128)]
        assert ask("subnet", document=routes) == ["10.96.0.1/24"]

    def test_a_scalar_that_yaml_reads_back(self) -> None:
        assert ask("quoted", "oci:/a dir/#1: x") == ['"oci:/a dir/#1: x"']


def test_the_default_image_is_made_at_once_and_is_a_sound_one(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    # An ELF header is all that is looked at.
    busybox.write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\x00" + bytes(2_000_000))
    begun = time.monotonic()
    script = EXAMPLES / "quickstart" / "layout.py"
    subprocess.run([sys.executable, script, tmp_path / "page", busybox], check=True)
    assert time.monotonic() - begun < 2
    source = open_layout(LayoutSource(directory=str(tmp_path / "page"), tag="latest"))
    found = inspect(source, Platform(os="linux", architecture="amd64"), image="page")
    assert found.config.entrypoint[:2] == ("/bin/busybox", "httpd")
    assert found.config.exposed_ports == ("80/tcp",)


def test_a_mistake_is_one_line_with_the_next_step(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", '. "$1"; fail "the page is gone" "make it again"', "bash", SCRIPT],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: the page is gone\nhint: make it again\n"


def bash(script: str, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a text of this file's with the script's functions; strangers' texts are its arguments."""
    return subprocess.run(
        # The script runs by itself only where it is $0; and it must find no LXD of this machine.
        ["bash", "-c", f'. "$1"; shift; LOOK_IN=$PWD/none; {script}', "bash", SCRIPT, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory),
            "LXDOCKER_QUICKSTART_STATE": str(directory / "state"),
        },
        timeout=120,
    )


class TestTextsOfStrangers:
    """Whatever an image or a container says is never code, and never commands the terminal."""

    @pytest.mark.parametrize("text", PORTS_NOT)
    def test_what_is_no_port_is_never_asked(self, text: str) -> None:
        assert ask("port", "web", document=product({text: {}})) == []
        assert ask("port", "web", document=product({text: {}, "8080/tcp": {}})) == ["8080"]

    @pytest.mark.parametrize("text", ["80", "080/tcp", "8000-8010/TCP", "53/udp", "9/sctp", "1-2"])
    def test_the_converter_and_the_script_mean_the_same_by_a_port(self, text: str) -> None:
        found = ExposedPort.parse(text)
        assert found is not None
        expected = [str(found.first)] if found.protocol == "tcp" else []
        assert ask("port", "web", document=product({text: {}})) == expected

    @pytest.mark.parametrize("text", COMMANDS)
    def test_an_address_is_one_or_none_is_printed(self, text: str) -> None:
        entry = {"family": "inet", "scope": "global", "address": text}
        right = {**entry, "address": "10.1.2.3"}
        document = {"network": {"eth0": {"addresses": [entry, right]}}}
        assert ask("address", document=document) == ["10.1.2.3"]

    def test_no_function_runs_what_it_is_given(self, tmp_path: Path) -> None:
        script = """
            CLIENT=true DIRECTORY=/none ANSWER_SECONDS=100
            sleep() { SECONDS=1000; }
            for text in "$@"; do
                (SECONDS=0; wait_for_answer "$text" 127.0.0.1 "$text" 1) || true
                (SECONDS=0; wait_for_answer web "$text" 80 1) || true
                (step "$text" "$text"; fail "$text" "$text") || true
                (made "$text" "$text"; clean_one "$text" "$text") || true
                (show_log "$text"; say_what_next "$text") || true
                (INSTANCE=; write_specification "$text") || true
            done
            clean
        """
        done = bash(script, *COMMANDS, *CONTROLS[:-2], directory=tmp_path)
        assert "error: port" in done.stderr
        assert "accepts connections" not in done.stdout
        assert [path.name for path in tmp_path.rglob("*") if "pwned" in path.name] == []

    def test_a_containers_log_is_shown_and_not_obeyed(self, tmp_path: Path) -> None:
        client = tmp_path / "lxc"
        log = b"\n".join(text.encode("utf-8", "surrogateescape") for text in CONTROLS)
        (tmp_path / "log").write_bytes(log + b"\nplain words\r\n")
        client.write_text(f'#!/bin/sh\nexec cat "{tmp_path}/log"\n')
        client.chmod(0o755)
        done = bash("CLIENT=$1; DIRECTORY=; show_log web", str(client), directory=tmp_path)
        assert "    plain words\n" in done.stderr
        assert "^[]0;owned^G" in done.stderr
        assert all(letter == "\n" or letter.isprintable() for letter in done.stderr)

    @pytest.mark.parametrize("kind", ["own", "link", "file", "open"])
    def test_what_was_kept_is_believed_only_in_a_directory_of_ones_own(
        self, tmp_path: Path, kind: str
    ) -> None:
        state = tmp_path / "state"
        if kind == "link":
            (tmp_path / "elsewhere").mkdir()
            state.symlink_to("elsewhere")
        elif kind == "file":
            state.write_text("")
        else:
            state.mkdir()
            state.chmod(0o775 if kind == "open" else 0o755)
        done = bash("expect_own_state; echo believed", directory=tmp_path)
        assert (done.stdout == "believed\n") == (kind == "own")
        assert ("belongs to root alone" in done.stderr) == (kind != "own")


def product(exposed: object) -> object:
    """A catalogue of one image that exposes this."""
    versions = [{"config": {"ExposedPorts": exposed}}]
    return {"products": [{"name": "web", "versions": versions}]}


LXC = """#!/bin/sh
# A client that knows no images and one instance, which runs at this machine's own address.
printf '%s\\n' "$*" >>"{log}"
case "$*" in
    "query /1.0/instances/lxdocker-evil/state")
        echo '{{"status": "Running", "network": {{"eth0": {{"addresses": [
            {{"family": "inet", "scope": "global", "address": "127.0.0.1"}}]}}}}}}' ;;
    query*) exit 1 ;;
esac
"""


OLDER = """
import json, pathlib, sys
file = pathlib.Path(sys.argv[1])
document = json.loads(file.read_text())
for product in document["products"]:
    for version in product["versions"]:
        assert version["config"]["ExposedPorts"] == {{"1/tcp": {{}}}}
        version["config"]["ExposedPorts"] = {exposed!r}
file.write_text(json.dumps(document))
"""


@pytest.mark.tools
def test_a_hostile_image_goes_through_and_runs_nothing_on_the_host(tmp_path: Path) -> None:
    exposed: dict[str, object] = {text: {} for text in (*PORTS_NOT, "1/tcp")}
    config = {
        "ExposedPorts": exposed,
        "Entrypoint": list(COMMANDS),
        "Cmd": ["$(id>pwned)"],
        "Env": [f"{text}={text}" for text in COMMANDS],
        "Labels": {text: text for text in COMMANDS},
        "Volumes": {f"/{number}": {} for number in range(3)},
        "WorkingDir": "/$(id>pwned)",
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["CMD-SHELL", "id>pwned"]},
    }
    layout = tiny_image({"bin/app": b"program"}, config=config).write_layout(tmp_path / "evil")
    tools = {
        "lxc": LXC.format(log=tmp_path / "calls"),
        "converter": f'#!/bin/sh\nexec {sys.executable} -m lxdocker_lxd "$@"\n',
        "dpkg": "#!/bin/sh\necho amd64\n",
    }
    for name, text in tools.items():
        program(tmp_path / "bin" / name)
        (tmp_path / "bin" / name).write_text(text)
    script = """
        PATH=$1:$PATH CLIENT=$1/lxc DIRECTORY=/none CONVERTER=$1/converter
        ANSWER_SECONDS=6
        export LXDOCKER_LXD_IMAGEFORMAT=tar PYTHONPATH=$3
        mkdir "$STATE"
        write_specification "oci:$2:latest"
        convert_image
        python3 "$4" "$STATE/lxdimages/catalogue.json"
        launch
    """
    # As a converter would leave it that takes everything for a port.
    older = tmp_path / "older.py"
    older.write_text(OLDER.format(exposed=exposed))
    arguments = (str(tmp_path / "bin"), str(layout), str(EXAMPLES.parent), str(older))
    done = bash(f"set -e; {script}", *arguments, directory=tmp_path)
    # The one port that is a port was asked; nobody listens there.
    assert "error: port 1 of 127.0.0.1 does not answer" in done.stderr
    assert "ExposedPorts names what is no port" in done.stderr
    assert "launched     instance lxdocker-evil" in done.stdout
    assert [path for path in tmp_path.rglob("*") if "pwned" in path.name] == []
