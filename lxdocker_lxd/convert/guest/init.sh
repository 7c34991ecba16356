#!/busybox-lxd sh
# PID 1 of a converted image: prepares what a Docker image expects, then supervises the command or
# becomes it. `lxc stop` sends SIGPWR, or signal 37 to a PID 1 that blocks it.
#
# Only `wait` may ever block here: in anything else a signal would have to wait, and orphans would not
# be reaped. Busybox finds its own applets by name; nothing of the image is started by name.

mode='' stopping='' app='' pause='' logger='' network='' guard='' code=0 problem='' restarts=0 number=''
live='' base='' box='' started_at='' prelaunch_code=null last_code=null restart=no stop_signal=15 stop_timeout=10

on_stop() {
	[ -z "$stopping" ] || return 0
	stopping=1
	[ -z "$app" ] || end_app
	[ -z "$pause" ] || kill "$pause" 2>/dev/null
}
pass_on() {
	[ -z "$app" ] || kill "-$1" "$app" 2>/dev/null
}
trap on_stop PWR TERM 37
# Ctrl-C and Ctrl-\ of `lxc console` mean nobody; a caught signal isn't ignored by what we start.
trap : INT QUIT
trap 'pass_on 1' HUP
trap 'pass_on 10' USR1
trap 'pass_on 12' USR2
# Makes `wait` return when any child ends, so that a dead logger is noticed. (`wait -n` of busybox 1.35
# may sleep on although a child has ended.)
trap : CHLD

umask 022
unset LC_ALL LC_CTYPE LANG CDPATH
# A session leader that opens a terminal gets it as its own; job control needs that (start_app).
if true <>/dev/console; then
	exec </dev/console >/dev/console 2>&1
fi
exec 3>&1

. /.lxdocker/launch.sh
. /.lxdocker/words.sh
. /.lxdocker/prepare.sh

# The instance's variables are for the command. A script that we start would take them for its own:
# the DHCP client's, for what a server said.
keep_environment

say() {
	printf 'lxdocker: %s\n' "$*" >&3
}

# Seconds since boot, in `now`; the clock may jump, this may not.
read_uptime() {
	read -r now _ </proc/uptime
	now=${now%%.*}
}

# A text inside JSON quotes.
json_text() {
	text=$(printf '%s' "$1" | tr -d '\001-\037')
	text=$(printf '%s' "$text" | sed 's/[\\"]/\\&/g')
}

# write_state STATUS: $base/state, which `lxc file pull` reads, also from a stopped instance. On a
# full disk there is none: what an earlier start left would be taken for this one's.
write_state() {
	moment=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	finished_at=null supervised=null asked=false
	case $1 in
	running) started_at="\"$moment\"" ;;
	restarting | exited) finished_at="\"$moment\"" ;;
	esac
	case $mode in
	exec) supervised=false ;;
	supervise) supervised=true ;;
	esac
	[ -z "$stopping" ] || asked=true
	json_text "$problem"
	printf '{"status":"%s","exit_code":%s,"restarts":%s,"stop_requested":%s,"supervisor":%s,%s}\n' \
		"$1" "$last_code" "$restarts" "$asked" "$supervised" \
		"\"started_at\":${started_at:-null},\"finished_at\":$finished_at,$(
			printf '"prelaunch_exit_code":%s,"problem":"%s"' "$prelaunch_code" "$text"
		)" >"$base/state.new" 2>/dev/null && mv -f "$base/state.new" "$base/state" && return 0
	rm -f "$base/state.new" "$base/state"
}

# The fifo takes what the command and init write. Any user may open it by path (/dev/stdout), which
# a console or a plain pipe would refuse, but only to write: whoever reads takes lines out of the log.
# PID 1 keeps it open, so no writer sees it closed.
prepare_log() {
	# systemd keeps its log itself, and at its end waits for every process that doesn't go at once.
	if [ "$mode:$init" = exec:systemd ]; then
		ln -s /dev/console "$live/out"
		return 0
	fi
	mkfifo "$live/out" && chmod 0622 "$live/out" && exec 9<>"$live/out" && exec 2>&9 3>&9 &&
		start_logger
}

start_logger() {
	# Reading only, it sees the end of all writers and PID 1 can wait for the last line. Without a
	# supervisor it must hold the fifo open itself.
	if [ "$mode" = exec ]; then
		sh "$base/logger.sh" "$log_size" 3>&- 9>&- 0<>"$live/out" >/dev/null 2>&1 &
	else
		sh "$base/logger.sh" "$log_size" 3>&- 9>&- <"$live/out" >/dev/null 2>&1 &
	fi
	logger=$!
}

