"""Rules of ARCHITECTURE.md that a tool can hold: one door per outside system, a pure middle.

The direction of imports is import-linter's job (.importlinter).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lxdocker_lxd"
MOST_LINES = 450
MOST_FUNCTION_LINES = 60

DOORS = {
    "pylxd": {"lxd/api.py"},
    "ws4py": {"lxd/websocket.py"},
    "requests": {
        "convert/registry/transport.py",
        "http_session.py",
        "clients/tree_http.py",
        "lxd/api.py",
        "lxd/unix_http.py",
        "update/image_server_http.py",
        "update/webhook.py",
    },
    "urllib3": {
        "convert/registry/transport.py",
        "http_session.py",
        "lxd/unix_http.py",
    },
    "rich": {"terminal_progress.py", "terminal_rounds.py"},
    "yaml": {"setup/remote_config.py", "spec_yaml.py", "convert/metadata.py"},
    "subprocess": {
        "convert/registry/credentials.py",
        "convert/packing/squashfs.py",
        "convert/conversion_process.py",
        "clients/gpg.py",
        "setup/accounts.py",
        "setup/server_process.py",
        "setup/systemd.py",
        "setup/system_trust.py",
        "update/host_program.py",
    },
    "isal": {"convert/layer/compression.py"},
    # Locks, but for the pipe's size there and the copy of blocks here.
    "fcntl": {"atomic.py", "convert/packing/squashfs.py", "serve/export_directory.py"},
    "cryptography": {"serve/certificate.py"},
    "quart": {"serve/app.py"},
    "hypercorn": {"serve/connection.py"},
    "werkzeug": {"serve/app.py", "serve/answer.py"},
    "jinja2": {"serve/pages/page_templates.py"},
    "markupsafe": {"serve/pages/page_templates.py"},
}

PURE = (
    "reference.py",
    "annotations.py",
    "platform.py",
    "interpretation.py",
    "spec.py",
    "spec_values.py",
    "spec_yaml.py",
    "settings.py",
    "setting.py",
    "serve/settings.py",
    "serve/request_path.py",
    "serve/answer.py",
    "catalogue.py",
    "catalogue_document.py",
    "instance_keys.py",
    "guest_health.py",
    "control_characters.py",
    "exposed_port.py",
    "json_bounds.py",
    "secret_value.py",
    "convert/oci.py",
    "convert/image_config.py",
    "convert/json_document.py",
    "convert/overrides.py",
    "convert/rebuild.py",
    "convert/report_document.py",
    "convert/account.py",
    "convert/guest_files.py",
    "convert/guest_writer.py",
    "convert/lxc_files.py",
    "convert/metadata.py",
    "convert/stop_signal.py",
    "convert/supervisor.py",
    "convert/layer/merge.py",
    "convert/layer/tree.py",
    "convert/layer/inode.py",
    "convert/layer/entry_name.py",
    "convert/layer/tar_header.py",
    "convert/layer/pax.py",
    "convert/registry/challenge.py",
    "convert/registry/credential_file.py",
    "convert/registry/bearer_token.py",
    "convert/registry/header_number.py",
    "convert/registry/refusal.py",
    "convert/registry/settings.py",
    "setup/client_items.py",
    "setup/contained.py",
    "setup/contained_items.py",
    "setup/endpoint.py",
    "setup/facts.py",
    "setup/file_items.py",
    "setup/hand.py",
    "setup/host_tables.py",
    "setup/item.py",
    "setup/items.py",
    "setup/lxd_items.py",
    "setup/plan.py",
    "setup/record.py",
    "setup/remote_config.py",
    "setup/specimen.py",
    "setup/subnet.py",
    "setup/units.py",
    "setup/wish.py",
    "serve/certificate.py",
    "serve/xz_integrity.py",
    "clients/document.py",
    "clients/image_registry.py",
    "clients/lxc_images.py",
    "clients/remote_address.py",
    "clients/simplestreams.py",
    "clients/tree.py",
    "serve/stream_rules.py",
    "serve/lxc_rules.py",
    "serve/finding.py",
    "serve/export_plan.py",
    "serve/export_record.py",
    "serve/server_names.py",
    "serve/staging.py",
    "serve/alias_claims.py",
    "serve/stream_document.py",
    "serve/streams.py",
    "serve/views.py",
    "serve/remotes.py",
    "serve/image_registry.py",
    "update/stream_listing.py",
    "update/transaction.py",
    "update/configuration.py",
    "update/identity.py",
    "update/procedure.py",
    "update/stop_timeout.py",
    "update/remapping.py",
    "update/attempt.py",
    "update/user_change.py",
    "update/view.py",
    "update/journal_record.py",
    "update/window.py",
    "update/quantity.py",
    "update/bounded_json.py",
    "update/cause.py",
    "update/rejection.py",
    "update/release.py",
    "update/delay.py",
    "update/source.py",
    "update/enrolment.py",
    "update/plan.py",
    "update/problem.py",
    "update/root_disk.py",
    "update/volume_policy.py",
    "update/holder.py",
    "update/retention.py",
    "update/liveness.py",
    "update/health.py",
    "update/health_check.py",
    "update/means.py",
    "update/notification.py",
    "update/redaction.py",
    "update/message_template.py",
    "update/delivery.py",
    "update/hook.py",
    "update/metrics.py",
    "update/standing.py",
    "update/call.py",
    "update/settings.py",
    "lxd/records.py",
    "lxd/certificate_time.py",
    "lxd/resources.py",
    "lxd/server_records.py",
    "lxd/calls.py",
    "lxd/failures.py",
    "lxd/document.py",
    "lxd/decoding.py",
    "lxd/refusal.py",
    "lxd/interruption.py",
    "lxd/paths.py",
    "lxd/request.py",
    "lxd/instance_requests.py",
    "lxd/image_requests.py",
    "lxd/server_requests.py",
    "lxd/volume_requests.py",
    "lxd/storage_drivers.py",
    "lxd/event_document.py",
    "lxd/ports.py",
    "lxd/image_ports.py",
    "lxd/instance_ports.py",
    "lxd/resource_ports.py",
    "lxd/server_ports.py",
    "serve/lxc_config.py",
    "serve/lxc_index.py",
    "serve/lxc_metadata.py",
    "serve/run_config.py",
    "serve/version_comparison.py",
    "serve/pages/catalog.py",
    "serve/pages/client_commands.py",
    "serve/pages/image_document.py",
    "serve/pages/image_search.py",
    "serve/pages/image_view.py",
    "serve/pages/legible.py",
    "serve/pages/update_feed.py",
    "importing/naming.py",
    "importing/lxc_remotes.py",
    "importing/import_record.py",
    "importing/source_choice.py",
    "launching/environment.py",
    "launching/ports.py",
    "launching/volumes.py",
)
IMPURE_MODULES = {
    "os",
    "subprocess",
    "socket",
    "shutil",
    "tempfile",
    "time",
    "random",
    "secrets",
    "requests",
    "threading",
    "fcntl",
}
IMPURE_CALLS = {
    "open",
    "now",
    "today",
    "utcnow",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
}


def modules() -> Iterator[Path]:
    return PACKAGE.rglob("*.py")


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


# A tar archive written to bytes in memory.
ALLOWED_CALLS = {"convert/metadata.py": {"open"}, "serve/lxc_metadata.py": {"open"}}


@pytest.mark.parametrize("outside", sorted(DOORS))
def test_each_outside_system_has_its_doors(outside: str) -> None:
    users = {str(path.relative_to(PACKAGE)) for path in modules() if outside in imported(path)}
    assert users == DOORS[outside]


@pytest.mark.parametrize("name", PURE)
def test_the_middle_is_pure(name: str) -> None:
    path = PACKAGE / name
    assert not imported(path) & IMPURE_MODULES
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not calls & IMPURE_CALLS - ALLOWED_CALLS.get(name, set())


def test_modules_and_functions_stay_small() -> None:
    for path in modules():
        text = path.read_text()
        assert text.count("\n") <= MOST_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MOST_FUNCTION_LINES, f"{path}: {node.name}"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager"}
    assert not [path for path in modules() if path.stem in drawers]


def test_only_the_console_and_its_displays_print() -> None:
    printing = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    assert printing == set()


def test_only_the_command_line_exits() -> None:
    exiting = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if "sys.exit" in path.read_text() or "SystemExit" in path.read_text()
    }
    assert exiting == {"cli.py"}
