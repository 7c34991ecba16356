#!/busybox-lxd sh
# Becomes the image's command where LXC's own settings can't hold its words, variables or directory.
# LXC has already changed user and groups. Image data stays data; variables that LXC was given count
# more than the image's.

. /.lxdocker/launch.sh

image=$base/image argv_file=$base/image/argv search_path=$default_path skip=1

IFS= read -r -d '' working_dir <"$image/working_dir"
cd -P -- "$working_dir" || exit 126

set --
for file in "$image/env" /proc/self/environ; do
	while IFS= read -r -d '' item || [ -n "$item" ]; do
		case $item in
		PATH=*) search_path=${item#*=} ;;
		=*) continue ;;
		*=*) ;;
		*) continue ;;
		esac
		set -- "$@" "$item"
	done <"$file"
done

if ! IFS= read -r -d '' argv0 <"$argv_file"; then
	printf 'lxdocker: there is no command: the image has neither entrypoint nor cmd\n' >&2
	exit 127
fi
find_program "$argv0" "$working_dir" "$search_path" || {
	code=$?
	printf 'lxdocker: %s\n' "$problem" >&2
	exit "$code"
}
set -- "$@" -- "$box" start-stop-daemon -S -p "$base/none" -x "$program" -a "$argv0" --
while IFS= read -r -d '' item || [ -n "$item" ]; do
	[ -n "$skip" ] && skip='' && continue
	set -- "$@" "$item"
done <"$argv_file"
become "$@"
