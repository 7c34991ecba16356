#!/bin/bash
# From an image name to a container that answers, on a bare Debian 12.
#
#   sudo examples/quickstart.sh                  a small web page, made on the spot
#   sudo examples/quickstart.sh IMAGE            nginx, ghcr.io/owner/name:tag, oci:DIR[:TAG], FILE.yaml
#   sudo examples/quickstart.sh --clean          takes away what it made
#
# It installs what is missing, starts LXD if none runs, gives LXD a storage pool and a network only
# where it has none, converts the image, launches it and shows that it answers. Running it again
# changes nothing that is already right. What it makes is written to $STATE/made, for --clean.
#
# LXD_DIR chooses another LXD, LXDOCKER_QUICKSTART_STATE another directory than the one below,
# LXDOCKER_LXD a command to use instead of this checkout, LXDOCKER_QUICKSTART_BRIDGE the name of the
# bridge to make where LXD has no network.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STATE=${LXDOCKER_QUICKSTART_STATE:-/var/lib/lxdocker-lxd/quickstart}
PREFIX=lxdocker-
PACKAGES=(busybox-static squashfs-tools python3 python3-venv curl ca-certificates iproute2)
LXD_PACKAGES=(lxd lxd-client dnsmasq-base iptables uidmap rsync xz-utils attr)
# The root directory to look for LXD in; tests make one.
LOOK_IN=
ANSWER_SECONDS=${LXDOCKER_QUICKSTART_SECONDS:-60}

step() { printf '%-12s %s\n' "$1" "$2"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

ask() { python3 "$HERE/quickstart/answers.py" "$@"; }

made() {
    mkdir -p "$STATE"
    grep -qxF "$*" "$STATE/made" 2>/dev/null || printf '%s\n' "$*" >>"$STATE/made"
}

# What is kept there is run, and believed, as root.
expect_own_state() {
    if [ -L "$STATE" ] || [ ! -d "$STATE" ] || [ ! -O "$STATE" ] ||
        [ -n "$(find "$STATE" -maxdepth 0 -perm /022)" ]; then
        fail "$STATE is no directory that belongs to root alone" \
            "name another one with LXDOCKER_QUICKSTART_STATE, or: chown root: $STATE; chmod go-w $STATE"
    fi
}

# Prints the client and the directory of the LXD to use: Debian's package, or the snap.
# LXD_DIR decides when it is set.
locate_lxd() {
    local root=$LOOK_IN
    if [ -n "${LXD_DIR:-}" ] && type -P lxc >/dev/null; then
        printf '%s %s\n' "$(type -P lxc)" "$LXD_DIR"
    elif [ -x "$root/usr/bin/lxc" ] && [ -x "$root/usr/bin/lxd" ]; then
        printf '%s %s\n' "$root/usr/bin/lxc" "$root/var/lib/lxd"
    elif [ -x "$root/snap/bin/lxc" ]; then
        printf '%s %s\n' "$root/snap/bin/lxc" "$root/var/snap/lxd/common/lxd"
    else
        return 1
    fi
}

missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$package"
    done
}

