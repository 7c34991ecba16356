# Puts what a DHCP server offers into effect. Switches, from the image's or the instance's
# environment, on with any value but empty, 0, no, false and off:
#   LXDOCKER_UDHCPC_NOPREFIXROUTE  no route to the interface's own network
#   UDHCPC_NO_DNS                  /etc/resolv.conf stays as it is
#   UDHCPC_NO_DEFAULT_ROUTE        no default route

. /.lxdocker/prepare.sh

base=/.lxdocker
dns_directory=$base/live/dns
pending=$base/live/net/$interface.pending

say() {
	printf 'lxdocker: %s: %s\n' "$interface" "$*" >"$base/live/out"
}

on() {
	case $1 in '' | 0 | no | false | off) return 1 ;; esac
	return 0
}

# The first interface's default route wins; others stand in for it.
metric() {
	read -r index <"/sys/class/net/$interface/ifindex"
	printf '%s' "${index:-0}"
}

set_address() {
	case $mtu in '' | *[!0-9]*) ;; *) [ "$mtu" -lt 576 ] || ip link set "$interface" mtu "$mtu" ;; esac
	set -- "$ip/$mask" dev "$interface"
	case $(ip -4 addr show dev "$interface") in
	*"inet $ip/$mask "*) return 0 ;;
	esac
	[ -z "$broadcast" ] || set -- "$@" broadcast "$broadcast"
	if on "$LXDOCKER_UDHCPC_NOPREFIXROUTE"; then set -- "$@" noprefixroute; fi
	ip -4 addr flush dev "$interface"
	ip -4 addr add "$@"
}

# Routes of option 121 come in pairs and take the place of the router, as RFC 3442 wants.
set_routes() {
	metric=$(metric)
	while ip -4 route del default dev "$interface" 2>/dev/null; do :; done
	on "$UDHCPC_NO_DEFAULT_ROUTE" && no_default=1 || no_default=''
	if [ -n "$staticroutes" ]; then
		# shellcheck disable=SC2086  # pairs, separated by blanks
		set -- $staticroutes
		while [ $# -ge 2 ]; do
			add_route "$1" "$2"
			shift 2
		done
	else
		add_route 0.0.0.0/0 "${router%% *}"
	fi
}

add_route() {
	case $1 in
	0.0.0.0/0) [ -z "$no_default" ] && [ -n "$2" ] || return 0 ;;
	esac
	if [ "$2" = 0.0.0.0 ]; then
		ip -4 route replace "$1" dev "$interface" metric "$metric"
		return 0
	fi
	# A router outside of our own network, as with /32 addresses, is told to be on the link.
	ip -4 route replace "$1" via "$2" dev "$interface" metric "$metric" 2>/dev/null ||
		ip -4 route replace "$1" via "$2" dev "$interface" metric "$metric" onlink
}

set_dns() {
	if [ "$1" = bound ] && [ -n "$dns" ]; then
		{
			[ -z "${search:-$domain}" ] || printf 'search %s\n' "${search:-$domain}"
			for server in $dns; do
				printf 'nameserver %s\n' "$server"
			done
		} >"$dns_directory/$interface"
	else
		[ -e "$dns_directory/$interface" ] || return 0
		rm -f "$dns_directory/$interface"
	fi
	if on "$UDHCPC_NO_DNS"; then return 0; fi
	# Several interfaces may come here at once: one after the other, or a server's names get lost.
	tries=0
	while ! mkdir "$base/live/dns.lock" 2>/dev/null && [ "$tries" -lt 200 ]; do
		usleep 10000
		tries=$((tries + 1))
	done
	write_resolv_conf
	rmdir "$base/live/dns.lock" 2>/dev/null
}

# One file of all interfaces, in place at once; a link that leads nowhere is replaced by it. Only a mount
# of the file, which nobody can exchange, is written to as it is.
write_resolv_conf() {
	resolv=$base/live/resolv.conf
	[ -d /etc ] || mkdir -p "$(readlink -f /etc)"
	cat "$dns_directory"/* >"$resolv" 2>/dev/null
	if cmp -s "$resolv" /etc/resolv.conf || [ -d /etc/resolv.conf ]; then return 0; fi
	replace_file /etc/resolv.conf <"$resolv" && return 0
	! mounted /etc/resolv.conf || cat "$resolv" >/etc/resolv.conf
}

case $1 in
bound | renew)
	set_address
	set_routes
	set_dns bound
	[ "$1" = renew ] || say "$ip/$mask by DHCP"
	rm -f "$pending"
	;;
deconfig)
	ip link set "$interface" up
	ip -4 addr flush dev "$interface"
	set_dns lost
	;;
leasefail | nak)
	[ ! -e "$pending" ] || say "no answer from a DHCP server; trying on"
	[ "$1" = nak ] || rm -f "$pending"
	;;
esac
