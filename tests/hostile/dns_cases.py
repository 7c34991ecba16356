"""What a resolver may say: about this machine's own name, when its certificate is made."""

import socket
import subprocess
from functools import partial
from pathlib import Path

from lxdocker_lxd.serve.this_host import server_names
from tests.hostile.case import HostileCase
from tests.hostile.namespaces import own_mounts


def named(place: Path, name: str) -> None:
    """Let the resolver call this machine ``name``; neither CA nor certificate may take it over."""
    hosts = place / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n203.0.113.9 {name} {socket.gethostname()}\n")
    own_mounts()
    subprocess.run(["/bin/mount", "--bind", hosts, "/etc/hosts"], check=True)
    answers = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)
    assert name in {answer[3] for answer in answers}, answers
    found = server_names()
    assert name not in found.dns
    assert not any(one.endswith("bank.example.com") for one in found.dns)


CASES = tuple(
    HostileCase(
        party="DNS",
        name=f"calls this machine {name}",
        meet=partial(named, name=name),
        needs_root=True,
    )
    for name in ("www.bank.example.com", "bank.example.com", "localhost.bank.example.com")
)
