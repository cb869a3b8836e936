#!/bin/sh
# Fuzzes with libFuzzer and the address sanitizer what reads bytes from outside.
#   scripts/fuzz.sh http|frames|call [seconds] [corpus directory]
# Findings are written to .build/fuzz/TARGET; the exit status is not 0 when there is one.
set -eu
cd "$(dirname "$0")/.."
target=${1:?http, frames or call}
seconds=${2:-60}
work=.build/fuzz/$target
corpus=${3:-$work/corpus}
sources=$work/sources
rm -rf "$sources"
mkdir -p "$work" "$corpus" "$sources"

# Seeds: libFuzzer learns the grammar from them.
seed() { printf "$2" >"$corpus/seed-$1"; }
http=Sources/Gateway/HTTP
json=Sources/Protocol/DaemonRuntime/JSON
c=
length=4096
case $target in
http)
    exec scripts/fuzz-http.sh "$seconds" ${3:+"$3"}
    ;;
frames)
    set -- Sources/Protocol/Messages Sources/Protocol/Codec Tests/Fuzz/FrameFuzz.swift
    c="Sources/CProtocol/request.pb-c.c Sources/CProtocol/control.pb-c.c"
    # Protobuf: a message of each field number that a body has (field, 2 bytes of message).
    for kind in 0 1 2; do
        for field in 012 032 042 052 062 072 102 112 122 132; do
            seed "$kind-$field" "$kind\\010\\001\\$field\\002\\010\\001"
        done
    done
    ;;
call)
    set -- Sources/Gateway/API Sources/Gateway/Tokenization $http/HTTPStatus.swift $http/HTTPStatus+API.swift \
        $http/HTTPHeaderFields.swift $http/HTTPBytes.swift $http/HTTPRequest*.swift \
        $http/HTTPParseError.swift $http/HTTPMessageLimits.swift \
        Sources/Protocol/Messages $json Tests/Fuzz/CallFuzz.swift
    seed completion '0{"model":"tiny","prompt":["a",[1,2]],"temperature":0.5,"stop":["a"],"max_tokens":9,"logit_bias":{"9":5},"stream":true,"stream_options":{"include_usage":true},"logprobs":3,"n":2,"seed":-7}'
    seed chat '1{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"logprobs":true,"top_logprobs":5,"tool_choice":"none","response_format":{"type":"text"}}'
    seed tokenize '2{"prompt":"x"}'
    seed detokenize '3{"tokens":[1,2,999]}'
    seed config '4{"temperature":0.5,"top_k":3,"eos_token_id":[1,2]}'
    ;;
*)
    echo "usage: scripts/fuzz.sh http|frames|call [seconds]" >&2
    exit 2
    ;;
esac

# One module of everything: its files import no other module of the project.
find "$@" -name '*.swift' | while read -r file; do
    sed -E '/^ *(internal|public|private)? *import (DaemonRuntime|Protocol)$/d; s/\bProtocol\./PhalanxFuzz./g' \
        "$file" >"$sources/$(basename "$file")"
done
mkdir -p "$work/modules"
printf 'module CSimdJSON { header "%s" link "simdjson" export * }\n' \
    "$PWD/Sources/CSimdJSON/include/csimdjson.h" >"$work/modules/module.modulemap"
objects=
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
for file in $c Sources/CSimdJSON/csimdjson.cpp; do
    object=$work/$(basename "$file").o
    # The C sources have include/ beside them.
    "$clang" -O1 -g -fsanitize=fuzzer-no-link,address -I"$(dirname "$file")/include" \
        -c "$file" -o "$object"
    objects="$objects $object"
done
# shellcheck disable=SC2086 # A list of files.
swiftc -O -parse-as-library -swift-version 6 -sanitize=fuzzer,address -module-name PhalanxFuzz \
    -I "$work/modules" -I Sources/CProtocol/include -I Sources/CProtobufC -I Sources/CPCRE2 \
    -I Sources/CLinux/include "$sources"/*.swift $objects -lstdc++ -lsimdjson -lprotobuf-c -lpcre2-8 \
    -o "$work/fuzz"

# Without this the Swift runtime's crash handler hides the input from libFuzzer.
SWIFT_BACKTRACE=enable=no "$work/fuzz" -max_total_time="$seconds" -max_len="$length" -timeout=5 \
    -artifact_prefix="$work/" -print_final_stats=1 "$corpus"
