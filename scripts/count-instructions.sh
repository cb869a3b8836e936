#!/bin/sh
# Counts the instructions of kernel calls in a release build, and fails where there are more than
# Tests/KernelCounts/counts.tsv says.
#   scripts/count-instructions.sh [--update]
set -eu
cd "$(dirname "$0")/.."
scripts/install-packages.sh valgrind binutils
swift build -c release --product kernel-counts
build=$(swift build -c release --show-bin-path)
exec python3 scripts/count-instructions.py "$build/kernel-counts" "$build/CKernels.build" "$@"
