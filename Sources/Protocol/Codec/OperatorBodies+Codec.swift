internal import CProtocol

extension ControlBody {
    func packOperators(
        into envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>, _ arena: CArena,
        _ version: UInt32
    ) {
        switch self {
        case .statusRequest:
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_STATUS_REQUEST
            envelope.pointee.status_request = arena.make { phalanx__v1__status_request__init($0) }
        case .statusReport(let report):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_STATUS_REPORT
            envelope.pointee.status_report = report.packed(arena, version)
        case .drainRequest(let dpRank):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_DRAIN_REQUEST
            envelope.pointee.drain_request = arena.make { request in
                phalanx__v1__drain_request__init(request)
                request.pointee.dp_rank = dpRank
            }
        case .drainReport(let report):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_DRAIN_REPORT
            envelope.pointee.drain_report = report.packed(arena)
        case .drain(let reason):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_DRAIN
            envelope.pointee.drain = arena.make { drain in
                phalanx__v1__drain__init(drain)
                drain.pointee.reason = arena.string(reason)
            }
        case .hello, .config, .refuse, .ready, .view, .heartbeat, .viewJoined, .heartbeatAck,
            .wakeRequest, .wake, .wakeAck, .peerSilent, .loadUpdate, .leave, .prepare, .prepared,
            .askToLeave, .probeRequest, .probe, .probeResult, .probeReport:
            preconditionFailure("\(self) is no message of operators")
        }
    }

