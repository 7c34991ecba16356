"""Addresses, routes and names: by DHCP on every interface that has none, and when there is none."""

import ipaddress
import random

import pytest

from tests.guest.lxd_guest import Guests, image_config, small_tree
from tests.harness.processes import eventually

pytestmark = pytest.mark.lxd

# Says when it was started, in seconds since PID 1 was.
APP = b"""#!/bin/sh
read up _ </proc/uptime
start=$(cut -d ' ' -f 22 /proc/1/stat)
echo "started after $(awk "BEGIN { print $up - $start / 100 }") s"
echo "addresses: $(ip -4 addr show scope global | grep -c inet)"
exec sleep 1000
"""


def app_image(guests: Guests, *, env: tuple[str, ...] = (), resolv: str = "") -> str:
    tree = small_tree(
        {"bin/app": APP.replace(b"awk", b"/busybox-lxd awk").replace(b"cut", b"/busybox-lxd cut")}
    )
    if resolv:
        tree.put_symlink(b"etc/resolv.conf", resolv.encode())
    return guests.image(tree, image_config(cmd=["app"], env=env))


def seconds_to_start(log: str) -> float:
    return float(log.partition("started after ")[2].split()[0])


def nic(network: str, name: str = "eth0") -> dict[str, str]:
    return {"type": "nic", "network": network, "name": name}


def test_an_address_is_there_before_the_command(guests: Guests) -> None:
    name = guests.launch(app_image(guests))
    log = guests.wait_log(name, "addresses: 1")
    assert guests.lxd.address(name) in log
    router = str(guests.lxd.subnet[1])
    assert f"default via {router} dev eth0" in guests.lxd.shell(name, "ip route")
    assert f"nameserver {router}\n" in guests.lxd.shell(name, "cat /etc/resolv.conf")
    assert "inet 127.0.0.1" in guests.lxd.shell(name, "ip addr show lo")


def test_the_lease_is_renewed_and_the_server_knows_the_name(guests: Guests) -> None:
    name = guests.launch(app_image(guests))
    address = guests.lxd.address(name)
    leases = guests.lxd.query("GET", f"/1.0/networks/{guests.lxd.network}/leases")
    assert (name, address) in {(lease["hostname"], lease["address"]) for lease in leases}
    client = guests.process(name, "udhcpc -f -i eth0")
    # A request for a new lease keeps address, route and names.
    guests.lxd.shell(name, f"echo gone >/etc/resolv.conf; kill -USR1 {client}")
    eventually(
        lambda: "nameserver" in guests.lxd.shell(name, "cat /etc/resolv.conf"),
        timeout_seconds=10,
        what="the renewal",
    )
    assert guests.lxd.address(name) == address
    assert guests.lxd.shell(name, "ip route | grep -c default") == "1\n"


def test_two_interfaces_one_without_a_server(guests: Guests) -> None:
    silent = guests.lxd.add_network(dhcp=False)
    devices = {"eth1": nic(silent, "lan0")}
    alias = app_image(guests)
    name = guests.launch(alias, devices=devices, config={"user.lxdocker.network_wait": "3"})
    log = guests.wait_log(name, "addresses: 1")
    assert 2 < seconds_to_start(log) < 6
    assert "no address from DHCP yet; the command starts without" in log
    assert guests.lxd.shell(name, "cat /sys/class/net/lan0/operstate") == "up\n"


def test_two_interfaces_with_two_servers(guests: Guests) -> None:
    other = guests.lxd.add_network()
    name = guests.launch(app_image(guests), devices={"eth1": nic(other, "eth1")})
    guests.wait_log(name, "addresses: 2")
    first, second = guests.lxd.address(name), guests.lxd.address(name, nic="eth1")
    assert ipaddress.ip_address(first) in guests.lxd.subnet
    assert ipaddress.ip_address(second) not in guests.lxd.subnet
    # Both servers' names are known (two clients that wrote at once lost them), and the first interface's way out is the first choice.
    assert guests.lxd.shell(name, "grep -c nameserver /etc/resolv.conf") == "2\n"
    routes = [line for line in guests.lxd.shell(name, "ip route").splitlines() if "default" in line]
    metrics = {line.split()[4]: int(line.split()[6]) for line in routes}
    assert metrics["eth0"] < metrics["eth1"]


