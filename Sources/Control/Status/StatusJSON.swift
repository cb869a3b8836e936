internal import Protocol

/// `phalanxctl status --json`: one line, all that the report holds. Times are in seconds.
enum StatusJSON {
    static func text(_ report: StatusReport, endpoint: String) -> String {
        let health = DeploymentHealth(report)
        let ranks = Int(report.worldSize / report.tensorParallelSize)
        return JSONText.members([
            "serving": .bool(health.serves),
            "problems": .array(health.problems.map { .string($0) }),
            "notes": .array(health.notes.map { .string($0) }),
            "coordinator": .members([
                "endpoint": .string(endpoint),
                "version": .string(report.softwareVersion),
                "protocol": .integer(Int64(report.protocolVersion)),
                "uptime_seconds": .number(report.uptime.seconds),
                "lease_seconds": .number(report.lease.seconds),
                "failed_handshakes": .integer(Int64(clamping: report.failedHandshakes)),
            ]),
            "deployment": .members([
                "model": .optional(report.option("model")),
                "served_model_name": .optional(report.option("served-model-name")),
                "data_parallel_size": .integer(Int64(ranks)),
                "tensor_parallel_size": .integer(Int64(report.tensorParallelSize)),
                "options": .object(
                    report.configuration.map { .init(key: $0.key, value: .string($0.value)) }),
            ]),
            "view": .members([
                "number": .integer(Int64(report.view)),
                "state": .string(report.viewState.word),
                "protocol": .integer(Int64(report.viewProtocolVersion)),
                "age_seconds": .number(report.viewAge.seconds),
                "members": .array(
                    report.workers.filter(\.isMember).map { .integer(Int64($0.worker)) }),
                "last_end": .string(report.viewReason),
                "ready_deadline_seconds": report.readyDeadline.map { .number($0.seconds) } ?? .null,
            ]),
            "missing": .array(report.missing.map { .string($0) }),
            "missing_count": .integer(Int64(report.missingCount)),
            "workers": .array(report.workers.map { worker($0, ranks: ranks) }),
            "gateways": .array(report.gateways.map { .object(common($0)) }),
        ]).text + "\n"
    }

    private static func common(_ peer: PeerStatus) -> [JSONText.Member] {
        [
            .init(key: "node", value: .string(peer.node)),
            .init(key: "pid", value: .integer(Int64(peer.pid))),
            .init(key: "version", value: .string(peer.softwareVersion)),
            .init(key: "protocol", value: .integer(Int64(peer.protocolVersion))),
            .init(key: "incarnation", value: .string(peer.incarnation.description)),
            .init(key: "silence_seconds", value: .number(peer.silence.seconds)),
            .init(
                key: "failed_handshakes",
                value: .integer(Int64(clamping: peer.failedHandshakes))),
            .init(key: "waits_for", value: .string(peer.waitsFor)),
        ]
    }

    private static func worker(_ peer: PeerStatus, ranks: Int) -> JSONText {
        .object(
            [
                .init(key: "worker", value: .integer(Int64(peer.worker))),
                .init(key: "dp_rank", value: .integer(Int64(peer.dpRank))),
                .init(key: "tp_rank", value: .integer(Int64(peer.tpRank))),
                .init(key: "device", value: .integer(Int64(peer.device))),
                .init(key: "stage", value: .optional(peer.stage?.word)),
                .init(key: "percent", value: .integer(Int64(peer.percent))),
                .init(key: "member", value: .bool(peer.isMember)),
                .init(key: "endpoint", value: .string(peer.endpoint)),
                .init(key: "model_digest", value: .string(peer.modelDigest)),
                .init(key: "tick_age_seconds", value: .number(peer.tickAge.seconds)),
                .init(key: "waited_seconds", value: .number(peer.waited.seconds)),
                .init(key: "suspected", value: .bool(peer.isSuspected)),
                .init(key: "waiting_workers", value: .integer(Int64(peer.waitingWorkers))),
            ] + common(peer) + [.init(key: "load", value: load(peer.load, ranks: ranks))])
    }

    private static func load(_ load: RankLoad, ranks: Int) -> JSONText {
        func count(_ value: UInt64) -> JSONText { .integer(Int64(clamping: value)) }
        return .members([
            "tick": count(load.tick),
            "dummy_ticks": count(load.dummyTicks),
            "running": count(UInt64(load.running)),
            "waiting": count(UInt64(load.waiting)),
            "pending_prefill_tokens": count(load.pendingPrefillTokens),
            "kv_cache_usage": .number(Double(load.kvCacheUsage)),
            "preemptions": count(load.preemptions),
            "prompt_tokens": count(load.promptTokens),
            "generation_tokens": count(load.generationTokens),
            "tick_tokens": count(load.tickTokens),
            "tick_tokens_max": count(load.tickTokensMax),
            "tick_tokens_group": count(load.tickTokensGroup),
            "padded_tokens": count(load.paddedTokens),
            "imbalance": load.imbalance(ranks: ranks).map { .number($0) } ?? .null,
            "exchange_wait_seconds": .number(load.exchangeWait.seconds),
        ])
    }
}
