#!/usr/bin/env bash
# For a minimal Debian that holds nothing but this checkout (tests/clean_root.sh): installs the program as
# README says, sets the machine up, sets it up again, and takes all of it back.
#
#   sudo tests/clean_root.sh tests/clean_setup.sh
#
# Prints what is different afterwards; fails when that is more than what is known to stay.
set -euo pipefail

PROGRAM=/opt/lxdocker-lxd/bin/lxdocker-lxd
WORK=$(mktemp -d)
# LXD's cache of indexes and its log, copies that useradd and userdel leave, compiled Python.
STAYS='^[<>] (/var/cache/lxd(/|$)|/var/log|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-|/root/.cache)'

say() { printf '\n==> %s\n' "$*"; }

dump() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
        -o -path /srv -o -path /var/lib/lxd -o -name __pycache__ \) -prune \
        -o -type f -printf '%p %m %U:%G %s\n' -o -printf '%p %m %U:%G %l\n' | sort
    lxc storage list --format csv
    lxc network list --format csv | grep ',YES,' || true
    lxc profile show default
    lxc config show
    lxc image list --format csv
    lxc list --format csv
    sha256sum /etc/passwd /etc/group
}

say "install"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >"$WORK/log"
apt-get install -q -y --no-install-recommends \
    lxd lxd-client ca-certificates dnsmasq-base iproute2 nftables uidmap rsync xz-utils attr \
    busybox-static squashfs-tools python3-venv >"$WORK/log" 2>&1 ||
    { tail -n 20 "$WORK/log" >&2; exit 1; }
python3 -m venv /opt/lxdocker-lxd
{
    /opt/lxdocker-lxd/bin/pip install -q --require-hashes --only-binary :all: \
        -r packaging/requirements.txt -r packaging/requirements-build.txt &&
        /opt/lxdocker-lxd/bin/pip install -q --no-deps --no-build-isolation .
} 2>"$WORK/log" || { tail -n 20 "$WORK/log" >&2; exit 1; }

say "a LXD as its package leaves it"
export LXD_DIR=/var/lib/lxd
mkdir -p "$LXD_DIR"
chmod 711 "$LXD_DIR"
setsid lxd --group lxd --logfile "$WORK/lxd.log" >"$WORK/lxd.out" 2>&1 &
trap 'lxd shutdown --timeout 20 || true; rm -rf "$WORK"' EXIT
lxd waitready --timeout 60 || { tail -n 20 "$WORK"/lxd.*; exit 1; }
lxc list >"$WORK/log" 2>&1   # its first call makes the client's files
dump >"$WORK/before"

say "set up"
"$PROGRAM" setup --yes --system-trust
say "again"
"$PROGRAM" setup --system-trust | tail -n 3
dump >"$WORK/between"
"$PROGRAM" setup --system-trust >"$WORK/log" 2>&1
dump | diff "$WORK/between" -

say "serve, and let lxc use the remote"
"$PROGRAM" serve >"$WORK/serve" 2>&1 &
SERVER=$!
for _ in $(seq 100); do ! grep -q '^serving' "$WORK/serve" || break; sleep 0.2; done
lxc image list lxdocker:
kill "$SERVER"
wait "$SERVER" || true

say "take it back"
"$PROGRAM" setup --undo --yes | tail -n 3
dump >"$WORK/after"
say "differences"
diff "$WORK/before" "$WORK/after" | grep '^[<>]' | tee "$WORK/differences" || true
if grep -vE "$STAYS" "$WORK/differences"; then
    echo "the machine is not as it was" >&2
    exit 1
fi
echo "the machine is as it was"
