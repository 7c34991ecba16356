# How a program is started as the entrypoint: its environment, user, directory and path. Read by
# init and by the command /.lxdocker/run. Data comes from NUL-separated files and stays data.
#
# Programs of the image are only ever started by an absolute path: busybox takes a bare name for one
# of its own applets, so `sh` or `id` would silently be busybox's instead of the image's.

box=/busybox-lxd
base=/.lxdocker
live=$base/live
argv_file=$live/argv
default_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# find_program NAME DIRECTORY PATH: sets `program` to an absolute path, looked for as a kernel and a
# shell would. Returns 127 if there is none and 126 if none may be executed, with `problem` set.
find_program() {
	program='' problem="$1: not found in the image"
	case $1 in
	'') return 127 ;;
	/*) candidate=$1 ;;
	*/*) candidate=${2%/}/$1 ;;
	*)
		found=127 search=$3:
		problem="$1: not found in PATH=$3"
		while [ -n "$search" ]; do
			directory=${search%%:*}
			search=${search#*:}
			case $directory in /*) ;; *) directory=${2%/}/$directory ;; esac
			candidate=${directory%/}/$1
			[ -f "$candidate" ] || continue
			[ -x "$candidate" ] && program=$candidate && return 0
			found=126
			problem="$candidate: may not be executed"
		done
		return "$found"
		;;
	esac
	[ -e "$candidate" ] || return 127
	problem="$candidate: is a directory or may not be executed"
	if [ ! -f "$candidate" ] || [ ! -x "$candidate" ]; then return 126; fi
	program=$candidate
}

# A number in decimal notation; with leading zeros the shell would count in octal.
is_number() {
	case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
	[ "${#1}" -le 10 ] && [ "$1" -le 4294967294 ]
}

# find_user USER[:GROUP]: sets uid, gid, user_home and `groups`, which is "all" when the user also
# has the groups that list it. Same rules as Docker: a name must exist; an unknown number runs with
# group 0; a group given here is the only one. Returns 126 with `problem` set.
find_user() {
	wanted=${1%%:*} wanted_group=''
	case $1 in *:*) wanted_group=${1#*:} ;; esac
	uid='' gid=0 user_home='' user_name='' groups=none
	if [ -r /etc/passwd ]; then
		while IFS=: read -r name _ number group _ home _; do
			if ! is_number "$number" || ! is_number "$group"; then continue; fi
			case $name:$number in
			"${wanted:-root}":* | *:"${wanted:-0}") ;;
			*) continue ;;
			esac
			uid=$number gid=$group user_home=$home user_name=$name
			break
		done </etc/passwd
	fi
	if [ -z "$uid" ]; then
		uid=${wanted:-0}
		problem="user $wanted: not in the image's /etc/passwd"
		is_number "$uid" || return 126
	fi
	if [ -n "$wanted_group" ]; then
		find_group "$wanted_group"
	elif [ -n "$user_name" ]; then
		find_memberships
	fi
}

find_group() {
	gid=''
	if [ -r /etc/group ]; then
		while IFS=: read -r name _ number _; do
			is_number "$number" || continue
			case $name:$number in "$1":* | *:"$1") gid=$number && return 0 ;; esac
		done </etc/group
	fi
	problem="group $1: not in the image's /etc/group"
	is_number "$1" || return 126
	gid=$1
}

# start-stop-daemon looks the groups up by the first name that has the uid; with two names for one
# uid, the second one's groups can't be had.
find_memberships() {
	[ -r /etc/group ] || return 0
	while IFS=: read -r name _ number members; do
		case ,$members, in *,"$user_name",*) groups=all ;; esac
	done </etc/group
	[ "$groups" = all ] || return 0
	while IFS=: read -r name _ number _; do
		[ "$number" = "$uid" ] || continue
		[ "$name" = "$user_name" ] || groups=none
		return 0
	done </etc/passwd
}

# Sets search_path to the PATH in $live/env.
read_search_path() {
	search_path=''
	while IFS= read -r -d '' item || [ -n "$item" ]; do
		case $item in PATH=*) search_path=${item#*=} ;; esac
	done <"$live/env"
}

# enter_directory PATH: what Docker does with a WORKDIR that isn't there: makes it.
enter_directory() {
	[ -d "$1" ] || mkdir -p -- "$1"
	cd -P -- "$1" || return 126
}

# Sets `names` to those of the variables that a program would get if this shell started one. Names that
# a shell can't use are left out: busybox has dropped those variables, and they would end a script here.
read_exported() {
	# As a program of its own: in the shell's memory awk breaks at what it can't write to.
	names=$("$box" awk 'BEGIN { for (name in ENVIRON) if (name ~ /^[A-Za-z_][0-9A-Za-z_]*$/) print name }')
}

# What this shell was given, and has made itself, goes to nothing that it starts.
keep_environment() {
	read_exported
	for name in $names; do
		# shellcheck disable=SC2163  # the name is in it
		export -n "$name"
	done
}

# become NAME=VALUE... -- PROGRAM [ARGUMENT...]: becomes a program that has these variables, and no
# other; of one name, the last counts. All users may read a program's arguments, so no value becomes
# one, not even for a moment. `export` refuses names that a shell can't use; `local` and `set -a` take
# any.
become() {
	keep_environment
	set -a
	# From here on, each variable of our own could be one of those.
	while :; do
		case $1 in --) break ;; esac
		local "$1"
		shift
	done
	shift
	exec "$@"
}

# launch PROGRAM ARGV0 [VARIABLE...]: becomes PROGRAM. Arguments and environment come from the files
# $argv_file (without its first item) and $live/env, user from uid, gid, groups. Two applets do it, the
# first giving way to the second: nsenter sets ids without asking /etc/passwd; start-stop-daemon sets
# groups and the program's own argv[0].
launch() {
	program=$1 zeroth=$2 skip=1
	shift 2
	while IFS= read -r -d '' item || [ -n "$item" ]; do
		set -- "$@" "$item"
	done <"$live/env"
	set -- "$@" --
	if [ "$groups" = all ]; then
		set -- "$@" "$box" start-stop-daemon -S -p "$base/none" -c "$uid"
	else
		[ "$uid:$gid" = 0:0 ] || set -- "$@" "$box" nsenter -F -S "$uid" -G "$gid"
		set -- "$@" "$box" start-stop-daemon -S -p "$base/none"
	fi
	set -- "$@" -x "$program" -a "$zeroth" --
	while IFS= read -r -d '' item || [ -n "$item" ]; do
		[ -n "$skip" ] && skip='' && continue
		set -- "$@" "$item"
	done <"$argv_file"
	# What /.lxdocker/run left for this one start.
	case $argv_file in "$live"/run.*) rm -f "$argv_file" ;; esac
	become "$@"
}
