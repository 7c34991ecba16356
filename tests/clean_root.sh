#!/bin/bash
# The README's first command on a clean Debian 12: a new minimal system that has never seen this
# project, in namespaces of its own (mounts, processes, network).
#
#   sudo tests/clean_root.sh                 runs the quick start twice, then takes it away
#   sudo tests/clean_root.sh COMMAND...      runs something else there; the checkout is /srv/checkout
#
# A plain chroot would not do: two LXD in one network namespace meet through abstract sockets. The
# network goes through slirp4netns, so nothing of this machine's network is changed. Everything
# ends with the namespaces; the directory is removed at the end.
set -euo pipefail

SELF=$(realpath "${BASH_SOURCE[0]}")
CHECKOUT=$(dirname "$(dirname "$SELF")")
SUITE=bookworm

say() { printf '\n==> %s\n' "$*"; }

# The directories that this machine's pip settings name: they must be reachable inside, too. An
# index on disk ("simple") has its files beside it.
pip_directories() {
    { env | grep '^PIP_'; cat /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf || true; } 2>/dev/null |
        grep -oE '(file://)?/[^ =,"]+' | sed 's|^file://||; s|/simple/*$||' | sort -u |
        while read -r path; do [ ! -d "$path" ] || printf '%s\n' "$path"; done
}

make_root() {
    local root=$1
    say "a minimal Debian $SUITE"
    debootstrap --variant=minbase "$SUITE" "$root" >"$WORK/debootstrap.log" ||
        { tail -n 5 "$WORK/debootstrap.log" >&2; exit 1; }
    echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
    echo '127.0.0.1 localhost clean' >"$root/etc/hosts"
    # What a machine's owner sets up before anything else: its certificates, its pip settings.
    local file
    for file in /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf; do
        [ ! -f "$file" ] || install -D -m 644 "$file" "$root$file"
    done
    if [ -d /usr/local/share/ca-certificates ]; then
        mkdir -p "$root/usr/local/share"
        cp -RL /usr/local/share/ca-certificates "$root/usr/local/share/"
    fi
    mkdir -p "$root/srv/checkout"
    tar -C "$CHECKOUT" --exclude=./.git --exclude=./.venv --exclude='__pycache__' \
        --exclude='./.*_cache' --exclude=./.hypothesis -cf - . | tar -C "$root/srv/checkout" -xf -
}

# In the new mount and network namespaces: waits for the network, then begins a process namespace.
inside() {
    local root=$1 waited=0
    ip link set lo up
    until ip -o -4 addr show dev tap0 2>/dev/null | grep -q inet; do
        waited=$((waited + 1))
        ((waited < 100)) || { echo "slirp4netns gave no network" >&2; exit 1; }
        sleep 0.1
    done
    shift
    exec unshare --pid --fork --kill-child bash "$SELF" --pivot "$root" "$@"
}

# As the first process: makes the directory the root of everything.
pivot() {
    local root=$1 path
    shift
    mount --bind "$root" "$root"
    pip_directories | while read -r path; do
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
        mount -o remount,bind,ro "$root$path"
    done
    cd "$root"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount --rbind /sys/fs/cgroup sys/fs/cgroup
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    mkdir old
    pivot_root . old
    umount -l /old
    rmdir /old
    mount --make-rshared /
    local settings=()
    mapfile -t settings < <(env | grep '^PIP_' || true)
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 TERM=dumb "${settings[@]}" bash -c 'cd /srv/checkout && "$@"' bash "$@"
}

finish() {
    local status=$?
    trap - EXIT
    [ -z "${INSIDE:-}" ] || kill -KILL "$INSIDE" 2>/dev/null || true
    [ -z "${NETWORK:-}" ] || kill "$NETWORK" 2>/dev/null || true
    wait
    rm -rf --one-file-system "$WORK"
    exit "$status"
}

main() {
    if [ "$(id -u)" != 0 ]; then
        echo "tests/clean_root.sh needs root. Run: sudo tests/clean_root.sh" >&2
        exit 2
    fi
    # shellcheck disable=SC2016  # that expands inside
    (($#)) || set -- bash -euxc 'examples/quickstart.sh; examples/quickstart.sh
        curl -s "$(LXD_DIR=/var/lib/lxd lxc list -c 4 --format csv | sed "s| .*||;s|^|http://|")"
        examples/quickstart.sh --clean'
    umask 022
    WORK=$(mktemp -d /tmp/lxclean-XXXXXXXX)
    chmod 711 "$WORK"
    trap finish EXIT
    trap 'exit 130' INT TERM
    make_root "$WORK/root"
    say "inside: $*"
    unshare --mount --net --propagation private bash "$SELF" --inside "$WORK/root" "$@" &
    INSIDE=$!
    # Until it is in its own namespace, the network would go into ours.
    while [ "$(readlink "/proc/$INSIDE/ns/net")" = "$(readlink /proc/self/ns/net)" ]; do
        sleep 0.05
    done
    slirp4netns --configure --mtu=1500 --disable-host-loopback "$INSIDE" tap0 \
        >"$WORK/network.log" 2>&1 &
    NETWORK=$!
    wait "$INSIDE"
    INSIDE=
    say "done"
}

case "${1:-}" in
--inside) shift && inside "$@" ;;
--pivot) shift && pivot "$@" ;;
*) main "$@" ;;
esac
