"""The kernel's tables of ports and routes."""

import socket
from ipaddress import IPv4Network

from lxdocker_lxd.setup import look
from lxdocker_lxd.setup.host_tables import listening, routed

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0100007F:20FB 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 3
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_tables_are_read() -> None:
    assert set(listening(TCP)) == {("127.0.0.1", 8443), ("0.0.0.0", 443)}
    assert set(listening(TCP6)) == {("::", 80), ("::1", 8080), ("127.0.0.1", 8081)}
    assert list(routed(ROUTE)) == [IPv4Network("0.0.0.0/0"), IPv4Network("192.168.1.0/24")]
    assert list(listening("")) == list(routed("")) == []


def test_a_socket_of_this_machine_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname() in look.listening()
    assert "lo" in look.interfaces()
