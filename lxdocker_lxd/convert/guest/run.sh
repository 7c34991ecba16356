#!/busybox-lxd sh
# Runs a program as the entrypoint runs: same environment, user, groups and directory.
#
#   /.lxdocker/run PROGRAM [ARGUMENT...]
#   /.lxdocker/run --health [SECONDS]     the health check, of SECONDS at most
#
# The health check answers 0 when it was run and passed, 1 when it failed or took too long, 124 when
# there is none, 125 when the command wasn't started yet; 126 and 127 as a shell does.
# Read by hand (`lxc exec NAME -- /.lxdocker/run sh`) or by whoever watches the instance.

. /.lxdocker/launch.sh

if [ $# = 0 ]; then
	printf 'usage: /.lxdocker/run PROGRAM [ARGUMENT...] | --health\n' >&2
	exit 2
fi
if [ "$(id -u)" != 0 ]; then
	printf '/.lxdocker/run: only root may\n' >&2
	exit 126
fi
if [ ! -r "$live/launch" ]; then
	printf '/.lxdocker/run: the command was not started yet\n' >&2
	[ "$1" != --health ] || exit 125
	exit 126
fi
{
	read -r -d '' uid
	read -r -d '' gid
	read -r -d '' groups
	IFS= read -r -d '' working_dir
	read -r -d '' seconds
} <"$live/launch"

if [ "$1" = --health ]; then
	IFS= read -r -d '' argv0 <"$live/health" || exit 124
	[ "$argv0" != none ] || exit 124
	argv_file=$live/health
	! is_number "$2" || seconds=$2
	# The limit has to be kept in here: from outside, a started check can't be called off.
	if [ "$2" != now ]; then
		timeout -s KILL "$seconds" "$box" sh /.lxdocker/run --health now || exit 1
		exit 0
	fi
else
	argv0=$1 argv_file=$live/run.$$
	printf '%s\0' "$@" >"$argv_file"
fi

read_search_path
enter_directory "$working_dir" || exit 126
find_program "$argv0" "$working_dir" "$search_path" || {
	code=$?
	printf '/.lxdocker/run: %s\n' "$problem" >&2
	exit "$code"
}
set --
[ ! -t 0 ] || set -- "TERM=${TERM:-xterm}"
launch "$program" "$argv0" "$@"
