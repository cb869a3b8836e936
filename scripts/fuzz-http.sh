#!/bin/sh
# Fuzzes the HTTP parser with libFuzzer and the address sanitizer.
#   scripts/fuzz-http.sh [seconds] [corpus directory]
# Findings are written to .build/fuzz/http; the exit status is not 0 when there is one.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
work=.build/fuzz/http
corpus=${2:-$work/corpus}
mkdir -p "$work" "$corpus"

# Seeds: libFuzzer learns the grammar from them (the first byte is the size of the pieces).
seed() { printf "$2" >"$corpus/seed-$1"; }
seed get 'aGET /v1/models?x=%%41 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n'
seed post 'bPOST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello'
seed chunked 'cPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n'
seed expect 'dPUT / HTTP/1.1\r\nHost: [::1]\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok'
seed old 'eGET http://h/p HTTP/1.0\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n'
seed smuggle 'fPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'

http=Sources/Gateway/HTTP
swiftc -O -parse-as-library -sanitize=fuzzer,address -module-name HTTPParserFuzz \
    $http/HTTPBytes.swift $http/HTTPHeaderFields.swift $http/HTTPMessageLimits.swift \
    $http/HTTPParseError.swift $http/HTTPParser.swift $http/HTTPRequest.swift \
    $http/HTTPRequestHead.swift $http/HTTPRequestTarget.swift $http/HTTPStatus.swift \
    Tests/Fuzz/HTTPParserFuzz.swift -o "$work/fuzz"

# Without this the Swift runtime's crash handler hides the input from libFuzzer.
SWIFT_BACKTRACE=enable=no "$work/fuzz" -max_total_time="$seconds" -max_len=1024 -timeout=5 \
    -artifact_prefix="$work/" -print_final_stats=1 "$corpus"
