"""Real application images, built from Debian's packages into one OCI layout.

Debian's minimal system is the lowest layer of the images that need one; ``apt-get install`` runs in an
overlay above it, and what it changed becomes the next layer, with whiteouts, as an image builder
does it. The others hold a few static programs and nothing else. Building takes about two minutes,
most of it the minimal system; ``$LXDOCKER_TEST_CACHE`` names a directory that keeps it for the
next run. How they are built: image_builder.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPLETS = ("sh", "cat", "echo", "env", "id", "ls", "sleep", "ip", "touch", "stat", "nc", "grep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link in a layer."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A static program: ``probe`` (programs/probe.c) or ``tini``; it may bind low ports by itself."""

    name: str
    may_bind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image: what is installed over Debian's minimal system, or files on an empty root."""

    name: str
    config: Mapping[str, object]
    packages: tuple[str, ...] = ()
    script: str = ""
    compression: str = "gzip"
    files: Mapping[str, bytes | Path | Link | Program] = field(default_factory=dict)


_ENTRYPOINT = r"""
cat >/docker-entrypoint.sh <<'END'
#!/bin/sh
set -e
echo "entrypoint of $(id -un): $*"
exec "$@"
END
chmod 755 /docker-entrypoint.sh
"""

NGINX = Recipe(
    name="nginx",
    packages=("nginx-light",),
    script=_ENTRYPOINT
    + r"""
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
sed -i 's|error_log .*|error_log /var/log/nginx/error.log notice;|' /etc/nginx/nginx.conf
echo 'a real nginx' >/var/www/html/index.html
rm -f /var/www/html/*.debian.html
""",
    config={
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "Env": [f"PATH={PATH}", "NGINX_VERSION=1.22"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    },
)

REDIS = Recipe(
    name="redis",
    packages=("redis-server",),
    script=_ENTRYPOINT
    + r"""
groupadd --gid 7777 extra
usermod --append --groups extra redis
mkdir /data
chown redis:redis /data
""",
    # Layers of this one are zstd, as newer builders write them.
    compression="zstd",
    config={
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["redis-server", "--protected-mode", "no"],
        "Env": [f"PATH={PATH}"],
        "User": "redis",
        "WorkingDir": "/data",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"6379/tcp": {}},
    },
)

S6 = Recipe(
    name="s6",
    packages=("s6",),
    script=r"""
mkdir -p /srv/services/web
cat >/srv/services/web/run <<'END'
#!/bin/sh
trap 'echo web ends cleanly; exit 0' TERM
echo "web runs as $$ under $(cat /proc/1/comm)"
while :; do sleep 1 & wait $!; done
END
chmod 755 /srv/services/web/run
""",
    config={"Entrypoint": ["s6-svscan", "/srv/services"], "Env": [f"PATH={PATH}"]},
)

SYSTEMD = Recipe(
    name="systemd",
    packages=("systemd-sysv", "python3"),
    script=r"""
cat >/etc/systemd/system/story.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo the story began; echo began >>/var/story'
ExecStop=/bin/sh -c 'echo ended >>/var/story'
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
END
systemctl enable story.service
""",
    config={"Cmd": ["/sbin/init"], "Env": ["container=docker"], "StopSignal": "SIGRTMIN+3"},
)

BUSYBOX = Recipe(
    name="busybox",
    files={"bin/busybox": Path("/bin/busybox")}
    | {f"bin/{applet}": Link(target="busybox") for applet in APPLETS}
    | {
        "entry.sh": b"""#!/bin/sh
echo "argv: $*"
echo "FROM_IMAGE=$FROM_IMAGE FROM_INSTANCE=$FROM_INSTANCE FROM_FILE=$FROM_FILE"
echo "prelaunch left: $(cat /prelaunch-was-here 2>/dev/null)"
echo "tmp: $(grep -c ' /tmp tmpfs ' /proc/mounts) run: $(grep -c ' /run tmpfs ' /proc/mounts)"
echo "run holds: $(ls /run)"
echo ready
trap 'echo stopped by 15; exit 0' TERM
while :; do sleep 1 & wait $!; done
""",
        "run/shipped/by-the-image": b"kept",
    },
    config={
        "Entrypoint": ["/bin/sh", "/entry.sh"],
        "Cmd": ["as", "built"],
        "Env": ["PATH=/bin", "FROM_IMAGE=image", "FROM_INSTANCE=image"],
    },
)

STATIC = Recipe(
    name="static",
    files={
        "probe": Program(name="probe"),
        "probe-with-capability": Program(name="probe", may_bind=True),
    },
    config={
        "Entrypoint": ["/probe"],
        "Cmd": ["one", "two words", "$(touch /x)`x`\"'", "open:/dev/stdout", "listen:80"],
        "Env": ["PATH=/", "FROM_IMAGE=a b  c", "WITH.DOT=kept", "ODD=$HOME `id`\n'\"\\"],
        "User": "1000:2000",
        "WorkingDir": "/made/at/start",
        "ExposedPorts": {"80/tcp": {}},
    },
)

TINI = Recipe(
    name="tini",
    files={"probe": Program(name="probe"), "tini-static": Program(name="tini")},
    config={"Entrypoint": ["/tini-static", "--", "/probe"], "Cmd": ["under-tini"]},
)

RECIPES = (NGINX, REDIS, BUSYBOX, STATIC, S6, SYSTEMD, TINI)
