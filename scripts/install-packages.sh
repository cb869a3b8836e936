#!/bin/sh
# Installs the Debian packages that the build needs, and those that are named, where they are
# missing: as root with apt-get, else it prints the one line to run and stops.
#   scripts/install-packages.sh [package ...]
set -eu
packages="libzmq3-dev libprotobuf-c-dev protobuf-c-compiler libsystemd-dev libpcre2-dev libucx-dev
libsimdjson-dev libyaml-dev libssl-dev openssl $*"
missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "These packages are missing; install them with:"
    echo "  sudo apt-get install -y --no-install-recommends$missing"
    exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null 2>&1; then
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    # shellcheck disable=SC2086
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
fi
