"""A token server as registries use it: checks credentials, signs JWTs, remembers each request.

The tokens are RS256 with an ``x5c`` header, which is what docker-registry's ``rootcertbundle``
verifies. Names starting with ``public/`` may be pulled without credentials.
"""

import base64
import contextlib
import json
import secrets
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.harness.http_server import serving

SERVICE = "test-registry"
ISSUER = "test-issuer"


@cache
def _signing_key() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def sign(claims: Mapping[str, object]) -> str:
    """Return a JWT with ``claims``."""
    key, certificate = _signing_key()
    chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
    text = f"{_segment(json.dumps(header).encode())}.{_segment(json.dumps(claims).encode())}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_segment(signature)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One request the server got; ``user`` is empty for an anonymous one."""

    method: str
    scopes: tuple[str, ...]
    user: str
    grant: str


@dataclass
class TokenServer:
    """A running token server.

    ``passwords`` may log in; ``identity_tokens`` may be exchanged by POST, unless ``post_status``
    names another answer. ``lifetime_seconds`` counts for both the JWT and ``expires_in``.
    """

    realm: str = ""
    passwords: dict[str, str] = field(default_factory=dict)
    identity_tokens: set[str] = field(default_factory=set)
    lifetime_seconds: int = 300
    post_status: int = 200
    requests: list[TokenRequest] = field(default_factory=list)

    def write_certificate(self, path: Path) -> None:
        """Write the ``rootcertbundle`` a registry needs to believe the tokens."""
        path.write_bytes(_signing_key()[1].public_bytes(serialization.Encoding.PEM))

    def allowed(self, scope: str, *, known: bool) -> bool:
        """Whether a scope ``repository:NAME:pull`` is granted."""
        kind, _, rest = scope.partition(":")
        return kind == "repository" and (known or rest.startswith("public/"))

    def answer(self, scopes: tuple[str, ...], *, known: bool) -> dict[str, object]:
        """Return the body of a token answer."""
        now = int(time.time())
        access = []
        for scope in scopes:
            if self.allowed(scope, known=known):
                kind, _, rest = scope.partition(":")
                name, _, actions = rest.rpartition(":")
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims: dict[str, object] = {
            "iss": ISSUER,
            "sub": "",
            "aud": SERVICE,
            "exp": now + self.lifetime_seconds,
            "nbf": now - 60,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        return {"token": sign(claims), "expires_in": self.lifetime_seconds}


@contextlib.contextmanager
def token_server(
    *, passwords: Mapping[str, str] | None = None, identity_tokens: tuple[str, ...] = ()
) -> Iterator[TokenServer]:
    """Yield a token server that runs until the block ends."""
    state = TokenServer(passwords=dict(passwords or {}), identity_tokens=set(identity_tokens))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            user, known = self._login()
            scopes = tuple(query.get("scope", []))
            state.requests.append(
                TokenRequest(method="GET", scopes=scopes, user=user, grant="password")
            )
            if user and not known:
                self._send(401, {"details": "incorrect username or password"})
            else:
                self._send(200, state.answer(scopes, known=known))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = urllib.parse.parse_qs(body)
            scopes = tuple(" ".join(form.get("scope", [])).split())
            grant = form.get("grant_type", [""])[0]
            state.requests.append(TokenRequest(method="POST", scopes=scopes, user="", grant=grant))
            if state.post_status != 200:
                self._send(state.post_status, {})
            elif form.get("refresh_token", [""])[0] not in state.identity_tokens:
                self._send(401, {"details": "unknown identity token"})
            else:
                self._send(200, state.answer(scopes, known=True))

        def _login(self) -> tuple[str, bool]:
            kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
            if kind != "Basic":
                return "", False
            user, _, password = base64.b64decode(encoded).decode().partition(":")
            return user, state.passwords.get(user) == password

        def _send(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
            """Keep quiet."""

    with serving(Handler) as server:
        state.realm = f"http://{server.host}/token"
        yield state