install_packages() {
    local wanted=("${PACKAGES[@]}") missing
    command -v dpkg-query >/dev/null ||
        fail "this is no Debian or Ubuntu: packages can't be installed" \
            "install ${PACKAGES[*]} ${LXD_PACKAGES[*]} by hand"
    local use_snap=
    if ! locate_lxd >/dev/null; then
        # Ubuntu's package only fetches the snap.
        if command -v snap >/dev/null && ! grep -qx 'ID=debian' /etc/os-release; then
            use_snap=1
        fi
    fi
    local client
    client=$(locate_lxd) || client=
    case "$use_snap$client" in
    1* | */snap/*) ;;
    *) wanted+=("${LXD_PACKAGES[@]}") ;;
    esac
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    if ((${#missing[@]})); then
        step packages "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
            >"$STATE/apt.log" 2>&1 ||
            fail "apt-get could not install ${missing[*]}: $(grep -E '^E:' "$STATE/apt.log" | tail -n1)" \
                "see $STATE/apt.log"
    fi
    [ -z "$use_snap" ] || snap install lxd >"$STATE/snap.log" 2>&1 ||
        fail "snap could not install lxd" "see $STATE/snap.log"
    step packages "installed"
}

# Only files whose hashes the lock files name are installed, and only wheels: nothing else runs here.
install_locked() {
    local source=$1 venv=$2
    python3 -m venv "$venv" &&
        "$venv/bin/pip" install --require-hashes --only-binary :all: \
            -r "$source/packaging/requirements.txt" -r "$source/packaging/requirements-build.txt" &&
        "$venv/bin/pip" install --no-index --no-deps --no-build-isolation "$source"
}

# The converter: $LXDOCKER_LXD, else this checkout in a virtual environment, else the one in PATH.
prepare_converter() {
    local checkout stamp version
    checkout=$(dirname "$HERE")
    if [ -n "${LXDOCKER_LXD:-}" ]; then
        CONVERTER=$LXDOCKER_LXD
    elif [ -f "$checkout/pyproject.toml" ]; then
        CONVERTER=$STATE/venv/bin/lxdocker-lxd
        stamp=$(cd "$checkout" && find pyproject.toml lxdocker_lxd packaging -name __pycache__ -prune -o \
            -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
        if [ "$stamp" != "$(cat "$STATE/venv/installed" 2>/dev/null)" ]; then
            step converter "installing into $STATE/venv"
            rm -rf "$STATE/venv" "$STATE/source"
            mkdir "$STATE/source"
            # From a copy: a build leaves files beside its source.
            cp -R "$checkout"/{pyproject.toml,README.md,LICENSE,lxdocker_lxd,packaging} \
                "$STATE/source/"
            install_locked "$STATE/source" "$STATE/venv" >"$STATE/pip.log" 2>&1 ||
                fail "pip could not install lxdocker-lxd: $(grep -m1 -E 'ERROR|error:' "$STATE/pip.log")" \
                    "see $STATE/pip.log"
            rm -rf "$STATE/source"
            printf '%s' "$stamp" >"$STATE/venv/installed"
        fi
    else
        CONVERTER=$(command -v lxdocker-lxd) ||
            fail "lxdocker-lxd is not installed" "run this script from a checkout, or install it"
    fi
    version=$("$CONVERTER" --version) || fail "$CONVERTER does not run" "the line above says why"
    step converter "$version"
}

lxc() { LXD_DIR=$DIRECTORY "$CLIENT" "$@"; }

answers() { lxc query /1.0 >/dev/null 2>&1; }

start_lxd() {
    local located
    located=$(locate_lxd) || fail "no LXD is installed" "install it: apt-get install lxd"
    CLIENT=${located%% *}
    DIRECTORY=${located#* }
    # The client's first call prints advice for newcomers.
    lxc remote list >/dev/null 2>&1 || true
    if answers; then
        step LXD "already runs in $DIRECTORY"
        return
    fi
    step LXD "starting"
    case "$CLIENT" in
    /snap/*) snap start lxd >/dev/null ;;
    *)
        if [ -z "${LXD_DIR:-}" ] && [ -d /run/systemd/system ]; then
            systemctl start lxd.socket lxd
        else
            local group=root
            ! getent group lxd >/dev/null || group=lxd
            mkdir -p "$DIRECTORY"
            chmod 711 "$DIRECTORY"
            LXD_DIR=$DIRECTORY setsid lxd --group "$group" --logfile "$STATE/lxd.log" \
                </dev/null >"$STATE/lxd.out" 2>&1 &
            made daemon "$DIRECTORY"
        fi
        ;;
    esac
    local waited=0
    until answers; do
        waited=$((waited + 1))
        if ((waited > 120)); then
            fail "LXD in $DIRECTORY does not answer: $(tail -n1 "$STATE/lxd.out" 2>/dev/null)" \
                "see $STATE/lxd.log, or journalctl -u lxd"
        fi
        sleep 0.5
    done
    step LXD "runs in $DIRECTORY"
}

free_bridge() {
    local number=0
    while [ -e "/sys/class/net/lxdbr$number" ]; do number=$((number + 1)); done
    printf 'lxdbr%s\n' "$number"
}

# Gives LXD's default profile a root disk and a network, where it has none.
prepare_lxd() {
    local profile pool network
    profile=$(lxc query /1.0/profiles/default)
    if [ -z "$(ask devices root <<<"$profile")" ]; then
        pool=$(lxc storage list --format csv | cut -d, -f1 | head -n1)
        if [ -z "$pool" ]; then
            pool=default
            lxc storage create "$pool" dir >/dev/null
            made pool "$pool"
        fi
        lxc profile device add default root disk path=/ pool="$pool" >/dev/null
        made device root
        step storage "pool $pool"
    fi
    if [ -z "$(ask devices nic <<<"$profile")" ]; then
        network=${LXDOCKER_QUICKSTART_BRIDGE:-$(free_bridge)}
        make_network "$network"
        lxc profile device add default eth0 nic network="$network" name=eth0 >/dev/null
        made device eth0
        step network "bridge $network"
    fi
}

make_network() {
    local problem nat
    lxc network show "$1" >/dev/null 2>&1 && return
    made network "$1"
    for nat in true false; do
        if problem=$(lxc network create "$1" ipv4.address="$(ip -j -4 route show table all | ask subnet)" ipv4.nat=$nat \
            ipv6.address=none 2>&1 >/dev/null); then
            [ $nat = true ] ||
                step network "this kernel can't translate addresses: containers can't reach out"
            return
        fi
        lxc network delete "$1" >/dev/null 2>&1 || true
    done
    fail "LXD could not make the network $1: $problem" \
        "make one (lxc network create) and add it to the default profile, then run this again"
}

# Writes the specification of what was asked for; sets SPECS and NAME (of the image), and INSTANCE.
write_specification() {
    local image=$1
    SPECS=$STATE/specs
    mkdir -p "$SPECS"
    case "$image" in
    '')
        NAME=page
        rm -rf "$STATE/page"
        python3 "$HERE/quickstart/layout.py" "$STATE/page" "$(command -v busybox)"
        image=oci:$STATE/page:latest
        step image "a small web page, made on the spot"
        ;;
    *.yaml | *.yml)
        [ -f "$image" ] || fail "there is no specification $image" "give the path of a YAML file"
        # It stays where it is, beside the files it may name.
        SPECS=$(dirname "$(realpath "$image")")
        NAME=$(basename "${image%.*}")
        INSTANCE=$PREFIX$(ask name "$image")
        step image "as $image says"
        return
        ;;
    oci:* | oci-archive:* | docker-archive:*)
        NAME=$(ask name "$image")
        # Relative to where the command was given.
        image=${image%%:*}:$(realpath -m -s "${image#*:}")
        step image "$image"
        ;;
    *)
        NAME=$(ask name "$image")
        if [ -f "$image/oci-layout" ]; then
            image=oci:$(realpath -s "$image")
        fi
        step image "$image"
        ;;
    esac
    INSTANCE=$PREFIX$NAME
    printf 'image: %s\n' "$(ask quoted "$image")" >"$SPECS/$NAME.yaml"
}

# Converts the image and brings it into LXD; sets FINGERPRINT.
convert_image() {
    local answer architecture
    "$CONVERTER" convert --specs "$SPECS" --cache "$STATE/cache" \
        --lxdimages "$STATE/lxdimages" --name "$NAME" >"$STATE/convert.txt" ||
        fail "$NAME could not be converted" "the lines above say why; correct it and run this again"
    architecture=$(dpkg --print-architecture)
    mapfile -t answer < <("$CONVERTER" images --lxdimages "$STATE/lxdimages" --format json |
        ask files "$NAME" "$architecture")
    ((${#answer[@]} == 3)) || fail "the image $NAME has no build for $architecture"
    FINGERPRINT=${answer[0]}
    local alias=$INSTANCE
    if ! lxc query "/1.0/images/$FINGERPRINT" >/dev/null 2>&1; then
        # Relative paths: the snap's client sees the machine's files elsewhere.
        (cd "$STATE/lxdimages" &&
            lxc image import "$(realpath --relative-to=. "${answer[1]}")" \
                "$(realpath --relative-to=. "${answer[2]}")" >/dev/null)
        made image "$FINGERPRINT"
    fi
    lxc image alias delete "$alias" >/dev/null 2>&1 || true
    lxc image alias create "$alias" "$FINGERPRINT" >/dev/null
    step converted "LXD image $alias (${FINGERPRINT:0:12}, $(du -h "${answer[2]}" | cut -f1))"
}

launch() {
    local instance=$INSTANCE described
    if described=$(lxc query "/1.0/instances/$instance" 2>/dev/null); then
        [ -n "$(ask value config user.lxdocker-quickstart <<<"$described")" ] ||
            fail "an instance named $instance exists that this script did not make" \
                "rename it: lxc rename $instance NEWNAME"
        if [ "$(ask value config volatile.base_image <<<"$described")" != "$FINGERPRINT" ]; then
            lxc delete --force "$instance"
            described=
        fi
    fi
    if [ -z "$described" ]; then
        made instance "$instance"
        lxc init "$FINGERPRINT" "$instance" --config user.lxdocker-quickstart=true >/dev/null
        described='{}'
    fi
    [ "$(ask value status <<<"$described")" = Running ] || lxc start --quiet "$instance" ||
        fail "$instance does not start" "lxc info --show-log $instance"
    step launched "instance $instance"
    show_result "$instance"
}

# What the container wrote is a stranger's: the terminal shows its control characters, and obeys none.
show_log() {
    local log
    log=$(lxc console "$1" --show-log 2>/dev/null | sed '1,3{/^$/d;/^Console log:$/d}' | tail -n 15 |
        tr -d '\r' | cat -v) || return 0
    printf '%s\n' "$log" | sed 's/^/    /' >&2
}

# Waits for the address and for the application's answer, and says what to do next.
show_result() {
    local instance=$1 address='' port url='' state end
    end=$((SECONDS + ANSWER_SECONDS))
    while [ -z "$address" ] && ((SECONDS < end)); do
        state=$(lxc query "/1.0/instances/$instance/state")
        if [ "$(ask value status <<<"$state")" != Running ]; then
            show_log "$instance"
            fail "the application in $instance ended; its last words are above" \
                "many images need settings: lxc config set $instance environment.NAME VALUE, then lxc start $instance"
        fi
        address=$(ask address <<<"$state")
        [ -n "$address" ] || sleep 0.3
    done
    [ -n "$address" ] ||
        fail "$instance got no address in $ANSWER_SECONDS s" "see: lxc console $instance --show-log"
    step address "$address"
    port=$(ask port "$NAME" <"$STATE/lxdimages/catalogue.json")
    if [ -z "$port" ]; then
        step answer "the image names no port, so nothing was asked"
    else
        wait_for_answer "$instance" "$address" "$port" "$end"
    fi
    say_what_next "$instance"
}

wait_for_answer() {
    local instance=$1 address=$2 port=$3 end=$4 url code
    url=http://$address:$port/
    case "$port" in
    80) url=http://$address/ ;;
    443 | *443) url=https://$address:$port/ ;;
    esac
    while ((SECONDS < end)); do
        # Any HTTP status is an answer; 000 is none.
        code=$(curl --silent --insecure --noproxy '*' --max-time 5 --output /dev/null \
            --write-out '%{http_code}' "$url") || true
        if [ "${code:-000}" != 000 ]; then
            step answer "HTTP status $code"
            step URL "$url"
            return
        fi
        # What accepts connections but speaks no HTTP is another kind of server. Address and port are
        # arguments, never part of the program.
        # shellcheck disable=SC2016
        if ((SECONDS > end - ANSWER_SECONDS + 5)) &&
            timeout 2 bash -c ': <"/dev/tcp/$1/$2"' bash "$address" "$port" 2>/dev/null; then
            step answer "port $port of $address accepts connections (it does not speak HTTP)"
            return
        fi
        sleep 0.3
    done
    show_log "$instance"
    fail "port $port of $address does not answer" "see: lxc console $instance --show-log"
}

say_what_next() {
    local with='' again=''
    [ -z "${LXD_DIR:-}" ] || with="LXD_DIR=$LXD_DIR "
    [ -z "${LXDOCKER_QUICKSTART_STATE:-}" ] || again="LXDOCKER_QUICKSTART_STATE=$STATE "
    cat <<END

Look at its output     ${with}lxc console $1 --show-log
Run a shell in it      ${with}lxc exec $1 -- /busybox-lxd sh
Stop, start            ${with}lxc stop $1, ${with}lxc start $1
Take it all away       sudo $with$again$HERE/quickstart.sh --clean
END
}

clean() {
    [ -f "$STATE/made" ] || {
        echo "nothing to clean: $STATE/made does not exist"
        return
    }
    expect_own_state
    local located kind what
    if located=$(locate_lxd); then
        CLIENT=${located%% *}
        DIRECTORY=${located#* }
        if answers; then
            # The opposite order of making.
            tac "$STATE/made" | while read -r kind what; do
                clean_one "$kind" "$what" || step kept "$kind $what"
            done
        fi
    fi
    rm -rf --one-file-system "$STATE"
    step removed "$STATE"
    echo "Packages that were installed stay."
}

clean_one() {
    case "$1" in
    instance) lxc delete --force "$2" ;;
    image) lxc image delete "$2" ;;
    device) lxc profile device remove default "$2" ;;
    network) lxc network delete "$2" ;;
    pool) lxc storage delete "$2" ;;
    daemon) LXD_DIR=$2 lxd shutdown --timeout 60 && unmount_under "$2" ;;
    esac >/dev/null 2>&1 || return 1
    step removed "$1 $2"
}

# LXD leaves mounts of its own when it isn't ended by systemd.
unmount_under() {
    local point
    awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r point; do umount "$point"; done
}

main() {
    case "${1:-}" in
    -h | --help)
        sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p}' "${BASH_SOURCE[0]}"
        return
        ;;
    esac
    [ "$(id -u)" = 0 ] || fail "quickstart.sh needs root, to speak to LXD and install packages" \
        "run: sudo $0 $*"
    if [ "${1:-}" = --clean ]; then
        clean
        return
    fi
    if (($# > 1)) || [[ ${1:-} == -* ]]; then
        fail "expected at most one image, got: $*" "see: $0 --help"
    fi
    umask 022
    mkdir -p "$STATE"
    expect_own_state
    install_packages
    prepare_converter
    start_lxd
    prepare_lxd
    write_specification "${1:-}"
    convert_image
    launch
}

# Tests load the functions without running them.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    main "$@"
fi
