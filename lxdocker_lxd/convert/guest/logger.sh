#!/busybox-lxd sh
# logger.sh LIMIT: copies standard input to the console and to /.lxdocker/log. At LIMIT bytes the file
# becomes log.1 and a new one begins. A full disk costs lines of the file, never a writer's time.

limit=$1
base=/.lxdocker
# An init that ends all processes politely should still be heard while it does.
trap '' TERM INT QUIT HUP
# What the command says is for root, also what an earlier release kept.
umask 027
for file in "$base/log" "$base/log.1"; do
	[ ! -f "$file" ] || chmod 0640 "$file"
done

# What is left when PID 1 has let go of the fifo, until no writer is left either.
drain() {
	if [ "$limit" -gt 0 ]; then tee -a "$base/log"; else cat; fi >/dev/console 2>/dev/null
	exit 0
}

while :; do
	# dd hands on each read at once and counts reads, so the size is looked at now and then.
	if [ "$limit" -gt 0 ]; then
		dd bs=16384 count=64 2>/dev/null | tee -a "$base/log" >/dev/console 2>/dev/null
		size=$(stat -c %s "$base/log" 2>/dev/null)
		[ "${size:-0}" -lt "$limit" ] || mv -f "$base/log" "$base/log.1"
	else
		dd bs=16384 count=64 >/dev/console 2>/dev/null
	fi
	[ ! -e "$base/live/closing" ] || drain
done
