#!/bin/sh
# Makes phalanx_VERSION_amd64.deb of a release build and has lintian look at it.
#   scripts/package.sh [folder]        default: .build/deb
set -eu
cd "$(dirname "$0")/.."
folder="${1:-.build/deb}"
version=$(dpkg-parsechangelog -S Version)
built=$(.build/release/phalanxctl --version | awk '{print $2}')
if [ "$version" != "$built" ]; then
    echo "debian/changelog says version $version, and the programs say $built" >&2
    exit 1
fi
mkdir -p "$folder"
log="$folder/build.log"
if ! PACKAGES="$folder" DEB_RULES_REQUIRES_ROOT=no debian/rules binary >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi
package="$folder/phalanx_${version}_amd64.deb"
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error,warning \
        --suppress-tags initial-upload-closes-no-bugs "$package"
fi
echo "$package $(du -h "$package" | cut -f1)"
