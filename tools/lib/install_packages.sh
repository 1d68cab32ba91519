#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs Debian packages without starting their services, now or at the next boot:
#
#   install_packages.sh PACKAGE...
#
# Run as root. Services that were enabled before stay enabled. ROOT is the directory of the system
# (default: /); the tests set it.
set -u

ROOT=${ROOT:-}
guard=$ROOT/usr/sbin/policy-rc.d
# The guard has a mark, so that one that a killed run left behind is recognized.
mark='# temporarily here for vmmonitor: no service is started'

# list_boot_links: print the links that start a service at boot, one per line.
list_boot_links() {
    find "$ROOT/etc/systemd" "$ROOT"/etc/rc?.d -type l \
        \( -path '*.wants/*' -o -path '*.requires/*' -o -path '*/rc?.d/S*' \) 2>/dev/null | sort
}

# disable_new_services: remove the links that list_boot_links did not print before.
disable_new_services() {
    list_boot_links >"$work/after"
    comm -13 "$work/before" "$work/after" | while read -r link; do
        case $link in
            # update-rc.d takes a K link for the wish of the administrator, and keeps it.
            */rc?.d/S*) mv "$link" "${link%/*}/K${link##*/S}" ;;
            *) rm -f "$link" ;;
        esac
        echo "not started at boot: ${link##*/}"
    done
}

finish() {
    disable_new_services
    [ -z "${guarded:-}" ] || rm -f "$guard"
    rm -rf "$work"
}

work=$(mktemp -d) || exit 1
list_boot_links >"$work/before"
trap finish EXIT
trap 'exit 1' INT TERM HUP
if [ ! -e "$guard" ] || grep -qF "$mark" "$guard"; then
    guarded=1
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$guard"
    chmod 755 "$guard"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update # fails for a source that is not reachable, which may not be needed
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
