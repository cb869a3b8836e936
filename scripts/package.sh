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
    # The pages of the programs are in packaging/man or docs/man once they are written.
    suppressed="initial-upload-closes-no-bugs"
    ls packaging/man/*.1 docs/man/*.1 >/dev/null 2>&1 || suppressed="$suppressed,no-manual-page"
    lintian --allow-root --fail-on error,warning --suppress-tags "$suppressed" "$package"
fi
echo "$package $(du -h "$package" | cut -f1)"
