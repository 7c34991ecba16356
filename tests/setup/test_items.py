"""What a host shall have, from what it is and what was asked for."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.setup import unit_files
from lxdocker_lxd.setup.facts import Facts
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.items import Target, target
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.subnet import free_bridge, free_subnet
from lxdocker_lxd.setup.wish import SERVER_USER, USER, Wish
from tests.setup.hosts import bare_lxd, client, facts, lxd, serve_settings, wish

SHIPPED = unit_files.shipped()


def aimed(given: Facts, asked: Wish | None = None, state: SetupState | None = None) -> Target:
    return target(given, asked or wish(), state or SetupState(), SHIPPED)


def of_kind(found: Target, kind: str) -> list[Item]:
    return [item for item in found.items if item.kind == kind]


def only(found: Target, kind: str) -> Item:
    (item,) = of_kind(found, kind)
    return item


class TestLxd:
    """Storage, network and profile: only for a LXD that has none."""

    def test_a_bare_one_is_initialised(self) -> None:
        found = aimed(facts(bare_lxd()))
        assert only(found, "pool").wanted == {"driver": "dir"}
        network = only(found, "network")
        assert network.name == "lxdbr0"
        address = network.wanted["ipv4.address"].partition("/")[0]
        assert found.endpoint.url == f"https://{address}"
        devices = {item.name: item.wanted for item in of_kind(found, "profile-device")}
        assert devices["default/eth0"]["network"] == "lxdbr0"
        assert devices["default/root"]["pool"] == "default"

    def test_one_that_has_a_pool_is_left_alone(self) -> None:
        found = aimed(facts(lxd(bridge="", bridge_address="", default_devices={})))
        for kind in ("pool", "network", "profile-device"):
            assert of_kind(found, kind) == []
        assert found.endpoint.addresses == ("127.0.0.1:443",)
        assert any("loopback only" in remark for remark in found.remarks)

    def test_no_init_leaves_a_bare_one_bare(self) -> None:
        found = aimed(facts(bare_lxd()), wish(initialise=False))
        assert of_kind(found, "pool") == []
        assert any("--no-init" in remark for remark in found.remarks)

    def test_a_cluster_is_never_initialised_and_reached_by_its_own_address(self) -> None:
        found = aimed(facts(bare_lxd(clustered=True, facing="192.168.1.5")))
        assert of_kind(found, "pool") == []
        assert found.endpoint.url == "https://192.168.1.5"
        assert "192.168.1.5:443" in found.endpoint.addresses

    def test_what_was_begun_goes_on_with_the_same_bridge_and_subnet(self) -> None:
        first = aimed(facts(bare_lxd()))
        state = SetupState()
        for kind in ("pool", "network"):
            state = state.begun(only(first, kind), None)
        # Killed before the bridge came: another seed and other routes would choose others.
        again = aimed(
            facts(bare_lxd(pools=("default",)), seed=99, interfaces=frozenset({"lxdbr0"})),
            state=state,
        )
        assert only(again, "network") == only(first, "network")

    def test_a_bridge_that_is_there_is_used_though_storage_is_missing(self) -> None:
        found = aimed(facts(lxd(pools=(), default_devices={})))
        assert of_kind(found, "network") == []
        devices = {item.name: item.wanted for item in of_kind(found, "profile-device")}
        assert devices["default/eth0"]["network"] == "lxdbr0"

    def test_the_update_interval_is_set_only_when_asked_for(self) -> None:
        off = lxd(config={"images.auto_update_interval": "0"})
        found = aimed(facts(off))
        assert of_kind(found, "server-key") == []
        assert any("--auto-update-interval" in remark for remark in found.remarks)
        assert only(aimed(facts(off), wish(update_hours=6)), "server-key").wanted == {"value": "6"}


class TestEndpoint:
    """Addresses, URL and names of the server."""

    def test_the_bridge_and_loopback(self) -> None:
        found = aimed(facts()).endpoint
        assert found.addresses == ("127.0.0.1:443", "10.1.2.1:443")
        assert (found.url, found.names) == (
            "https://10.1.2.1",
            ("10.1.2.1", "127.0.0.1", "localhost"),
        )

    @pytest.mark.parametrize("at", ["0.0.0.0", "::", "127.0.0.1", "10.1.2.1"])
    def test_a_port_that_is_taken_is_not_chosen(self, at: str) -> None:
        found = aimed(facts(listening=frozenset({(at, 443)}))).endpoint
        assert found.url == "https://10.1.2.1:8443"

    def test_a_port_taken_elsewhere_is_free_here(self) -> None:
        found = aimed(facts(listening=frozenset({("192.168.1.5", 443)}))).endpoint
        assert found.url == "https://10.1.2.1"

    def test_all_ports_taken_is_told(self) -> None:
        taken = frozenset({("0.0.0.0", port) for port in range(1, 65536)})
        with pytest.raises(UsageError, match="all taken") as caught:
            aimed(facts(listening=taken))
        assert "--address" in caught.value.hint

    def test_what_is_asked_for(self) -> None:
        asked = wish(addresses=(":8443",), url="https://images.lan:8443", names=("other.lan",))
        found = aimed(facts(), asked).endpoint
        assert found.addresses == (":8443",)
        assert found.url == "https://images.lan:8443"
        assert set(found.names) == {"images.lan", "other.lan", "127.0.0.1", "localhost"}

    @pytest.mark.parametrize(
        ("address", "url"),
        [
            ("127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("192.168.1.5:443", "https://192.168.1.5"),
            ("[fd00::1]:8443", "https://[fd00::1]:8443"),
            (":8443", "https://10.1.2.1:8443"),
            ("0.0.0.0:443", "https://10.1.2.1"),
        ],
    )
    def test_the_url_leads_to_where_it_listens(self, address: str, url: str) -> None:
        assert aimed(facts(), wish(addresses=(address,))).endpoint.url == url

    def test_the_settings_file_decides_once_it_is_there(self) -> None:
        settings = serve_settings(
            address="127.0.0.1:9443,10.5.5.1:9443", url="https://10.5.5.1:9443", names=("a.lan",)
        )
        given = facts(settings=settings, configured=True, listening=frozenset({("::", 9443)}))
        found = aimed(given, wish(names=("b.lan",))).endpoint
        assert found.addresses == ("127.0.0.1:9443", "10.5.5.1:9443")
        assert found.url == "https://10.5.5.1:9443"
        assert {"a.lan", "b.lan"} <= set(found.names)
        for flag, value in (("addresses", (":1",)), ("url", "https://other.lan")):
            with pytest.raises(UsageError, match="the settings file says"):
                aimed(given, wish(**{flag: value}))

    def test_an_older_settings_file_without_a_url(self) -> None:
        settings = serve_settings(address=":8443", names=("images.lan",))
        found = aimed(facts(settings=settings, configured=True))
        assert found.endpoint.url == "https://images.lan:8443"
        assert any("all addresses" in remark for remark in found.remarks)
        unnamed = facts(settings=serve_settings(address=":8443"), configured=True)
        assert aimed(unnamed).endpoint.url == "https://10.1.2.1:8443"


class TestClients:
    """Remote and trust for each user."""

    def test_each_users_configuration_gets_both(self) -> None:
        clients = (
            client("root", "/root/.config/lxc", "/root/.config", "/root/.config/lxc"),
            client("ann", "/home/ann/snap/lxd/common/config"),
        )
        found = aimed(facts(clients=clients))
        assert [item.name for item in of_kind(found, "remote")] == [
            "/root/.config/lxc/config.yml#lxdocker",
            "/home/ann/snap/lxd/common/config/config.yml#lxdocker",
        ]
        pins = of_kind(found, "copy")
        assert pins[1].name == "/home/ann/snap/lxd/common/config/servercerts/lxdocker.crt"
        assert pins[1].wanted["as"] == "ann"
        assert [i.name for i in of_kind(found, "directory") if i.wanted.get("as") == "root"] == [
            "/root/.config",
            "/root/.config/lxc",
        ]

    def test_the_remotes_name_can_be_chosen(self) -> None:
        found = aimed(facts(), wish(remote_name="shop"))
        assert only(found, "remote").name.endswith("#shop")
        assert only(found, "copy").name.endswith("/shop.crt")
        config = next(i for i in of_kind(found, "file") if i.name.endswith("config.yaml"))
        assert 'remote_name: "shop"' in config.wanted["content"]

    def test_system_trust_only_when_asked_for(self) -> None:
        assert of_kind(aimed(facts()), "trust") == []
        item = only(aimed(facts(), wish(system_trust=True)), "trust")
        assert item.name == "/usr/local/share/ca-certificates/lxdocker-lxd.crt"

    def test_a_certificate_of_ones_own_means_no_authority(self) -> None:
        settings = serve_settings(key=Path("/k.pem"), cert=Path("/c.pem"))
        found = aimed(facts(settings=settings, configured=True))
        assert [*of_kind(found, "authority"), *of_kind(found, "copy")] == []


class TestServices:
    """Units, where systemd runs."""

    def test_without_systemd_there_are_instructions(self) -> None:
        found = aimed(facts())
        assert [*of_kind(found, "unit"), *of_kind(found, "unit-file")] == []
        assert any("lxdocker-lxd serve" in remark for remark in found.remarks)
        assert any("lxdocker-lxd refresh" in remark for remark in found.remarks)

    def test_units_start_this_program_at_these_addresses(self) -> None:
        found = aimed(facts(systemd=True), wish(command=("/opt/my env/python", "-m", "x")))
        texts = {item.name: item.wanted["content"] for item in of_kind(found, "unit-file")}
        service = texts["/etc/systemd/system/lxdocker-lxd-serve.service"]
        assert 'ExecStart="/opt/my env/python" -m x serve' in service
        drop_in = texts["/etc/systemd/system/lxdocker-lxd-serve.socket.d/10-setup.conf"]
        assert "ListenStream=\nListenStream=127.0.0.1:443\nListenStream=10.1.2.1:443\n" in drop_in
        # systemd would give the directory with the certificate to the server.
        drop_in = texts["/etc/systemd/system/lxdocker-lxd-serve.service.d/10-setup.conf"]
        assert drop_in.endswith(
            f"[Service]\nUser={SERVER_USER}\nGroup={SERVER_USER}\nStateDirectory=\n"
        )
        assert not any("serve-http" in name or "sysusers" in name for name in texts)
        assert {item.name for item in of_kind(found, "unit")} <= {Path(name).name for name in texts}

    def test_the_server_is_another_user_than_the_converter(self) -> None:
        found = aimed(facts(systemd=True))
        assert [item.name for item in of_kind(found, "user")] == [USER, SERVER_USER]
        owners = {
            item.name: item.wanted["owner"]
            for item in found.items
            if "owner" in item.wanted and item.wanted["owner"] != "root:root"
        }
        assert owners == {
            "/var/lib/lxdocker-lxd/images": f"{USER}:{USER}",
            "/var/cache/lxdocker-lxd": f"{USER}:{USER}",
            "/var/lib/lxdocker-lxd/tls": f"root:{SERVER_USER}",
            "/var/lib/lxdocker-lxd/authority": f"root:{SERVER_USER}",
        }
        texts = {
            Path(item.name).name: item.wanted["content"]
            for item in found.items
            if "content" in item.wanted
        }
        for name, user in (("serve", SERVER_USER), ("convert", USER)):
            lines = texts[f"lxdocker-lxd-{name}.service"].splitlines()
            assert {f"User={user}", f"Group={user}"} <= set(lines)

    def test_the_updater_runs_where_units_find_lxd(self) -> None:
        for packaging, there in (("package", True), ("snap", True), ("remote", False)):
            found = aimed(facts(lxd(packaging=packaging), systemd=True))
            names = {Path(item.name).name for item in found.items if item.kind.startswith("unit")}
            assert ("lxdocker-lxd-update.service" in names) is there
            assert ("lxdocker-lxd-refresh.service" in names) is there
            enabled = {item.name for item in of_kind(found, "unit")}
            assert ("lxdocker-lxd-refresh.timer" in enabled) is there

    def test_files_come_before_what_needs_them(self) -> None:
        names = [item.kind for item in aimed(facts(bare_lxd(), systemd=True)).items]
        order = ["pool", "network", "profile-device", "user", "authority", "remote", "unit"]
        assert [kind for kind in dict.fromkeys(names) if kind in order] == order
        assert names.index("unit") > max(i for i, kind in enumerate(names) if kind == "unit-file")


def test_below_another_root_everything_is_below_it() -> None:
    root = Path("/tmp/image")
    given = facts(
        settings=serve_settings(tls_dir=root / "var/lib/lxdocker-lxd/tls"),
        specs=root / "etc/specs",
        cache=root / "cache",
        lxdimages=root / "images",
        clients=(client("root", "/tmp/image/root/.config/lxc"),),
    )
    found = aimed(given, wish(root=root, system_trust=True))
    for item in found.items:
        if item.kind not in ("user", "pool", "network", "profile-device"):
            assert item.name.startswith("/tmp/image/"), item


@given(
    used=st.lists(
        st.builds(
            lambda number, bits: IPv4Network((number >> (32 - bits) << (32 - bits), bits)),
            st.integers(0x0A000000, 0x0AFFFFFF),
            st.integers(14, 30),
        ),
        max_size=30,
    ),
    seed=st.integers(0, 2**32),
)
def test_a_subnet_overlaps_nothing_that_is_routed(used: list[IPv4Network], seed: int) -> None:
    found = free_subnet([*used, IPv4Network("0.0.0.0/0")], seed)
    assert found.is_private
    assert not any(found.overlaps(one) for one in used)
    assert free_subnet(used, seed) == found


def test_no_free_subnet_is_told() -> None:
    with pytest.raises(UsageError, match="is free"):
        free_subnet([IPv4Network("10.0.0.0/8")], 1)


def test_a_bridge_gets_the_first_free_name() -> None:
    assert free_bridge([]) == "lxdbr0"
    assert free_bridge(["lo", "lxdbr0", "lxdbr1"]) == "lxdbr2"
