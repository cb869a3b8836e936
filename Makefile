# Phalanx: `make serve` runs a cell on this machine, `make test` runs everything that CI runs.
#
#   make bench-engine MODEL=dir MODEL_INT8=dir [ARGS="--rounds 5"]   beside llama.cpp and vLLM
#   make test-systemd [ARGS="--rolling 100"]                       the package on a booted systemd
#   make serve [MODEL=dir] [DP=n] [TP=n] [PORT=n] [DEVICE=cpu] [ARGS="--max-num-seqs 8"] [VERBOSE=1]

export MODEL DP TP PORT DEVICE ARGS VERBOSE BIN

.PHONY: serve test test-two-nodes benchmark profile bench-engine sanitize build lint generate packages check-generated \
	install deb test-systemd test-fresh-debian man completion sbom

serve: packages
	@exec python3 scripts/serve.py

build: packages
	swift build -c release --static-swift-stdlib

# What `build` has made: make install DESTDIR=folder PREFIX=/usr (default /usr/local)
install:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh

# .build/deb/phalanx_VERSION_amd64.deb
deb: build man completion sbom
	scripts/install-packages.sh debhelper lintian
	scripts/package.sh

test: packages check-generated
	scripts/install-packages.sh iproute2
	cd scripts && PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover -s bench -t .
	cd scripts && PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover -s tests -t .
	swift format lint --strict -r Sources Tests Package.swift
	swift build --build-tests
	swift test --skip-build --skip IntegrationTests
	swift test --skip-build --filter IntegrationTests --no-parallel
	$(MAKE) test-systemd

# Part of `test`: the package on a booted systemd, as root; says why where that cannot be.
# ARGS="--rolling 100" restarts each daemon so often under load, "--storm 1000" kills random ones.
test-systemd: deb
	@[ "$$(id -u)" != 0 ] || scripts/install-packages.sh systemd-container systemd-sysv dbus curl iproute2 procps
	@PYTHONDONTWRITEBYTECODE=1 python3 Tests/SystemdBoot/run.py $(ARGS)

# Not part of `test`: it fetches a Debian. The package on one that has nothing else.
test-fresh-debian: deb
	@[ "$$(id -u)" != 0 ] || scripts/install-packages.sh systemd-container mmdebstrap curl
	@PYTHONDONTWRITEBYTECODE=1 python3 Tests/SystemdBoot/fresh.py

# Part of `test`: the deployment of two nodes in network namespaces, as root.
test-two-nodes: packages
	scripts/install-packages.sh iproute2
	swift build --build-tests
	swift test --skip-build --filter 'TwoNode|StartUpBarrier' --no-parallel

# What the scheduler and a whole tick cost in a release build; fails where a steady one allocates
# or a pass takes too long. Then the instructions of kernel calls, which may not be more than the
# committed ones.
benchmark: packages
	swift build -c release --product scheduler-benchmark
	swift build -c release --product tick-benchmark
	.build/release/scheduler-benchmark --check
	.build/release/tick-benchmark --check models/demo/w8a8
	scripts/count-instructions.sh

# Where the time of a model's steps goes: make profile [MODEL=dir] [ARGS="--threads 2 --batch 8"]
profile: packages
	swift build -c release --product phalanx-bench
	.build/release/phalanx-bench engine --profile --model "$(or $(MODEL),models/demo/w8a8)" $(ARGS)

# Not part of `test`: it installs the peers (about 6 GB, outside this tree) and takes hours.
bench-engine: packages
	@exec python3 scripts/bench_engine.py $(if $(MODEL),--model "$(MODEL)") \
		$(if $(MODEL_INT8),--model-int8 "$(MODEL_INT8)") $(ARGS)

# Not part of `test`: a sanitizer needs a build of its own.
sanitize: packages
	scripts/sanitize.sh address
	scripts/sanitize.sh thread
	scripts/sanitize.sh undefined

lint: packages
	swift format lint --strict -r Sources Tests Package.swift
	swift test --filter TidyTests

# What a package of the programs in BIN installs beside them, in .build/package: manual pages,
# bash completions, and the bill of materials (SPDX) of the programs and what they load.
man completion: build
	@rm -rf .build/package/$@
	scripts/manual.py $@ $(or $(BIN),.build/release) .build/package/$@

sbom: build
	scripts/sbom.py $(or $(BIN),.build/release) .build/package/sbom/phalanx.spdx.json

generate: packages
	scripts/generate.sh

# The committed C code of the messages is what the schema makes.
check-generated: generate
	git diff --exit-code --stat -- Sources/CProtocol

packages:
	@scripts/install-packages.sh