# Waits for the process $pause, or for a stop.
wait_pause() {
	while kill -0 "$pause" 2>/dev/null && [ -z "$stopping" ]; do
		wait "$pause"
	done
	pause=''
}

start_network() {
	(
		export "LXDOCKER_UDHCPC_NOPREFIXROUTE=$no_prefix_route"
		export "UDHCPC_NO_DNS=$no_dns" "UDHCPC_NO_DEFAULT_ROUTE=$no_default_route"
		exec "$box" sh "$base/network.sh"
	) 3>&- 9>&- </dev/null >/dev/null 2>&1 &
	network=$!
	[ "$network_wait" -gt 0 ] || return 0
	read_uptime
	sh "$base/network.sh" wait "$((now + network_wait))" 2>/dev/null 3>&- 9>&- </dev/null &
	pause=$!
	wait_pause
}

# The instance's own script: as root, in /, with the command's environment.
run_prelaunch() {
	[ -s /lxd-prelaunch ] || return 0
	read -r line </lxd-prelaunch
	(
		uid=0 gid=0 groups=none argv_file=$live/prelaunch
		cd / || exit 126
		case $line in
		'#!'*)
			printf '%s\0' /lxd-prelaunch >"$argv_file"
			launch /lxd-prelaunch /lxd-prelaunch
			;;
		*)
			printf '%s\0' sh /lxd-prelaunch >"$argv_file"
			launch "$box" sh
			;;
		esac
	) </dev/null >"$live/out" 2>&1 3>&- 9>&- &
	prelaunch=$! pause=$!
	wait_pause
	[ -z "$stopping" ] || return 0
	wait "$prelaunch"
	prelaunch_code=$?
	[ "$prelaunch_code" = 0 ] || say "/lxd-prelaunch ended with code $prelaunch_code"
}

# Without job control, what a shell starts in the background ignores SIGINT and SIGQUIT for ever.
start_app() {
	read_uptime
	begun=$now
	set -m
	(
		enter_directory "$working_dir" || exit 126
		launch "$program" "$argv0"
	) </dev/null >"$live/out" 2>&1 3>&- 9>&- &
	app=$!
	set +m
	[ -z "$stopping" ] || end_app
	write_state running
}

# The stop signal for the command, and a guard that ends it for good after the time it has. Between
# fork and exec the signal would be lost in the shell's own handler: then it is sent again.
end_app() {
	kill "-$stop_signal" "$app" 2>/dev/null
	(
		tries=0
		while [ "$(readlink "/proc/$app/exe")" = "$box" ] && [ "$tries" -lt 20 ]; do
			usleep 100000
			kill "-$stop_signal" "$app" 2>/dev/null
			tries=$((tries + 1))
		done
		sleep "$stop_timeout" 3>&-
		say "no end $stop_timeout s after the stop signal: killed"
		kill -KILL "-$app" 2>/dev/null || kill -KILL "$app"
	) </dev/null 2>/dev/null 9>&- &
	guard=$!
}

# Reaps everything until the command itself has ended; `code` is its exit code.
wait_app() {
	# A child that waits to be reaped still counts here; a wait, or any command run by name, reaps it.
	while kill -0 "$app" 2>/dev/null; do
		kill -0 "$logger" 2>/dev/null || start_logger
		wait "$app"
	done
	wait "$app"
	code=$? last_code=$?
	app=''
}

restart_wanted() {
	case $restart in
	always | unless-stopped) return 0 ;;
	on-failure) [ "$code" -ne 0 ] ;;
	on-failure:*) [ "$code" -ne 0 ] && [ "$restarts" -lt "${restart#*:}" ] ;;
	*) return 1 ;;
	esac
}

supervise() {
	delay=1
	while [ -z "$stopping" ]; do
		start_app
		wait_app
		if [ -n "$stopping" ] || ! restart_wanted; then return 0; fi
		read_uptime
		[ $((now - begun)) -lt 10 ] || delay=1
		restarts=$((restarts + 1))
		write_state restarting
		say "ended with code $code; start $((restarts + 1)) in $delay s"
		sleep "$delay" </dev/null 2>/dev/null 3>&- 9>&- &
		pause=$!
		wait_pause
		delay=$((delay * 2))
		[ "$delay" -le 60 ] || delay=60
	done
}

