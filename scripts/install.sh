#!/bin/sh
# Installs what `make build` has made, with units, configuration, the bundled model and the pages.
#   DESTDIR=folder PREFIX=/usr BIN=.build/release scripts/install.sh
# A configuration that is there already is left alone.
set -eu
cd "$(dirname "$0")/.."
prefix="${PREFIX:-/usr/local}"
root="${DESTDIR:-}"
programs="${BIN:-.build/release}"
lib="$root$prefix/lib"
share="$root$prefix/share"

for program in phalanx-coordinator phalanx-engine-worker phalanx-gateway phalanxctl \
    phalanx-bench; do
    if [ ! -x "$programs/$program" ]; then
        echo "$programs/$program is missing: run make build first" >&2
        exit 1
    fi
    install -D -m 755 "$programs/$program" "$root$prefix/bin/$program"
done

# The files name programs and models as they are with PREFIX=/usr.
placed() {
    install -d "$(dirname "$2")"
    sed -e "s|/usr/bin/phalanx|$prefix/bin/phalanx|g" \
        -e "s|/usr/share/\(doc/\)\{0,1\}phalanx|$prefix/share/\1phalanx|g" "$1" >"$2"
    chmod 644 "$2"
}
for unit in systemd/system/*; do placed "$unit" "$lib/systemd/system/$(basename "$unit")"; done
placed systemd/sysusers.d/phalanx.conf "$lib/sysusers.d/phalanx.conf"
placed systemd/tmpfiles.d/phalanx.conf "$lib/tmpfiles.d/phalanx.conf"
if [ ! -e "$root/etc/phalanx/phalanx.yaml" ]; then
    placed systemd/phalanx.yaml "$root/etc/phalanx/phalanx.yaml"
fi

install -D -m 644 -t "$share/phalanx/models/demo" models/demo/README.md
install -D -m 644 -t "$share/phalanx/models/demo/w8a8" models/demo/w8a8/*
install -D -m 644 -t "$share/doc/phalanx" docs/*.md

# What `make man completion sbom` has made, where it was made.
made=".build/package"
for page in "$made"/man/man*/*; do
    [ -e "$page" ] || continue
    install -D -m 644 -t "$share/man/$(basename "$(dirname "$page")")" "$page"
done
for completion in "$made"/completion/*; do
    [ -e "$completion" ] || continue
    install -D -m 644 -t "$share/bash-completion/completions" "$completion"
done
if [ -e "$made/sbom/phalanx.spdx.json" ]; then
    install -D -m 644 -t "$share/doc/phalanx" "$made/sbom/phalanx.spdx.json"
fi
