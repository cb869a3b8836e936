internal import CProtocol

extension ControlBody {
    func packProbes(
        into envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>, _ arena: CArena
    ) {
        switch self {
        case .probeRequest:
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PROBE_REQUEST
            envelope.pointee.probe_request = arena.make { phalanx__v1__probe_request__init($0) }
        case .probe(let probe):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PROBE
            envelope.pointee.probe = probe.packed(arena)
        case .probeResult(let result):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PROBE_RESULT
            envelope.pointee.probe_result = arena.make { message in
                phalanx__v1__probe_result__init(message)
                message.pointee.round = result.round
                message.pointee.n_ways = result.ways.count
                message.pointee.ways = arena.messages(result.ways) { $0.packed($1) }
            }
        case .probeReport(let report):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PROBE_REPORT
            envelope.pointee.probe_report = arena.make { message in
                phalanx__v1__probe_report__init(message)
                message.pointee.round = report.round
                message.pointee.n_rows = report.rows.count
                message.pointee.rows = arena.messages(report.rows) { $0.packed($1) }
            }
        case .hello, .config, .refuse, .ready, .view, .heartbeat, .viewJoined, .heartbeatAck,
            .wakeRequest, .wake, .wakeAck, .peerSilent, .loadUpdate, .leave, .prepare, .prepared,
            .askToLeave, .statusRequest, .statusReport, .drainRequest, .drainReport, .drain:
            preconditionFailure("\(self) is not about ways")
        }
    }

    static func probes(_ envelope: Phalanx__V1__Envelope) throws(CodecError) -> ControlBody {
        let missing = CodecError.missingBody(message: "Envelope")
        switch envelope.body_case {
        case PHALANX__V1__ENVELOPE__BODY_PROBE_REQUEST:
            return .probeRequest
        case PHALANX__V1__ENVELOPE__BODY_PROBE:
            guard let body = envelope.probe else { throw missing }
            return .probe(try Probe(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_PROBE_RESULT:
            guard let body = envelope.probe_result else { throw missing }
            let ways = try ProbeWay.ways(body.pointee.ways, body.pointee.n_ways)
            return .probeResult(ProbeResult(round: body.pointee.round, ways: ways))
        case PHALANX__V1__ENVELOPE__BODY_PROBE_REPORT:
            guard let body = envelope.probe_report else { throw missing }
            try require(
                body.pointee.n_rows <= CodecLimits.probeWaysMax, "ProbeReport", "rows",
                "\(body.pointee.n_rows) entries")
            let rows = try list(body.pointee.rows, body.pointee.n_rows, ProbeReport.Row.init(_:))
            return .probeReport(ProbeReport(round: body.pointee.round, rows: rows))
        default:
            throw missing
        }
    }
}

extension Probe {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__Probe> {
        arena.make { message in
            phalanx__v1__probe__init(message)
            message.pointee.round = round
            message.pointee.n_targets = targets.count
            message.pointee.targets = arena.messages(targets) { target, arena in
                arena.make { entry in
                    phalanx__v1__probe_target__init(entry)
                    entry.pointee.worker = target.worker
                    entry.pointee.endpoint = arena.string(target.endpoint)
                }
            }
        }
    }

    init(_ message: Phalanx__V1__Probe) throws(CodecError) {
        try require(
            message.n_targets <= CodecLimits.probeWaysMax, "Probe", "targets",
            "\(message.n_targets) entries")
        self.init(
            round: message.round,
            targets: try list(message.targets, message.n_targets) { entry throws(CodecError) in
                Target(worker: entry.worker, endpoint: text(entry.endpoint))
            })
    }
}

extension ProbeWay {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__ProbeWay> {
        arena.make { message in
            phalanx__v1__probe_way__init(message)
            message.pointee.worker = worker
            message.pointee.microseconds_plus_one =
                time.map { UInt32(clamping: $0.nanoseconds / 1000 + 1) } ?? 0
            message.pointee.problem = arena.string(problem)
        }
    }

    init(_ message: Phalanx__V1__ProbeWay) {
        let microseconds = message.microseconds_plus_one
        self.init(
            worker: message.worker,
            time: microseconds == 0 ? nil : Interval(nanoseconds: Int64(microseconds - 1) * 1000),
            problem: text(message.problem))
    }

    static func ways(
        _ pointer: UnsafeMutablePointer<UnsafeMutablePointer<Phalanx__V1__ProbeWay>?>?, _ count: Int
    ) throws(CodecError) -> [ProbeWay] {
        try require(
            count <= CodecLimits.probeWaysMax, "ProbeResult", "ways", "\(count) entries")
        return try list(pointer, count) { entry throws(CodecError) in ProbeWay(entry) }
    }
}

extension ProbeReport.Row {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__ProbeRow> {
        arena.make { message in
            phalanx__v1__probe_row__init(message)
            message.pointee.worker = worker
            message.pointee.problem = arena.string(problem)
            message.pointee.n_ways = ways.count
            message.pointee.ways = arena.messages(ways) { $0.packed($1) }
        }
    }

    init(_ message: Phalanx__V1__ProbeRow) throws(CodecError) {
        self.init(
            worker: message.worker, problem: text(message.problem),
            ways: try ProbeWay.ways(message.ways, message.n_ways))
    }
}
