#!/busybox-lxd sh
# What plain LXC runs as root inside the container just before the image's command (lxc.hook.start):
# network, kernel settings and names. It never fails, and nothing it leaves behind holds its output:
# either would keep the command from starting.
#
# LXDOCKER_NETWORK_WAIT in the container's environment: seconds to wait for an address, 10 if unset.

# Nothing of ours may hold LXC's pipes, nor wait for them.
exec </dev/null >/dev/null 2>&1

say() {
	printf 'lxdocker: %s\n' "$*" >"$live/out"
}

# Some settings exist in the machine's own network alone. A container that shares it
# (lxc.net.0.type = none) must not configure it.
shares_host_network() {
	[ -e /proc/sys/net/core/netdev_max_backlog ]
}

prepare_etc() {
	read -r hostname </proc/sys/kernel/hostname
	mkdir -p "$(readlink -f /etc)"
	[ -s /etc/hostname ] || printf '%s\n' "$hostname" | replace_file /etc/hostname
	[ -s /etc/hosts ] || printf '%s\t%s\n' 127.0.0.1 localhost 127.0.1.1 "$hostname" \
		::1 'localhost ip6-localhost ip6-loopback' ff02::1 ip6-allnodes \
		ff02::2 ip6-allrouters | replace_file /etc/hosts
}

# In a session of its own, so that a command which signals its process group doesn't reach it.
start_network() {
	setsid sh "$base/network.sh" execute &
	wait_seconds=${LXDOCKER_NETWORK_WAIT:-10}
	is_number "$wait_seconds" || wait_seconds=10
	[ "$wait_seconds" -gt 0 ] || return 0
	read -r now _ </proc/uptime
	sh "$base/network.sh" wait "$((${now%%.*} + wait_seconds))"
}

umask 022
. /.lxdocker/launch.sh
. /.lxdocker/prepare.sh

# LXC mixes the environment of its caller with the image's; scripts would take it for variables. What
# launch.sh has set is read once more, for one of those may have had its name.
read_exported
for name in $names; do
	case $name in
	LXDOCKER_NETWORK_WAIT | LXDOCKER_UDHCPC_NOPREFIXROUTE | UDHCPC_NO_DNS | UDHCPC_NO_DEFAULT_ROUTE) ;;
	*) unset "$name" ;;
	esac
done
. /.lxdocker/launch.sh

# The mount is LXC's; without it a start begins on what the last one left.
mounted "$live" || rm -rf "${live:?}"/*
mkdir -p "$live/net" "$live/dns"
chmod 0700 "$live"
if [ -c /dev/console ]; then ln -s /dev/console "$live/out"; else ln -s /dev/null "$live/out"; fi
prepare_etc
if ! shares_host_network; then
	prepare_kernel
	start_network
fi
exit 0
