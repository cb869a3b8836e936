#!/bin/sh
# Makes the C code of the messages from Sources/Protocol/Schema. The result is committed, because
# SwiftPM compiles no generated C; CI fails when it differs from the schema.
set -eu
cd "$(dirname "$0")/.."
schema=Sources/Protocol/Schema
out=Sources/CProtocol
protoc-c -I "$schema" --c_out="$out/include" "$schema/request.proto" "$schema/control.proto"
mv "$out/include"/*.pb-c.c "$out/"
