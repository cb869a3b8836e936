#!/bin/sh
# Runs the tests under a sanitizer; the exit status is not 0 when a test fails or anything is
# reported, by the tests or by a daemon that they start.
#   scripts/sanitize.sh address|thread|undefined [filter]
# Without a filter: `thread` runs what has threads, `undefined` what calls C, `address` all but
# IntegrationTests.
# The integration tests start the daemons of the same build:
#   scripts/sanitize.sh thread 'IntegrationTests.(RequestLifeTests|FaultTests)'
set -eu
cd "$(dirname "$0")/.."
kind=${1:?address, thread or undefined}
filter=${2:-}
scratch=.build/sanitize-$kind
reports=$PWD/$scratch/reports
timeout=${SANITIZE_TIMEOUT:-1500}

# UCX rewrites mmap and its like in memory when it is loaded, which breaks the sanitizers' own
# replacements of them. The Swift crash handler would hide the sanitizer's report.
export UCX_MEM_MMAP_HOOK_MODE=none SWIFT_BACKTRACE=enable=no

case $kind in
address | thread)
    set -- --sanitize="$kind"
    ;;
undefined)
    # Swift traps by itself; the C and C++ is what must be looked at, and SwiftPM knows this
    # sanitizer on Darwin alone.
    resources=$(swiftc -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
    set -- -Xlinker --whole-archive
    for library in "$resources"/clang/lib/linux/libclang_rt.ubsan_standalone*-"$(uname -m)".a; do
        set -- "$@" -Xlinker "$library"
    done
    set -- "$@" -Xlinker --no-whole-archive -Xlinker -lstdc++
    set -- "$@" -Xcc -fsanitize=undefined -Xcxx -fsanitize=undefined
    ;;
*)
    echo "usage: scripts/sanitize.sh address|thread|undefined [filter]" >&2
    exit 2
    ;;
esac

if [ -n "$filter" ]; then
    selection="--filter $filter"
elif [ "$kind" = thread ]; then
    selection="--filter DaemonRuntimeTests|Collectives|HTTPServer|ExpertExchange|KernelTests"
elif [ "$kind" = undefined ]; then
    selection="--filter EngineWorkerTests|DaemonRuntimeTests|ProtocolTests"
else
    selection="--skip IntegrationTests"
fi

rm -rf "$reports"
mkdir -p "$reports"
# Reports go to files, one a process: those of daemons would be lost with their output.
common="log_path=$reports/report"
export ASAN_OPTIONS="$common:detect_leaks=1:detect_stack_use_after_return=1"
export LSAN_OPTIONS="suppressions=$PWD/scripts/lsan.supp:print_suppressions=0"
export UBSAN_OPTIONS="$common:print_stacktrace=1"
export TSAN_OPTIONS="$common:halt_on_error=0:suppressions=$PWD/scripts/tsan.supp"

log=$reports/build.log
if ! timeout "$timeout" swift build --build-tests --scratch-path "$scratch" "$@" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
status=0
# shellcheck disable=SC2086 # The selection is two words.
timeout "$timeout" swift test --skip-build --scratch-path "$scratch" "$@" $selection || status=$?

for report in "$reports"/report*; do
    [ -e "$report" ] || continue
    echo "== $report"
    head -n 80 "$report"
    status=1
done
exit "$status"
