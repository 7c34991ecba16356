"""Who is at the other end of a connection, and how peers share what there is only so much of.

Peers are told apart by their addresses alone. While places are free anybody may take one, so many clients behind
one address (a proxy, a company) are served as well as many addresses are. When all are taken, whoever
holds the most makes room for whoever holds fewer.
"""

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

LEAST_BYTES_A_SECOND = 16 * 1024
"""Who takes less makes room when all places are taken."""
_HEAD_START_BYTES = 512 * 1024
"""Counts as taken already: after half a minute a client that takes nothing is a slow one."""
_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """An address, and the network that its holder can take any other address of.

    That is the address itself for IPv4, and its /64 for IPv6 (RFC 4291 2.5.1). Both are empty for the
    server itself and for sockets without addresses.
    """

    address: str
    network: str

    @classmethod
    def of(cls, host: str | None) -> "Peer":
        """Return who has this address, as the system writes it."""
        try:
            address = ipaddress.ip_address((host or "").partition("%")[0])
        except ValueError:
            return cls("", "")
        if isinstance(address, ipaddress.IPv4Address):
            return cls(str(address), str(address))
        # A socket for both protocols shows IPv4 addresses within IPv6 ones (RFC 4291 2.5.5.2).
        if address.ipv4_mapped is not None:
            return cls(str(address.ipv4_mapped), str(address.ipv4_mapped))
        network = ipaddress.ip_network((address, _NETWORK_BITS), strict=False)
        return cls(str(address), str(network))

    @property
    def is_loopback(self) -> bool:
        """Whether the address is one of the machine's own. Proxies there have it too."""
        return bool(self.address) and ipaddress.ip_address(self.address).is_loopback


def pace(taken_bytes: int, since: float, now: float) -> float:
    """Return the bytes a second that were taken ``since``; who just began is taken for a fast one."""
    return (taken_bytes + _HEAD_START_BYTES) / (now - since + 1)


class Holder(Protocol):
    """Who has a place."""

    @property
    def peer(self) -> Peer:
        """Whose it is."""
        ...

    def pace(self, now: float, /) -> float:
        """Return the bytes a second it takes; below zero, and lower with time, where it is idle."""
        ...

    def displace(self) -> None:
        """End it: its place is somebody else's now."""
        ...


_Holder = TypeVar("_Holder", bound=Holder)
_Made = TypeVar("_Made")


class Places(Generic[_Holder]):
    """Places for what peers do at the same time. For one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._holders: dict[_Holder, None] = {}
        self._networks: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many are taken."""
        return len(self._holders)

    def __iter__(self) -> Iterator[_Holder]:
        """Yield who has a place now."""
        return iter(tuple(self._holders))

    def take(self, holder: _Holder) -> bool:
        """Take a place for ``holder``, if need be another's; False when none is to be had."""
        if self.count >= self.most and not self.make_room(holder.peer):
            return False
        self.give(holder)
        return True

    def give(self, holder: _Holder) -> None:
        """Give ``holder`` a place, even if there is none."""
        self._holders[holder] = None
        self._networks[holder.peer.network] += 1

    def give_back(self, holder: _Holder) -> None:
        """Free the place of ``holder``, unless somebody else has it already."""
        if holder not in self._holders:
            return
        del self._holders[holder]
        network = holder.peer.network
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]

    def make_room(self, newcomer: Peer | None) -> bool:
        """End somebody for ``newcomer``, None for one nobody knows yet; False where nobody must go.

        The slowest of whoever holds the most goes: whatever its pace if that is more than the newcomer
        would hold, else only if it is idle or slow.
        """
        holders, holds_more = self._heaviest(newcomer)
        now = time.monotonic()
        slowest = min(holders, key=lambda holder: holder.pace(now), default=None)
        if slowest is None or not (holds_more or slowest.pace(now) < LEAST_BYTES_A_SECOND):
            return False
        self.give_back(slowest)
        slowest.displace()
        return True

    def _heaviest(self, newcomer: Peer | None) -> tuple[list[_Holder], bool]:
        """Return who holds the most, and whether that is more than ``newcomer`` with its new place."""
        if not self._holders:
            return [], False
        own = newcomer.network if newcomer is not None else None
        network, more = _most(self._networks, own)
        if network is None:
            return list(self._holders), False
        inside = [holder for holder in self._holders if holder.peer.network == network]
        addresses = Counter(holder.peer.address for holder in inside)
        within = newcomer.address if newcomer is not None and network == own else None
        address, more_inside = _most(addresses, within)
        if address is None:
            return inside, more
        more = more or more_inside
        return [holder for holder in inside if holder.peer.address == address], more


def _most(counts: Counter[str], own: str | None) -> tuple[str | None, bool]:
    """Return whose count is the highest, and whether it is above that of ``own`` with one more.

    None where nobody has more than one.
    """
    name, most = max(counts.items(), key=lambda item: item[1])
    if own is None:
        return name, False
    having = counts[own] + 1
    if most > having:
        return name, True
    return (own if having > 1 else None), False


class Turns:
    """Work that costs much: one piece at a time for each peer. For one event loop.

    The addresses of a network take turns: each of them has one piece in the network's line.
    """

    def __init__(self) -> None:
        self._lines: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    async def do(self, peer: Peer, work: Callable[[], Awaitable[_Made]]) -> _Made:
        """Return what ``work`` returns, when it is the turn of ``peer``.

        Who is cancelled before leaves the line. Work that began goes on, and the peer's next piece
        waits for its end.
        """
        entered: list[str] = []
        try:
            for name in (f"address {peer.address}", f"network {peer.network}"):
                await self._enter(name)
                entered.append(name)
            job = asyncio.ensure_future(work())
        except BaseException:
            self._leave(entered)
            raise
        job.add_done_callback(lambda done: self._done(done, entered))
        return await asyncio.shield(job)

    async def _enter(self, name: str) -> None:
        line = self._lines.setdefault(name, asyncio.Lock())
        self._users[name] += 1
        try:
            await line.acquire()
        except BaseException:
            self._forget(name)
            raise

    def _done(self, job: "asyncio.Future[_Made]", entered: list[str]) -> None:
        self._leave(entered)
        if not job.cancelled():
            # Nobody may be left to look at it.
            job.exception()

    def _leave(self, entered: list[str]) -> None:
        for name in entered:
            self._lines[name].release()
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name], self._lines[name]
