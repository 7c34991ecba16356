#!/bin/bash
# Runs every check and every test, those against a private LXD and a real registry included.
#
#   sudo tests/run.sh [--full] [PYTEST-ARGUMENT...]
#
# It installs what the tests need on a bare Debian 12 (from apt, and a virtual environment in
# .venv or $LXDOCKER_TEST_VENV), and leaves no daemon, bridge or mount behind: that is checked at the
# end. --full takes the full number of generated examples and repetitions. LXD that may already run
# on the machine is never spoken to. Several workers share the files, each with a private LXD of its
# own: $LXDOCKER_TEST_WORKERS of them, or one more than there are processors. "-n 0" runs all in one
# process, as --pdb and -s need it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=${LXDOCKER_TEST_VENV:-$ROOT/.venv}
PACKAGES=(
    # what the product needs
    busybox-static squashfs-tools python3 python3-venv
    # a real LXD
    lxd lxd-client dnsmasq-base iptables nftables iproute2 uidmap rsync xz-utils attr udhcpc btrfs-progs
    # plain LXC with its download template
    lxc wget
    # a real registry, its client, and judges of the result
    docker-registry skopeo umoci tar zstd pigz curl ca-certificates libfaketime procps
    # signatures, certificates made by hand, a web server for exported trees
    gnupg openssl nginx
    # readers of the pages
    chromium w3m
    # inits that images bring along
    tini dumb-init catatonit s6 runit systemd
    # images made in the tests, the clean Debian root of the quick start, checks of the scripts
    mmdebstrap debootstrap gcc libc6-dev libcap2-bin slirp4netns util-linux shellcheck strace git
)
FAILED=()

say() { printf '\n==> %s\n' "$*"; }

install_packages() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # No service may start: the tests run their own daemons. Refusing is what policy-rc.d is for.
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        ours=1
    fi
    local status=0
    apt-get install -q -y --no-install-recommends "${missing[@]}" || status=$?
    [ -z "$ours" ] || rm -f "$policy"
    return "$status"
}

prepare_python() {
    local wanted locked=packaging/requirements-dev.txt
    wanted="$(cat pyproject.toml "$locked" | sha256sum | cut -d' ' -f1) $ROOT"
    if [ "$(cat "$VENV/.installed" 2>/dev/null)" != "$wanted" ]; then
        say "installing what $locked names, and the package, into $VENV"
        python3 -m venv "$VENV"
        # setuptools first: it builds the one package that comes without a wheel.
        sed -n '/^setuptools==/,/^    #/p' "$locked" |
            "$VENV/bin/pip" install -qq --require-hashes --only-binary :all: -r /dev/stdin
        "$VENV/bin/pip" install -qq --require-hashes --only-binary :all: \
            --no-binary argparse-manpage --no-build-isolation -r "$locked"
        "$VENV/bin/pip" install -qq --no-deps --no-build-isolation --editable .
        printf '%s' "$wanted" >"$VENV/.installed"
    fi
    export PATH="$VENV/bin:$PATH"
}

check() {
    local name=$1
    shift
    if "$@"; then
        printf 'ok      %s\n' "$name"
    else
        printf 'FAILED  %s\n' "$name"
        FAILED+=("$name")
    fi
}

shell_scripts() {
    # What bash or sh runs, and what busybox runs in the guest, where .shellcheckrc says how it differs.
    printf '%s\n' lxdocker_lxd/convert/guest/*.sh
    grep -rlIE --exclude-dir=.git --exclude-dir=.venv -m1 '^#!.*[/ ](bash|sh)$' . |
        while read -r file; do
            ! head -n1 "$file" | grep -qE '^#!/(usr/)?bin/(env )?(bash|sh)$' || printf '%s\n' "$file"
        done
}

check_shell() {
    local scripts
    mapfile -t scripts < <(shell_scripts)
    shellcheck --external-sources "${scripts[@]}"
}

run_checks() {
    say "checks"
    check "ruff format" ruff format --quiet --no-cache --check .
    check "ruff check" ruff check --quiet --no-cache .
    check "mypy" mypy --strict --cache-dir=/dev/null --no-error-summary
    check "import contracts" lint-imports --no-cache
    check "shellcheck" check_shell
}

run_tests() {
    say "tests (LXD $(lxd --version 2>/dev/null), $(docker-registry --version | cut -d' ' -f3))"
    local status=0 workers=${LXDOCKER_TEST_WORKERS:-$(($(nproc) + 1))}
    # Real images are built once for all workers. A worker that ends in the middle of a test fails that
    # test and ends the run.
    export LXDOCKER_TEST_CACHE=${LXDOCKER_TEST_CACHE:-$SCRATCH/kept}
    python -m pytest --real -p no:cacheprovider --basetemp "$SCRATCH/t" \
        --numprocesses "$workers" --max-worker-restart 0 --junitxml "$SCRATCH/results.xml" -q --durations=10 \
        "$@" </dev/null || status=$?
    # 5 means that nothing was selected, which is a failure here too.
    ((status == 0)) || FAILED+=("pytest")
}

# What pytest counted, as the last line: errors outside a test's body count as failures.
count() {
    python - "$SCRATCH/results.xml" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

try:
    suites = ElementTree.parse(sys.argv[1]).getroot().iter("testsuite")
    numbers = [[int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")]
               for suite in suites]
except OSError:
    numbers = [[0, 0, 1, 0]]
total, failures, errors, skipped = (sum(column) for column in zip(*numbers, strict=True))
bad = failures + errors
print(f"{max(total - bad - skipped, 0)} passed, {bad} failed")
PYTHON
}

finish() {
    local status=$?
    trap - EXIT
    if [ -n "${SCRATCH:-}" ]; then
        python -m tests.harness.leaks end "$SCRATCH" || FAILED+=("nothing left behind")
        local counted
        counted=$(count)
        rm -rf --one-file-system "$SCRATCH"
        if ((${#FAILED[@]})); then
            printf '\nFAILED: %s\n' "$(IFS=,; printf '%s' "${FAILED[*]}")"
            ((status)) || status=1
        fi
        printf '%s\n' "$counted"
    fi
    exit "$status"
}

main() {
    if [ "$(id -u)" != 0 ]; then
        echo "tests/run.sh needs root: it starts a private LXD. Run: sudo tests/run.sh" >&2
        exit 2
    fi
    if [ "${1:-}" = --full ]; then
        export LXDOCKER_TEST_FULL=1
        shift
    fi
    umask 022
    install_packages
    prepare_python
    SCRATCH=$(mktemp -d /tmp/lxtest-XXXXXXXX)
    chmod 711 "$SCRATCH"
    # Every process of this run carries this name in its environment; the leak check looks for it.
    export LXDOCKER_TEST_RUN="$SCRATCH" PYTHONDONTWRITEBYTECODE=1
    trap finish EXIT
    trap 'exit 130' INT TERM
    python -m tests.harness.leaks begin "$SCRATCH"
    run_checks
    run_tests "$@"
}

main "$@"
