"""What lets this machine's users, and programs, reach an image server by its remote. Pure."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from lxdocker_lxd.setup.facts import ClientFacts
from lxdocker_lxd.setup.file_items import directory
from lxdocker_lxd.setup.item import Item


def client_items(
    clients: Iterable[ClientFacts],
    url: str,
    remote: str,
    *,
    pinned: Path | None,
    trust: Path | None,
) -> Iterator[Item]:
    """Yield directories, trust and remote for each of ``clients``.

    ``pinned`` is the file with the local CA, None where the system trusts the server. ``trust`` is
    where the whole system looks for authorities, None to leave it alone.
    """
    for client in clients:
        for path in client.missing:
            yield directory(path, "0750", client.user, "keep", acting=client.user)
        if pinned:
            yield Item(
                kind="copy",
                name=str(client.directory / "servercerts" / f"{remote}.crt"),
                wanted={"of": str(pinned), "mode": "0644", "as": client.user},
                text=f"trust of the local CA for {client.user}",
                reason=f"pinned to the remote {remote} only",
                policy="insist",
            )
        yield _remote_of(client, url, remote)
    if trust and pinned:
        yield Item(
            kind="trust",
            name=str(trust),
            wanted={"of": str(pinned), "mode": "0644"},
            text="trust of the local CA for the whole system",
            reason="asked for with --system-trust",
            policy="insist",
        )


def _remote_of(client: ClientFacts, url: str, remote: str) -> Item:
    file = client.directory / "config.yml"
    return Item(
        kind="remote",
        name=f"{file}#{remote}",
        wanted={"addr": url, "protocol": "simplestreams", "public": "true", "as": client.user},
        text=f"remote {remote} for {client.user}",
        reason=f"{url}, written into {file}",
        policy="claim",
        hint="give another name with --remote-name, or remove that remote first:"
        f" `lxc remote remove {remote}`",
    )
