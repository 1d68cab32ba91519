# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Brings a bare machine to where vmmonitor runs. To be sourced from a script in tools/:
#
#   . "$(dirname "${BASH_SOURCE[0]}")/lib/prepare.sh"
#   prepare_machine compile quickstart         # profiles of bindep.txt
#   prepare_venv agent,engine,api [FILE...]    # extras of pyproject.toml, requirements files
#
# Both may run any number of times and do only what is missing. Afterwards $VENV/bin/python is
# the Python to use. The environment may set PYTHON (which Python, 3.11 or later), VENV and
# CONSTRAINTS (the file with the versions to install, a path from the checkout; empty: the newest).

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=${VENV:-$CHECKOUT/.venv}
CONSTRAINTS=${CONSTRAINTS-constraints.txt}
# Debian keeps the servers out of the way of ordinary users.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# pbr asks git for the version, and git refuses a checkout that another user owns.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$CHECKOUT
# An unpacked archive of the checkout has no git.
[ -e "$CHECKOUT/.git" ] || export PBR_VERSION=${PBR_VERSION:-0.0.0}

# say TEXT: a progress line, with the seconds since the script's start. To standard error, so
# that a --json on standard output stays JSON.
say() {
    printf '[%4ds] %s\n' "$SECONDS" "$*" >&2
}

# die TEXT: say what is wrong and end the script.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        # Without a terminal there is nobody to give a password.
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        die "needs root or sudo for: $*"
    fi
}

# apt_install PACKAGE...: install them; their services are started neither now nor at boot.
apt_install() {
    command -v apt-get >/dev/null ||
        die "only apt is supported; install these packages and run the command again: $*"
    say "installing $* (a few minutes)"
    local output
    if ! output=$(as_root "$CHECKOUT/tools/lib/install_packages.sh" "$@" 2>&1); then
        tail -n 30 <<<"$output" >&2
        die "apt-get could not install: $*"
    fi
    grep '^not started at boot: ' <<<"$output" >&2 || true
}

# find_python: the Python for the venv; installs the distribution's if there is none.
find_python() {
    local python
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python 3.11 or later"
    apt_install python3 python3-venv
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "this system's Python is too old; set PYTHON to a Python 3.11 or later"
    echo /usr/bin/python3
}

# make_venv: an empty venv, unless a working one is there.
make_venv() {
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
    local python
    python=$(find_python) || exit 1
    say "making a venv in $VENV"
    rm -rf "$VENV"
    # Debian's python3 comes without ensurepip; any other Python may have virtualenv instead.
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv "$VENV"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv -q "$VENV"
    else
        apt_install python3-venv
        if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
            [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON has neither venv nor virtualenv"
            python=/usr/bin/python3
        fi
        "$python" -m venv "$VENV"
    fi || die "could not make a venv in $VENV"
}

# pip_install ARGUMENT...: "pip install" with the versions of $CONSTRAINTS, also for the packages
# that build others. pip splits these variables at spaces, so that the path is relative.
pip_install() {
    local output
    if ! output=$(
        cd "$CHECKOUT" || exit 1
        export PIP_CONSTRAINT=$CONSTRAINTS PIP_BUILD_CONSTRAINT=$CONSTRAINTS
        "$VENV/bin/python" -m pip --disable-pip-version-check -q install "$@" 2>&1
    ); then
        tail -n 30 <<<"$output" >&2
        die "pip could not install: $*"
    fi
}

# prepare_machine PROFILE...: the OS packages of these profiles of bindep.txt.
prepare_machine() {
    make_venv
    [ -x "$VENV/bin/bindep" ] || pip_install bindep
    local missing
    # bindep ends with 1 where something is missing, and lists it
    missing=$(cd "$CHECKOUT" && "$VENV/bin/bindep" -b -f bindep.txt "$@")
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # one word per package
        apt_install $missing
        missing=$(cd "$CHECKOUT" && "$VENV/bin/bindep" -b -f bindep.txt "$@") ||
            die "still missing: $missing"
    fi
}

# prepare_venv EXTRAS [FILE...]: vmmonitor from this checkout with these extras and the
# packages of these requirements files. Does nothing if the same was installed before.
prepare_venv() {
    local extras=$1 stamp want file
    stamp=$VENV/.vmmonitor-installed-$(cksum <<<"$*" | cut -d ' ' -f 1)
    shift
    make_venv
    want=$(cd "$CHECKOUT" && { echo "$CHECKOUT $extras $*"; cat pyproject.toml requirements.txt ${CONSTRAINTS:+"$CONSTRAINTS"} "$@"; } | sha256sum)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
        say "installing vmmonitor[$extras] into $VENV (a minute or two)"
        local files=()
        for file in "$@"; do files+=(-r "$CHECKOUT/$file"); done
        pip_install -e "${CHECKOUT}[$extras]" "${files[@]}"
        echo "$want" >"$stamp"
    fi
    export PATH=$VENV/bin:$PATH
}

# prepare_tests: all that the tests and the benchmarks need.
prepare_tests() {
    prepare_machine compile test
    prepare_venv agent,engine,api,mysql,postgresql,testing test-requirements.txt \
        doc/requirements.txt tools/requirements.txt
}
