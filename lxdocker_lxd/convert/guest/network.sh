#!/busybox-lxd sh
# Addresses by DHCP on each interface that has none, at start and later ones too; each interface has
# a client of its own, so a network without a server holds up nobody else. IPv6 needs only the link:
# the kernel takes address and route from router advertisements.
#
#   network.sh              runs as long as the instance
#   network.sh execute      ends with the command where PID 1 is the init of lxc-execute
#   network.sh wait UPTIME  returns when each client has an address or has tried, or at UPTIME

base=/.lxdocker
net=$base/live/net

say() {
	printf 'lxdocker: %s\n' "$*" >"$base/live/out"
}

# Real interfaces only: what a program inside makes for itself (bridges, tunnels) is its own.
wanted() {
	read -r type <"$1/type" || return 1
	[ "$type" = 1 ] || return 1
	[ ! -e "$1/master" ] && [ ! -e "$1/bridge" ] && [ ! -e "$1/tun_flags" ] || return 1
	case ${1##*/} in veth* | docker* | br-* | virbr* | lxdbr*) return 1 ;; esac
	return 0
}

start_client() {
	true >"$net/$1.pending"
	read -r hostname </proc/sys/kernel/hostname
	udhcpc -f -i "$1" -s /lxd-udhcpc-default.script -t 4 -T 2 -A 10 -x "hostname:$hostname" \
		-O search -O staticroutes -O mtu </dev/null >/dev/null 2>&1 &
	printf '%s\n' "$!" >"$net/$1.pid"
}

# What is gone takes its client along; an interface that comes back under the name is a new one.
forget() {
	for known in "$net"/*.index; do
		[ -e "$known" ] || continue
		name=${known##*/}
		name=${name%.index}
		read -r index <"$known"
		now=''
		[ ! -e "/sys/class/net/$name/ifindex" ] || read -r now <"/sys/class/net/$name/ifindex"
		[ "$index" != "$now" ] || continue
		if [ -e "$net/$name.pid" ]; then
			read -r client <"$net/$name.pid"
			kill "$client" 2>/dev/null
		fi
		rm -f "$net/$name".* "$base/live/dns/$name"
	done
}

look() {
	for path in /sys/class/net/*; do
		name=${path##*/}
		if [ "$name" = lo ] || [ -e "$net/$name.index" ] || ! wanted "$path"; then continue; fi
		cat "$path/ifindex" >"$net/$name.index" || continue
		# With an address already (LXD gives routed interfaces theirs), only the link is ours.
		case $(ip addr show dev "$name" scope global 2>/dev/null) in
		*inet*) ip link set "$name" up ;;
		*)
			ip link set "$name" up
			start_client "$name"
			;;
		esac
	done
}

pending() {
	[ -e "$net/looked" ] || return 0
	for path in "$net"/*.pending; do
		[ -e "$path" ] && return 0
	done
	return 1
}

if [ "$1" = wait ]; then
	while pending; do
		read -r now _ </proc/uptime
		if [ "${now%%.*}" -ge "$2" ]; then
			say "no address from DHCP yet; the command starts without"
			exit 0
		fi
		usleep 20000
	done
	exit 0
fi

# The init of lxc-execute waits for every process; it must not be us that it waits for.
end_with_command() {
	read -r init </proc/1/comm
	case $init in lxc-execute | lxc-init* | init.lxc*) ;; *) return 0 ;; esac
	pause=1
	read -r children </proc/1/task/1/children
	[ "$children" != "$$" ] || kill -KILL 0
}

pause=5
ip link set lo up
while :; do
	forget
	look
	true >"$net/looked"
	[ "$1" != execute ] || end_with_command
	sleep "$pause"
done