def test_without_an_interface_nothing_waits(guests: Guests) -> None:
    name = guests.launch(app_image(guests), devices={"eth0": {"type": "none"}})
    log = guests.wait_log(name, "addresses: 0")
    assert seconds_to_start(log) < 2


def test_without_a_server_the_command_starts_after_a_while(guests: Guests) -> None:
    silent = guests.lxd.add_network(dhcp=False)
    name = guests.launch(app_image(guests), devices={"eth0": nic(silent)})
    log = guests.wait_log(name, "addresses: 0")
    assert 4 < seconds_to_start(log) < 12
    assert "eth0: no answer from a DHCP server; trying on" in log


def test_a_wait_of_zero_is_none(guests: Guests) -> None:
    silent = guests.lxd.add_network(dhcp=False)
    config = {"user.lxdocker.network_wait": "0"}
    name = guests.launch(app_image(guests), devices={"eth0": nic(silent)}, config=config)
    assert seconds_to_start(guests.wait_log(name, "addresses: 0")) < 2


def test_an_interface_plugged_in_later_gets_an_address_and_may_leave(guests: Guests) -> None:
    other = guests.lxd.add_network()
    name = guests.launch(app_image(guests), devices={"eth0": {"type": "none"}})
    guests.wait_log(name, "addresses: 0")
    body = {"devices": {"lan": nic(other, "lan0")}}
    guests.lxd.query("PATCH", f"/1.0/instances/{name}", body)
    guests.lxd.address(name, nic="lan0")
    guests.lxd.lxc("config", "device", "remove", name, "lan")
    eventually(
        lambda: "lan0" not in guests.lxd.shell(name, "ps"), timeout_seconds=15, what="no client"
    )


@pytest.mark.parametrize("target", ["../run/systemd/resolve/stub-resolv.conf", "/nowhere/at/all"])
def test_a_resolv_conf_that_leads_nowhere_is_replaced(guests: Guests, target: str) -> None:
    name = guests.launch(app_image(guests, resolv=target))
    guests.wait_log(name, "addresses: 1")
    assert "nameserver" in guests.lxd.shell(name, "cat /etc/resolv.conf")


@pytest.mark.parametrize("where", ["image", "instance"])
def test_the_switches(guests: Guests, where: str) -> None:
    switches = {
        "LXDOCKER_UDHCPC_NOPREFIXROUTE": "1",
        "UDHCPC_NO_DNS": "1",
        "UDHCPC_NO_DEFAULT_ROUTE": "yes",
    }
    env = tuple(f"{key}={value}" for key, value in switches.items()) if where == "image" else ()
    config = {f"environment.{key}": value for key, value in switches.items()}
    alias = app_image(guests, env=env)
    name = guests.launch(alias, config=config if where == "instance" else {})
    guests.wait_log(name, "addresses: 1")
    assert guests.lxd.shell(name, "ip route") == ""
    assert guests.lxd.shell(name, "cat /etc/resolv.conf") == ""


def test_ipv6_comes_by_router_advertisements(guests: Guests) -> None:
    # Another run of these tests may go on beside this one.
    prefix = f"fd42:{random.randint(0x1000, 0xFFFF):x}:{random.randint(0x1000, 0xFFFF):x}:1"
    network = guests.lxd.add_network(ipv6=f"{prefix}::1/64")
    name = guests.launch(app_image(guests), devices={"eth0": nic(network)})
    eventually(
        lambda: f"inet6 {prefix}:" in guests.lxd.shell(name, "ip addr show eth0"),
        timeout_seconds=20,
        what="an address",
    )
    assert "default" in guests.lxd.shell(name, "ip -6 route")


def test_an_address_that_lxd_gave_is_left_alone(guests: Guests) -> None:
    """Routed interfaces come with their address; a DHCP client would flush it."""
    address = str(guests.lxd.subnet[200])
    routed = {"type": "nic", "nictype": "routed", "parent": guests.lxd.network, "name": "eth0"}
    name = guests.launch(app_image(guests), devices={"eth0": routed | {"ipv4.address": address}})
    log = guests.wait_log(name, "addresses: 1")
    assert seconds_to_start(log) < 2
    assert guests.lxd.address(name) == address
    assert "udhcpc" not in guests.lxd.shell(name, "ps")