    static func operators(_ envelope: Phalanx__V1__Envelope) throws(CodecError) -> ControlBody {
        let missing = CodecError.missingBody(message: "Envelope")
        switch envelope.body_case {
        case PHALANX__V1__ENVELOPE__BODY_STATUS_REQUEST:
            return .statusRequest
        case PHALANX__V1__ENVELOPE__BODY_STATUS_REPORT:
            guard let body = envelope.status_report else { throw missing }
            return .statusReport(try StatusReport(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_DRAIN_REQUEST:
            guard let body = envelope.drain_request else { throw missing }
            return .drainRequest(dpRank: body.pointee.dp_rank)
        case PHALANX__V1__ENVELOPE__BODY_DRAIN_REPORT:
            guard let body = envelope.drain_report else { throw missing }
            return .drainReport(try DrainReport(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_DRAIN:
            guard let body = envelope.drain else { throw missing }
            return .drain(reason: text(body.pointee.reason))
        default:
            return try probes(envelope)
        }
    }
}

extension Interval {
    fileprivate var wholeMilliseconds: UInt64 { UInt64(max(milliseconds, 0)) }

    fileprivate init(milliseconds: UInt64) {
        let product = Int64(clamping: milliseconds).multipliedReportingOverflow(by: 1_000_000)
        self.init(nanoseconds: product.overflow ? .max : product.partialValue)
    }
}

extension PeerStatus {
    func packed(
        _ arena: CArena, _ version: UInt32
    ) -> UnsafeMutablePointer<Phalanx__V1__PeerStatus> {
        arena.make { message in
            phalanx__v1__peer_status__init(message)
            message.pointee.role = role.rawValue
            message.pointee.node = arena.string(node)
            message.pointee.device = device
            message.pointee.worker = worker
            message.pointee.dp_rank = dpRank
            message.pointee.tp_rank = tpRank
            message.pointee.incarnation = incarnation.rawValue
            message.pointee.pid = pid
            message.pointee.software_version = arena.string(softwareVersion)
            message.pointee.stage = stage?.rawValue ?? 0
            message.pointee.percent = percent
            message.pointee.tick_age_milliseconds = tickAge.wholeMilliseconds
            message.pointee.silence_milliseconds = silence.wholeMilliseconds
            message.pointee.member = isMember ? 1 : 0
            message.pointee.endpoint = arena.string(endpoint)
            message.pointee.waits_for = arena.string(waitsFor)
            message.pointee.load = load.packed(arena)
            message.pointee.model_digest = arena.string(modelDigest)
            if version >= ProtocolVersion.negotiated {
                message.pointee.protocol_version = protocolVersion
                message.pointee.failed_handshakes = failedHandshakes
                message.pointee.waited_milliseconds = waited.wholeMilliseconds
                message.pointee.suspected = isSuspected ? 1 : 0
                message.pointee.waiting_workers = waitingWorkers
            }
        }
    }

    init(_ message: Phalanx__V1__PeerStatus) throws(CodecError) {
        guard let role = PeerRole(rawValue: message.role) else {
            throw .invalid(message: "PeerStatus", field: "role", value: "\(message.role)")
        }
        self.init(role: role)
        stage = WorkerStage(rawValue: message.stage)
        try require(
            stage != nil || message.stage == 0, "PeerStatus", "stage", "\(message.stage)")
        guard let load = message.load else { throw .missingBody(message: "PeerStatus.load") }
        self.load = try RankLoad(load.pointee)
        node = text(message.node)
        device = message.device
        worker = message.worker
        dpRank = message.dp_rank
        tpRank = message.tp_rank
        incarnation = Incarnation(rawValue: message.incarnation)
        pid = message.pid
        softwareVersion = text(message.software_version)
        percent = message.percent
        tickAge = Interval(milliseconds: message.tick_age_milliseconds)
        silence = Interval(milliseconds: message.silence_milliseconds)
        isMember = message.member != 0
        endpoint = text(message.endpoint)
        waitsFor = text(message.waits_for)
        modelDigest = text(message.model_digest)
        protocolVersion = chosenVersion(message.protocol_version)
        failedHandshakes = message.failed_handshakes
        waited = Interval(milliseconds: message.waited_milliseconds)
        isSuspected = message.suspected != 0
        waitingWorkers = message.waiting_workers
    }
}

extension StatusReport {
    func packed(
        _ arena: CArena, _ version: UInt32
    ) -> UnsafeMutablePointer<Phalanx__V1__StatusReport> {
        arena.make { message in
            phalanx__v1__status_report__init(message)
            message.pointee.software_version = arena.string(softwareVersion)
            message.pointee.wall_clock_microseconds = wallClockMicroseconds
            message.pointee.uptime_milliseconds = uptime.wholeMilliseconds
            message.pointee.world_size = worldSize
            message.pointee.tensor_parallel_size = tensorParallelSize
            message.pointee.lease_milliseconds = UInt32(clamping: lease.milliseconds)
            // Zero says that there is none, so one that has just passed has a millisecond left.
            message.pointee.ready_deadline_milliseconds =
                readyDeadline.map { max($0.wholeMilliseconds, 1) } ?? 0
            message.pointee.view = view
            message.pointee.view_state = viewState.rawValue
            message.pointee.view_age_milliseconds = viewAge.wholeMilliseconds
            message.pointee.view_reason = arena.string(viewReason)
            message.pointee.n_missing = missing.count
            message.pointee.missing = arena.array(missing.map { Optional(arena.string($0)) })
            message.pointee.missing_count = missingCount
            message.pointee.n_configuration = configuration.count
            message.pointee.configuration = arena.messages(configuration) { $0.packed($1) }
            message.pointee.n_peers = peers.count
            message.pointee.peers = arena.messages(peers) { $0.packed($1, version) }
            if version >= ProtocolVersion.negotiated {
                message.pointee.protocol_version = protocolVersion
                message.pointee.view_protocol_version = viewProtocolVersion
                message.pointee.failed_handshakes = failedHandshakes
            }
        }
    }

    init(_ message: Phalanx__V1__StatusReport) throws(CodecError) {
        self.init()
        guard let state = View.State(rawValue: message.view_state) else {
            throw .invalid(
                message: "StatusReport", field: "view_state", value: "\(message.view_state)")
        }
        try require(
            message.tensor_parallel_size > 0, "StatusReport", "tensor_parallel_size", "0")
        try require(
            message.n_peers <= CodecLimits.statusPeersMax, "StatusReport", "peers",
            "\(message.n_peers) entries")
        try require(
            message.n_missing <= CodecLimits.statusMissingMax, "StatusReport", "missing",
            "\(message.n_missing) entries")
        softwareVersion = text(message.software_version)
        wallClockMicroseconds = message.wall_clock_microseconds
        uptime = Interval(milliseconds: message.uptime_milliseconds)
        worldSize = message.world_size
        tensorParallelSize = message.tensor_parallel_size
        lease = Interval(milliseconds: UInt64(message.lease_milliseconds))
        readyDeadline =
            message.ready_deadline_milliseconds > 0
            ? Interval(milliseconds: message.ready_deadline_milliseconds) : nil
        view = message.view
        viewState = state
        viewAge = Interval(milliseconds: message.view_age_milliseconds)
        viewReason = text(message.view_reason)
        missing = Protocol.list(message.missing, message.n_missing).map { text($0) }
        missingCount = message.missing_count
        configuration = try list(
            message.configuration, message.n_configuration, ConfigurationEntry.init(_:))
        peers = try list(message.peers, message.n_peers, PeerStatus.init(_:))
        protocolVersion = chosenVersion(message.protocol_version)
        viewProtocolVersion = chosenVersion(message.view_protocol_version)
        failedHandshakes = message.failed_handshakes
    }
}

extension DrainReport {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__DrainReport> {
        arena.make { message in
            phalanx__v1__drain_report__init(message)
            message.pointee.dp_rank = dpRank
            message.pointee.accepted = isAccepted ? 1 : 0
            message.pointee.text = arena.string(text)
            message.pointee.n_incarnations = incarnations.count
            message.pointee.incarnations = arena.array(incarnations.map(\.rawValue))
        }
    }

    init(_ message: Phalanx__V1__DrainReport) throws(CodecError) {
        self.init(
            dpRank: message.dp_rank,
            isAccepted: message.accepted != 0,
            text: Protocol.text(message.text),
            incarnations: list(message.incarnations, message.n_incarnations).map {
                Incarnation(rawValue: $0)
            })
    }
}
