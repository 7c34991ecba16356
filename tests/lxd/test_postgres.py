"""PostgreSQL from Debian's package, launched as its image asks: user, volume, port, secret.

Building the image takes a minute; so this belongs to the full run (LXDOCKER_TEST_FULL=1). The same
way with a smaller database is in test_launch.
"""

import json
import os
import socket
from pathlib import Path

import pytest

from tests.harness.image_builder import _Builder
from tests.harness.image_server import free_port
from tests.harness.images import PATH, Recipe
from tests.harness.lxd import PrivateLxd
from tests.lxd.user import User

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

DATA = "/var/lib/postgresql/data"
PROGRAMS = "/usr/lib/postgresql/15/bin"
SECRET = "s3cret 'pass"
POSTGRES = Recipe(
    name="postgres",
    packages=("postgresql-15",),
    script=r"""
cat >/docker-entrypoint.sh <<'END'
#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	printf %s "$POSTGRES_PASSWORD" >/tmp/password
	initdb -U postgres --pwfile=/tmp/password --auth=scram-sha-256 >/dev/null
	rm /tmp/password
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
END
chmod 755 /docker-entrypoint.sh
mkdir -p /var/lib/postgresql/data
chown postgres:postgres /var/lib/postgresql/data
chmod 700 /var/lib/postgresql/data
""",
    config={
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "Env": [f"PATH={PROGRAMS}:{PATH}", f"PGDATA={DATA}"],
        "User": "postgres",
        "Volumes": {DATA: {}, "/var/run/linked": {}},
        "ExposedPorts": {"5432/tcp": {}},
        "StopSignal": "SIGINT",
    },
)
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class TestPostgres:
    """A real database."""

    __test__ = os.environ.get("LXDOCKER_TEST_FULL") == "1"

    def test_it_keeps_its_data_and_its_secret(
        self, private_lxd: PrivateLxd, tmp_path: Path
    ) -> None:
        _Builder(tmp_path / "build", tmp_path / "layout").build([POSTGRES])
        user = User(lxd=private_lxd, home=tmp_path / "home")
        (user.home / "env").write_text(f"POSTGRES_PASSWORD={SECRET}\n")
        port = free_port()
        words = (
            *("launch", f"oci:{tmp_path}/layout:postgres", "db", "--wait"),
            *("--env-file", str(user.home / "env"), "--publish", f"{port}:5432"),
        )
        try:
            said = user.run(*words, "--progress", "plain")
            owners = user.lxd.shell("db", f"stat -c '%U:%G %a' {DATA} /run/linked")
            assert owners == "postgres:postgres 700\nroot:root 755\n"
            self.sql(user, "create table kept (a int); insert into kept values (42)")
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(SSL_REQUEST)
                assert connection.recv(1) in {b"N", b"S"}
            log = user.run("logs", "db").out
            assert "database system is ready" in log
            assert SECRET not in log + said.out + said.err + json.dumps(user.images())
            user.lxd.stop("db")
            user.lxd.delete("db")
            user.run(*words)
            assert self.sql(user, "select a from kept") == "42\n"
        finally:
            user.clean()

    @staticmethod
    def sql(user: User, text: str) -> str:
        """Run a statement as the superuser, with the password."""
        words = (f"{PROGRAMS}/psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc", text)
        done = user.lxd.lxc("exec", "db", "--env", f"PGPASSWORD={SECRET}", "--", *words)
        return done.stdout
