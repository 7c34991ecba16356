# What has to be in place before the command starts: mounts, kernel settings, names, settings,
# environment. Nothing here is fatal: a host may forbid a mount, and a message says so.

mounted() {
	while read -r _ point _; do
		case $point in "$1") return 0 ;; esac
	done </proc/mounts
	return 1
}

# Whether something is mounted at a directory or below it; a tmpfs would hide that.
mounted_below() {
	while read -r _ point _; do
		case $point in "$1" | "$1"/*) return 0 ;; esac
	done </proc/mounts
	return 1
}

# try WHAT COMMAND...: runs the command quietly; a failure is told, not fatal.
try() {
	what=$1
	shift
	answer=$("$@" 2>&1) || say "$what: ${answer:-failed}"
}

# replace_file FILE: what comes from standard input becomes its content, at once and legible for all. Its
# directory may be the application's: a link that lies there is replaced, never followed. Fails where
# that can't be done.
replace_file() {
	new=${1%/*}/.${1##*/}.lxdocker
	rm -f "$new"
	# -C makes a new file, or none.
	if (umask 022 && set -C && cat >"$new") 2>/dev/null && mv -fT "$new" "$1" 2>/dev/null; then
		return 0
	fi
	rm -f "$new"
	return 1
}

# A place of our own that a full disk can't block and that is empty at each start.
prepare_live() {
	mkdir -p "$live"
	mounted "$live" || mount -t tmpfs -o nosuid,nodev,noexec,mode=0700,size=4m lxdocker "$live" ||
		rm -rf "${live:?}"/*
	chmod 0700 "$live"
	mkdir -p "$live/net" "$live/dns"
}

prepare_mounts() {
	mkdir -p /dev/shm /dev/mqueue
	mounted /dev/shm ||
		try "mount /dev/shm" mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
	mounted /dev/mqueue ||
		try "mount /dev/mqueue" mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
	while IFS= read -r -d '' point; do
		mount_tmpfs "$point"
	done <"$base/image/tmpfs"
	[ "$init" = systemd ] || prepare_cgroup
}

# A tmpfs with the mode and owner of the directory that it covers.
mount_tmpfs() {
	if mounted_below "$1"; then
		say "no tmpfs on $1: something is mounted there"
		return 0
	fi
	if [ ! -d "$1" ]; then
		mkdir -p -- "$1"
		case $1 in /tmp | /var/tmp) chmod 1777 "$1" ;; esac
	fi
	options=$(stat -c 'mode=%a,uid=%u,gid=%g' -- "$1")
	try "mount a tmpfs on $1" mount -t tmpfs -o "nosuid,nodev,$options" tmpfs "$1"
}

# The limits that runtimes such as Java's read. On a host with both cgroup versions, the first one's
# controllers are what counts.
prepare_cgroup() {
	directory=/sys/fs/cgroup
	if [ ! -d "$directory" ] || mounted_below "$directory"; then return 0; fi
	if ! grep -q '^[0-9]*:[^:]*memory' /proc/self/cgroup; then
		try "mount $directory" mount -t cgroup2 -o ro,nosuid,nodev,noexec cgroup2 "$directory"
		return 0
	fi
	mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=64k cgroup "$directory" || return 0
	while IFS=: read -r _ controllers _; do
		case $controllers in
		memory | cpu | cpu,cpuacct | cpuset | pids)
			mkdir -p "$directory/$controllers"
			mount -t cgroup -o "ro,nosuid,nodev,noexec,$controllers" cgroup \
				"$directory/$controllers" || rmdir "$directory/$controllers"
			;;
		esac
	done </proc/self/cgroup 2>/dev/null
	[ ! -d "$directory/cpu,cpuacct" ] || ln -s cpu,cpuacct "$directory/cpu"
	return 0
}

# As Docker sets them: no router, any port for any user, ping without rights.
prepare_kernel() {
	net=/proc/sys/net
	try "IPv4 forwarding off" set_kernel "$net/ipv4/ip_forward" 0
	try "IPv6 forwarding off" set_kernel "$net/ipv6/conf/all/forwarding" 0
	try "ports below 1024 for all" set_kernel "$net/ipv4/ip_unprivileged_port_start" 0
	# The range may only name groups that exist here; the first line of the map is what matters.
	if read -r first _ count </proc/self/gid_map && [ "$first" = 0 ]; then
		[ "$count" -le 2147483647 ] || count=2147483648
		try "ping for all" set_kernel "$net/ipv4/ping_group_range" "0 $((count - 1))"
	fi
}

# set_kernel FILE VALUE: a kernel without that setting (no IPv6) needs no change.
set_kernel() {
	[ ! -e "$1" ] || printf '%s\n' "$2" >"$1"
}

# Where /etc is no place for LXD's templates, hostname and hosts are rendered beside our settings;
# they are taken over once, so a later change by hand stays.
prepare_names() {
	for name in hostname hosts; do
		[ -s "$base/in/$name" ] || continue
		if [ -d /etc ] || mkdir -p "$(readlink -f /etc)"; then
			replace_file "/etc/$name" <"$base/in/$name" && true >"$base/in/$name"
		fi
	done
}

# The image's own /sbin/init takes its place again, for whatever in the image looks for it.
prepare_real_init() {
	real_init=''
	[ -e /lxd-realinit ] || return 0
	mount -o bind /lxd-realinit /sbin/init && real_init=bound
}

# read_settings: the image's, then those of the instance, which LXD renders before each start.
read_settings() {
	user='' working_dir=/ stop_signal=15 stop_timeout=10 restart=no mode=supervise init=''
	halt_signal='' health_timeout=30 network_wait=10 log_size=10485760 supervisor='' fatal=''
	while IFS= read -r -d '' item; do
		value=${item#*=}
		case ${item%%=*} in
		user) user=$value ;;
		working_dir) working_dir=$value ;;
		stop_signal) stop_signal=$value ;;
		stop_timeout) stop_timeout=$value ;;
		restart) restart=$value ;;
		mode) mode=$value ;;
		init) init=$value ;;
		halt_signal) halt_signal=$value ;;
		health_timeout) health_timeout=$value ;;
		esac
	done <"$base/image/settings"
	[ -r "$base/in/settings" ] || return 0
	while IFS='=' read -r key value; do
		[ -n "$value" ] || continue
		override "$key" "$(httpd -d "$value")"
	done <"$base/in/settings"
	case $supervisor:$mode:$init in
	true:*) mode=supervise ;;
	false:supervise:*) mode=exec init='' halt_signal=$stop_signal ;;
	:exec:?*) [ ! -e "$live/entrypoint" ] || mode=supervise ;;
	esac
}

# override KEY VALUE: one setting of the instance. What decides about the command itself must be
# right; with the rest, the image's own value is the better choice.
override() {
	case $1 in
	entrypoint | cmd)
		words "$2" >"$live/$1" || fatal="user.lxdocker.$1: a quote isn't closed, or no JSON list"
		return 0
		;;
	health)
		words "$2" >"$live/health" && return 0
		rm -f "$live/health"
		;;
	user) user=$2 && return 0 ;;
	working_dir) case $2 in /*) working_dir=$2 && return 0 ;; esac ;;
	restart)
		case $2 in
		no | always | unless-stopped | on-failure) restart=$2 && return 0 ;;
		on-failure:*) is_number "${2#*:}" && restart=$2 && return 0 ;;
		esac
		;;
	stop_signal) signal_number "$2" && stop_signal=$number && return 0 ;;
	stop_timeout) is_number "$2" && stop_timeout=$2 && return 0 ;;
	network_wait) is_number "$2" && network_wait=$2 && return 0 ;;
	supervisor) case $2 in true | false) supervisor=$2 && return 0 ;; esac ;;
	log_size) size_bytes "$2" && log_size=$number && return 0 ;;
	*) return 0 ;;
	esac
	say "user.lxdocker.$1: '$2' is no value for it, left out"
}

# Sets `number` to a signal's, given as TERM, SIGTERM, 15 or SIGRTMIN+3.
signal_number() {
	name=$(printf '%s' "$1" | tr '[:lower:]' '[:upper:]')
	name=${name#SIG}
	case $name in
	RTMIN | RTMAX) name=${name}+0 ;;
	esac
	case $name in
	RTMIN+*) is_number "${name#*+}" && number=$((34 + ${name#*+})) ;;
	RTMAX-*) is_number "${name#*-}" && number=$((64 - ${name#*-})) ;;
	RTMAX+0) number=64 ;;
	[0-9]*) number=$name ;;
	*) number=$(kill -l "$name" 2>/dev/null) ;;
	esac
	is_number "$number" && [ "$number" -ge 1 ] && [ "$number" -le 64 ]
}

size_bytes() {
	number=${1%[KkMm]}
	is_number "$number" && [ "${#number}" -le 6 ] || { is_number "$1" && number=$1 && return 0; } ||
		return 1
	case $1 in
	*[Kk]) number=$((number * 1024)) ;;
	*[Mm]) number=$((number * 1048576)) ;;
	esac
}

# build_environment: writes $live/env. env takes the last value of a name, so the weakest come first:
# what Docker gives every container, the image's, the instance's. The user is looked up on the way.
# Reading is slow in a shell, a byte at a time, so each file is read once.
build_environment() {
	find_user "$user"
	found_user=$?
	[ "$found_user" != 0 ] || problem=''
	read -r hostname </proc/sys/kernel/hostname
	search_path=$default_path envfile='' no_prefix_route='' no_dns='' no_default_route=''
	printf '%s\0' "PATH=$default_path" "HOSTNAME=$hostname" "HOME=${user_home:-/}" >"$live/env"
	filter_variables <"$base/image/env" >>"$live/env"
	filter_variables </proc/1/environ >"$live/env.instance"
	cat "$live/env.instance" >>"$live/env"
}

# What LXDOCKER_ENVFILE names comes between the image's variables and the instance's.
read_env_file() {
	if [ -z "$envfile" ]; then return 0; fi
	if [ ! -f "$envfile" ]; then
		say "$envfile: no such file (LXDOCKER_ENVFILE)"
		return 0
	fi
	env_file <"$envfile" >>"$live/env" || say "$envfile: lines that aren't NAME=VALUE were left out"
	cat "$live/env.instance" >>"$live/env"
	read_search_path
}

# Passes on what is NAME=VALUE, without LXD's own mark, which only an init looks for. Remembers what
# the guest itself has a use for.
filter_variables() {
	while IFS= read -r -d '' item || [ -n "$item" ]; do
		case $item in
		container=* | container_ttys=*) [ "$mode" = exec ] || continue ;;
		=*) continue ;;
		PATH=*) search_path=${item#*=} ;;
		LXDOCKER_ENVFILE=*) envfile=${item#*=} ;;
		LXDOCKER_UDHCPC_NOPREFIXROUTE=*) no_prefix_route=${item#*=} ;;
		UDHCPC_NO_DNS=*) no_dns=${item#*=} ;;
		UDHCPC_NO_DEFAULT_ROUTE=*) no_default_route=${item#*=} ;;
		*=*) ;;
		*) continue ;;
		esac
		printf '%s\0' "$item"
	done
}

# The command: an entrypoint of the instance also replaces the image's cmd, as in Docker.
build_command() {
	if [ -e "$live/entrypoint" ]; then
		cat "$live/entrypoint"
		[ ! -e "$live/cmd" ] || cat "$live/cmd"
	else
		cat "$base/image/entrypoint"
		if [ -e "$live/cmd" ]; then cat "$live/cmd"; else cat "$base/image/cmd"; fi
	fi >"$argv_file"
	[ -e "$live/health" ] || cat "$base/image/health" >"$live/health"
}