# as_user APPLET [ARGUMENT...]: runs one of our programs as the user of the command.
as_user() {
	[ "$uid:$gid" = 0:0 ] || set -- nsenter -F -S "$uid" -G "$gid" "$box" "$@"
	"$box" "$@"
}

# s6 ends cleanly on SIGTERM, and runs a program of its directory on SIGPWR: such a program makes the
# one into the other. The directory may be the application's, with links of its choice in it: all
# that is made there is one more link, by the user that s6 runs as.
s6_stop() {
	if [ ! -d "$1/.s6-svscan" ] || [ -e "$1/.s6-svscan/SIGPWR" ]; then return 0; fi
	as_user ln -s "$base/s6-stop" "$1/.s6-svscan/SIGPWR"
}

# s6-svscan is given its directory, or runs in it; s6-overlay makes its own while it starts.
s6_stops() {
	printf '#!%s sh\nkill -TERM 1\n' "$box" >"$base/s6-stop"
	chmod 0755 "$base/s6-stop"
	if [ "$init" = s6 ]; then
		directory=$working_dir
		while IFS= read -r -d '' item; do
			case $item in /*) [ ! -d "$item" ] || directory=$item ;; esac
		done <"$argv_file"
		as_user mkdir -p "$directory/.s6-svscan"
		s6_stop "$directory"
		return 0
	fi
	(
		tries=0
		while [ "$tries" -lt 600 ]; do
			for directory in /run/service /run/s6/services /var/run/s6/services; do
				s6_stop "$directory"
			done
			usleep 100000
			tries=$((tries + 1))
		done
	) 3>&- 9>&- </dev/null >/dev/null 2>&1 &
}

# The command becomes PID 1. What `lxc stop` then does is its own matter.
become_app() {
	write_state running
	if [ -n "$halt_signal" ]; then
		say "no supervisor: for a clean \`lxc stop\`, set on this instance: raw.lxc=lxc.signal.halt=$halt_signal"
	fi
	case $init in
	s6*) s6_stops ;;
	dumb-init)
		mv "$argv_file" "$live/rest"
		printf '%s\0' "$argv0" --rewrite "30:$stop_signal" >"$argv_file"
		tail -c +"$((${#argv0} + 2))" "$live/rest" >>"$argv_file"
		;;
	esac
	[ "$init" = systemd ] || exec </dev/null >"$live/out"
	exec 2>&1
	exec 3>&- 9>&-
	enter_directory "$working_dir" || exit 126
	launch "$program" "$argv0"
}

# finish CODE: the last lines go to the log, then the instance stops.
finish() {
	last_code=$1
	write_state exited
	[ -z "$problem" ] || say "$problem"
	true >"$live/closing"
	exec 2>/dev/null 3>&- 9>&-
	[ -z "$guard" ] || kill "$guard"
	[ -z "$network" ] || kill -KILL "$network"
	if [ -n "$logger" ]; then
		# A process that was left behind may hold the fifo open; it is no reason to wait.
		(sleep 1 && kill -KILL "$logger") </dev/null >/dev/null 2>&1 &
		while kill -0 "$logger" 2>/dev/null; do
			wait "$logger"
		done
	fi
	exit "$1"
}

write_state starting
prepare_live
read_settings
prepare_log
prepare_mounts
prepare_kernel
prepare_names
prepare_real_init
build_environment
start_network
[ -n "$stopping" ] || run_prelaunch
[ -z "$stopping" ] || finish 0

[ -z "$fatal" ] || problem=$fatal
[ -z "$fatal" ] || finish 126
# The script may have made users, and the environment file.
if [ -s /lxd-prelaunch ] || [ -n "$envfile" ]; then
	build_environment
	read_env_file
fi
[ "$found_user" = 0 ] || finish 126
build_command
problem='there is no command: the image has neither entrypoint nor cmd'
IFS= read -r -d '' argv0 <"$argv_file" || finish 127
find_program "$argv0" "$working_dir" "$search_path" || finish $?
# Without the bind, /sbin/init would be this script once more.
[ -n "$real_init" ] || [ ! "$program" -ef /sbin/init ] || program=/lxd-realinit
problem=''
printf '%s\0' "$uid" "$gid" "$groups" "$working_dir" "$health_timeout" >"$live/launch"
if [ "$mode" = exec ]; then
	become_app
fi
supervise
finish "$code"
