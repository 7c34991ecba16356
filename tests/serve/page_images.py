"""Images as people have them, for tests of pages; and one that lies with every word it has."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from lxdocker_lxd.catalogue import (
    SERIAL_FORMAT,
    Json,
    LxcSettings,
    Product,
    PublishedFile,
    PublishedLayer,
    Version,
)
from tests.serve.trees import NOW, digest, made, named

HOSTILE_TEXTS = (
    "<script>alert(1)</script>",
    '"><img src=//evil.example/x onerror=alert(2)>',
    "'-alert(3)-'",
    "</title></code></table><svg onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(5)",
    "\u202egpj.exe\x00\x1b[31m\x07",
    "]]> --> &lt; &#60;script&#62;",
)
HOSTILE = "\n".join(HOSTILE_TEXTS)
LXC = LxcSettings(uid=101, gid=101, groups=(), home="/", stop_signal=3, tmpfs=())


OFFERED: Mapping[str, Mapping[str, Json]] = {
    "postgres": {
        "ExposedPorts": {"5432/tcp": {}},
        "Volumes": {"/var/lib/postgresql/data": {}},
        "User": "postgres",
    },
    "home-assistant": {
        "Entrypoint": ["/init"],
        "ExposedPorts": {"8123/tcp": {}},
        "WorkingDir": "/config",
        "Labels": {"org.opencontainers.image.url": "https://www.home-assistant.io/"},
    },
}


def layer(word: str, size_bytes: int) -> PublishedLayer:
    return PublishedLayer(
        digest=digest(f"compressed {word}"),
        diff_id=digest(word),
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
        size_bytes=size_bytes,
    )


def built(
    word: str,
    reference: str,
    *,
    days: float = 1,
    megabytes: float = 20,
    layers: Mapping[str, float] | None = None,
    config: Mapping[str, Json] | None = None,
    lxc: bool = False,
) -> Version:
    """A version that is ``days`` old; sizes in megabytes, ``layers`` by a word for the content."""
    at = NOW - timedelta(days=days)
    plain = made(word, reference, at=at)
    sizes = (2100, int(megabytes * 1e6), int(megabytes * 1.2e6))
    content = hashlib.sha256(f"lxc {word}".encode()).hexdigest()
    third = PublishedFile(
        role="lxc-rootfs", path=f"images/{content}.tar.xz", sha256=content, size_bytes=0
    )
    files = (*plain.files, third) if lxc else plain.files
    return replace(
        plain,
        serial=at.strftime(SERIAL_FORMAT),
        files=tuple(
            replace(file, size_bytes=size) for file, size in zip(files, sizes, strict=False)
        ),
        layers=tuple(layer(one, int(size * 1e6)) for one, size in (layers or {}).items()),
        rootfs_bytes=int(megabytes * 2.7e6),
        rootfs_entries=int(megabytes * 300),
        config=dict(config or {}),
        source=replace(plain.source, created=(at - timedelta(hours=7)).isoformat()),
        lxc=LXC if lxc else None,
    )


def history(*versions: Version) -> tuple[Version, ...]:
    """The versions, each superseded when the next one came."""
    ends = [version.published_at for version in versions[1:]]
    return (
        *(replace(one, superseded_at=end) for one, end in zip(versions, ends, strict=False)),
        versions[-1],
    )


def web() -> tuple[Product, ...]:
    """Two architectures, three versions of one of them, much that changed."""
    base: dict[str, Json] = {
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "NGINX_VERSION=1.27.4",
            "DYNPKG_RELEASE=1",
        ],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {
            "maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>",
            "org.opencontainers.image.url": "https://nginx.org/",
            "org.opencontainers.image.source": "https://github.com/nginx/docker-nginx",
        },
        "StopSignal": "SIGQUIT",
    }
    later = base | {
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "NGINX_VERSION=1.28.0",
            "NJS_VERSION=0.9.0",
        ],
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "Volumes": {"/var/cache/nginx": {}},
        "Healthcheck": {
            "Test": ["CMD-SHELL", "curl -fsS http://127.0.0.1/healthz || exit 1"],
            "Interval": 30_000_000_000,
            "Retries": 3,
        },
    }
    reference = "docker.io/library/nginx:stable"
    versions = history(
        built("n1", reference, days=40, layers={"d12": 28.2, "n127": 44.0, "e": 0.1}, config=base),
        built(
            "n2",
            reference,
            days=12,
            megabytes=20.6,
            layers={"d12.1": 28.3, "n127b": 44.0, "e": 0.1},
            config=base,
        ),
        built(
            "n3",
            reference,
            days=2,
            megabytes=21.7,
            layers={"d12.1": 28.3, "n128": 46.2, "e": 0.1},
            config=later,
            lxc=True,
        ),
    )
    arm = built("n3-arm", reference, days=2.01, megabytes=20.9, layers={"a": 27}, config=later)
    products = (
        named("nginx", *versions, aliases=("www", "web/nginx")),
        named("nginx", arm, architecture="arm64", aliases=("www",)),
    )
    text = "Web server, reverse proxy and load balancer"
    return tuple(replace(product, description=text) for product in products)


def hostile() -> Product:
    """Every text that an image or its specification decides about is an attack."""
    labels: dict[str, Json] = {text: text for text in HOSTILE_TEXTS}
    config: dict[str, Json] = {
        "Entrypoint": list(HOSTILE_TEXTS),
        "Cmd": [HOSTILE],
        "User": HOSTILE,
        "WorkingDir": HOSTILE,
        "StopSignal": HOSTILE,
        "Shell": [HOSTILE],
        "Env": [f"{text}={text}" for text in HOSTILE_TEXTS],
        "ExposedPorts": {text: {} for text in HOSTILE_TEXTS},
        "Volumes": {text: {} for text in HOSTILE_TEXTS},
        "Labels": labels
        | {
            "org.opencontainers.image.url": "javascript:alert(6)",
            "org.opencontainers.image.source": 'https://evil.example/"onmouseover="alert(7)',
            "org.opencontainers.image.documentation": "https://bank.example@evil.example/",
        },
        "Healthcheck": {"Test": ["CMD-SHELL", HOSTILE]},
    }
    before = built("h1", "docker.io/evil/app:1", days=3, layers={"a": 1}, config={})
    after = built("h2", HOSTILE, days=2, layers={"a": 1}, config=config)
    source = replace(after.source, created=HOSTILE, platform=HOSTILE, config_digest=HOSTILE)
    product = named(
        "evil", *history(before, replace(after, source=source)), aliases=('"><b>x</b>',)
    )
    return replace(
        product,
        description=HOSTILE,
        properties={text: text for text in HOSTILE_TEXTS},
    )


def catalogue() -> tuple[Product, ...]:
    """A dozen images of all kinds."""
    plain = {
        "postgres": ("docker.io/library/postgres:17", "Object-relational database", 3, 98.4),
        "redis": ("docker.io/library/redis:7-alpine", "In-memory data store", 20, 16.9),
        "grafana": ("docker.io/grafana/grafana:latest", "Dashboards for metrics and logs", 5, 134),
        "home-assistant": (
            "ghcr.io/home-assistant/home-assistant:stable",
            "Home automation that puts local control and privacy first",
            1,
            512.3,
        ),
        "old-wiki": (
            "docker.io/requarks/wiki:2",
            "Wiki for the team; kept for its content",
            200,
            88,
        ),
        "registry": ("docker.io/library/registry:2", "", 30, 9.8),
        "tool": ("oci:/srv/layouts/tool:1", "Our own tool, from a layout on disk", 8, 1.2),
    }
    products = [
        replace(
            named(
                name,
                built(
                    name,
                    reference,
                    days=days,
                    megabytes=size,
                    layers={name: size},
                    config={"Cmd": [name], **OFFERED.get(name, {})},
                ),
            ),
            description=description,
            properties={},
        )
        for name, (reference, description, days, size) in plain.items()
    ]
    return (*web(), *products, hostile())
