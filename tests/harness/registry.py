"""A real docker-registry on a loopback port, plain or guarded; it ends with its block.

    with real_registry(tmp_path / "registry") as registry:
        digest = registry.push_layout(tmp_path / "layout", "latest", "library/web:1.0")
        ... f"{registry.host}/library/web:1.0" ...

The port is chosen by the kernel and read from the registry's log, so several run side by side.
Everything a registry writes stays in the directory given.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import trustme

from tests.harness.http_server import serving
from tests.harness.processes import eventually, run
from tests.harness.token_server import ISSUER, SERVICE, TokenServer

USER = "tester"
PASSWORD = "open sesame"
# docker-registry takes bcrypt only, which Python's standard library can't make.
_HTPASSWD = f"{USER}:$2y$05$.9YsU1m6h5ME0tbUaGxceug1z9VtiPG3zgUeTGCKG9Dt2ZasgaGYO\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRegistry:
    """A running registry. ``host`` is ``127.0.0.1:PORT``; ``ca_file`` is set when it speaks TLS."""

    host: str
    directory: Path
    credentials: str = ""
    ca_file: Path | None = None

    def push_layout(self, directory: Path, tag: str, name: str) -> str:
        """Push what ``tag`` names in an OCI layout as ``name[:tag]``; return its digest.

        Bytes are kept as they are, with all platforms of an index.
        """
        digest_file = self.directory / "pushed-digest"
        path = name if ":" in name else f"{name}:{tag}"
        run(
            *("skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests"),
            *("--dest-tls-verify=false", "--digestfile", digest_file),
            *(("--dest-creds", self.credentials) if self.credentials else ("--dest-no-creds",)),
            f"oci:{directory}:{tag}",
            f"docker://{self.host}/{path}",
        )
        return digest_file.read_text().strip()

    def log(self) -> list[str]:
        """Return the lines the registry has logged so far, one per request among them."""
        return (self.directory / "log").read_text("utf-8", "replace").splitlines()

    def storage_of(self, digest: str) -> Path:
        """Return the file in which the registry keeps a blob, for tests that damage it."""
        algorithm, _, encoded = digest.partition(":")
        return (
            self.directory
            / "storage/docker/registry/v2/blobs"
            / algorithm
            / encoded[:2]
            / encoded
            / "data"
        )


@contextlib.contextmanager
def real_registry(
    directory: Path,
    *,
    htpasswd: bool = False,
    tokens: TokenServer | None = None,
    tls: bool = False,
    redirect_to: str | None = None,
) -> Iterator[RealRegistry]:
    """Yield a registry with an empty store below ``directory``, until the block ends.

    ``htpasswd``: only USER with PASSWORD may use it. ``tokens``: it believes that token server.
    ``tls``: it speaks https with a certificate of an authority of its own. ``redirect_to``: blobs
    are redirected to that base URL, as registries with a content network do.
    """
    directory.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "storage")},
            "delete": {"enabled": True},
        },
        "http": {"addr": "127.0.0.1:0"} | ({"tls": _certificate(directory)} if tls else {}),
    }
    if redirect_to:
        options = {"baseurl": redirect_to}
        settings["middleware"] = {"storage": [{"name": "redirect", "options": options}]}
    if htpasswd:
        (directory / "htpasswd").write_text(_HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    elif tokens is not None:
        bundle = directory / "token-roots.pem"
        tokens.write_certificate(bundle)
        settings["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(bundle),
            }
        }
    # JSON is YAML, and needs no quoting rules.
    (directory / "config.yml").write_text(json.dumps(settings))
    with _running(directory) as host:
        if tokens is not None and tokens.passwords:
            credentials = ":".join(next(iter(tokens.passwords.items())))
        else:
            credentials = f"{USER}:{PASSWORD}" if htpasswd else ""
        yield RealRegistry(
            host=host,
            directory=directory,
            credentials=credentials,
            ca_file=directory / "ca.pem" if tls else None,
        )


def _certificate(directory: Path) -> dict[str, str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(directory / "tls-key.pem")
    with (directory / "tls.pem").open("wb") as file:
        for pem in issued.cert_chain_pems:
            file.write(pem.bytes())
    return {"certificate": str(directory / "tls.pem"), "key": str(directory / "tls-key.pem")}


@contextlib.contextmanager
def _running(directory: Path) -> Iterator[str]:
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")],
            # Its settings can also come from REGISTRY_* variables; a test's come from its file.
            env={"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:

        def listening() -> str:
            if process.poll() is not None:
                raise AssertionError(f"docker-registry ended: {log.read_text()[-2000:]}")
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
            return found[1] if found else ""

        yield eventually(listening, timeout_seconds=20, what="docker-registry's port")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)


@dataclass
class ContentNetwork:
    """The host blobs are redirected to; ``authorizations`` are those that leaked to it."""

    url: str = ""
    root: Path = Path("/nonexistent")
    paths: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)


@contextlib.contextmanager
def content_network() -> Iterator[ContentNetwork]:
    """Yield a server that hands out the files below its ``root``, whole or from an offset.

    Set ``root`` to the registry's ``storage`` directory once the registry runs.
    """
    state = ContentNetwork()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            state.paths.append(self.path)
            if "Authorization" in self.headers:
                state.authorizations.append(self.headers["Authorization"])
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            content = (state.root / path.lstrip("/")).read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                end = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
            """Keep quiet."""

    with serving(Handler) as server:
        state.url = f"http://{server.host}"
        yield state
