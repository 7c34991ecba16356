"""Everything a user may have set comes back from LXD as it was written, also into a new instance."""

from dataclasses import replace

from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.lxd.resources import Profile, Volume
from tests.lxd_port.site import Site, settings

CONFIG = {
    "boot.autostart": "true",
    "boot.autostart.delay": "3",
    "boot.autostart.priority": "7",
    "boot.host_shutdown_timeout": "20",
    "boot.stop.priority": "2",
    "cloud-init.user-data": "#cloud-config\nruncmd:\n- [echo, 'a: b']\n",
    "environment.EMPTY_IS_GONE": "x",
    "environment.QUOTED": "a \"b\" 'c' #d =e $f \\g\tä",
    "limits.cpu": "1",
    "limits.memory": "128MiB",
    "limits.processes": "500",
    "limits.kernel.nofile": "1000",
    "linux.kernel_modules": "",
    "raw.lxc": "lxc.signal.halt = SIGTERM\nlxc.environment = A=b",
    "security.nesting": "true",
    "security.privileged": "false",
    "security.protection.delete": "true",
    "snapshots.expiry": "2w",
    "snapshots.pattern": "auto-{{ creation_date|date:'2006-01-02' }}",
    "snapshots.schedule": "@daily",
    "user.lxdocker.update": "auto",
    "user.text": "line 1\nline 2\n",
}


def devices(site: Site) -> dict[str, dict[str, str]]:
    """One device of each kind a user has."""
    return {
        "eth0": site.nic(ipv4_address=f"{site.prefix}77")
        | {"security.mac_filtering": "true", "security.port_isolation": "true"},
        "eth1": site.nic(hwaddr="00:16:3e:01:02:03") | {"name": "eth1"},
        "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
        "host": {"type": "disk", "source": "/tmp", "path": "/mnt/host", "readonly": "true"},
        "masked": {"type": "none"},
        "null": {"type": "unix-char", "source": "/dev/null", "path": "/dev/stick", "gid": "20"},
        "web": {
            "type": "proxy",
            "listen": "tcp:127.0.0.1:18080",
            "connect": "tcp:127.0.0.1:80",
        },
        "root": {"type": "disk", "path": "/", "pool": "default"},
    }


def own(instance: Instance) -> dict[str, str]:
    return {
        key: value
        for key, value in instance.config.items()
        if not key.startswith(("volatile.", "image."))
    }


def test_what_is_written_is_what_is_read(site: Site) -> None:
    site.lxd.volumes.create(Volume(pool="default", name="data", project="default"))
    site.lxd.profiles.create(
        Profile(name="more", project="default", config={"user.profile": "1", "limits.cpu": "2"})
    )
    wanted = settings(
        CONFIG, devices(site), profiles=("default", "more"), description="ä of ours\n"
    )
    kept = {key: value for key, value in CONFIG.items() if value}
    image = site.image()
    site.lxd.instances.create(NewInstance(name="web", image=image, settings=wanted))
    web = site.lxd.instances.get("web")
    assert own(web) == kept
    assert web.devices == devices(site)
    assert (web.profiles, web.description) == (("default", "more"), "ä of ours\n")
    assert web.expanded_config["limits.cpu"] == "1"

    # Writing what was read changes nothing, not even the ETag.
    site.lxd.instances.replace("web", web.settings, etag=web.etag)
    assert site.lxd.instances.get("web") == web

    # A copy without its addresses, then with the original's, as an update does it.
    bare = {name: one for name, one in devices(site).items() if one["type"] != "nic"}
    masks = {name: {"type": "none"} for name in ("eth0", "eth1")}
    stage = replace(web.settings, devices={**bare, **masks}, config=own(web))
    site.lxd.instances.create(NewInstance(name="stage", image=image, settings=stage))
    parked = replace(web.settings, devices={**bare, **masks})
    site.lxd.instances.replace("web", parked, etag=web.etag)
    site.lxd.instances.rename("web", "web-old")
    site.lxd.instances.rename("stage", "web")
    now = site.lxd.instances.get("web")
    site.lxd.instances.replace("web", replace(now.settings, devices=web.devices), etag=now.etag)
    new = site.lxd.instances.get("web")
    assert own(new) == kept
    assert new.devices == web.devices
    assert new.expanded_devices == web.expanded_devices
    site.lxd.instances.patch("web-old", config={"security.protection.delete": ""})
    site.lxd.instances.patch("web", config={"security.protection.delete": ""})
