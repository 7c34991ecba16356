#!/bin/bash
# install.sh BASE WORK SCRIPT PACKAGE...: installs packages over a minimal Debian system in an
# overlay; WORK/upper then holds what changed. Run in a mount namespace of its own, so that every
# mount ends with it.
set -euo pipefail

base=$1 work=$2 script=$3
shift 3
merged=$work/merged
mkdir -p "$work/upper" "$work/overlay" "$merged"
mount -t overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/overlay" overlay "$merged"
mount -t proc proc "$merged/proc"
mount --rbind /dev "$merged/dev"
touch "$merged/etc/resolv.conf"
mount --bind "$(readlink -f /etc/resolv.conf)" "$merged/etc/resolv.conf"
inside() {
    chroot "$merged" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive "$@"
}
inside apt-get install -q -y --no-install-recommends "$@"
inside sh -euc "$script"
# The files of the layer below that go away become whiteouts.
inside sh -c 'apt-get clean; rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/dpkg.log'
