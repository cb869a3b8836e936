internal import CProtocol

extension ControlMessage {
    public func encoded() -> [UInt8] {
        let arena = CArena()
        return CArena.pack(
            arena.make { (envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>) in
                phalanx__v1__envelope__init(envelope)
                envelope.pointee.protocol_version = protocolVersion
                envelope.pointee.incarnation = incarnation.rawValue
                envelope.pointee.view = view
                envelope.pointee.sequence = sequence
                body.pack(into: envelope, arena, protocolVersion)
            })
    }

    public static func decode(
        _ frame: UnsafeRawBufferPointer
    ) throws(CodecError) -> ControlMessage {
        let name = "Envelope"
        let limit = CodecLimits.controlMessageBytesMax
        guard frame.count <= limit else {
            throw .tooLarge(message: name, byteCount: frame.count, limit: limit)
        }
        let start = frame.baseAddress?.assumingMemoryBound(to: UInt8.self)
        guard let unpacked = phalanx__v1__envelope__unpack(nil, frame.count, start) else {
            throw .malformed(message: name, byteCount: frame.count)
        }
        defer { phalanx__v1__envelope__free_unpacked(unpacked, nil) }
        return ControlMessage(
            protocolVersion: unpacked.pointee.protocol_version,
            incarnation: Incarnation(rawValue: unpacked.pointee.incarnation),
            view: unpacked.pointee.view,
            sequence: unpacked.pointee.sequence,
            body: try ControlBody(unpacked.pointee))
    }
}

extension ControlBody {
    fileprivate func pack(
        into envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>, _ arena: CArena,
        _ version: UInt32
    ) {
        switch self {
        case .hello(let hello):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_HELLO
            envelope.pointee.hello = hello.packed(arena)
        case .config(let config):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_CONFIG
            envelope.pointee.config = config.packed(arena, version)
        case .refuse(let refusal):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_REFUSE
            envelope.pointee.refuse = refusal.packed(arena)
        case .ready(let ready):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_READY
            envelope.pointee.ready = ready.packed(arena, version)
        case .view(let view):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_VIEW_STATE
            envelope.pointee.view_state = view.packed(arena, version)
        case .heartbeat(let heartbeat):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_HEARTBEAT
            envelope.pointee.heartbeat = heartbeat.packed(arena, version)
        case .prepare, .prepared, .askToLeave:
            packGroup(into: envelope, arena)
        case .viewJoined, .heartbeatAck, .wakeRequest, .wake, .wakeAck, .peerSilent, .loadUpdate,
            .leave:
            packSmall(into: envelope, arena, version)
        case .statusRequest, .statusReport, .drainRequest, .drainReport, .drain:
            packOperators(into: envelope, arena, version)
        case .probeRequest, .probe, .probeResult, .probeReport:
            packProbes(into: envelope, arena)
        }
    }

    private func packSmall(
        into envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>, _ arena: CArena,
        _ version: UInt32
    ) {
        switch self {
        case .viewJoined(let view):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_VIEW_JOINED
            envelope.pointee.view_joined = arena.make { joined in
                phalanx__v1__view_joined__init(joined)
                joined.pointee.view = view
            }
        case .heartbeatAck(let sequence):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_HEARTBEAT_ACK
            envelope.pointee.heartbeat_ack = arena.make { acknowledgement in
                phalanx__v1__heartbeat_ack__init(acknowledgement)
                acknowledgement.pointee.sequence = sequence
            }
        case .wakeRequest, .wake, .wakeAck:
            packWake(into: envelope, arena)
        case .peerSilent(let view, let tick, let workers, let reason, let isTimeout):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PEER_SILENT
            envelope.pointee.peer_silent = arena.make { silent in
                phalanx__v1__peer_silent__init(silent)
                silent.pointee.view = view
                silent.pointee.tick = tick
                silent.pointee.n_workers = workers.count
                silent.pointee.workers = arena.array(workers)
                silent.pointee.reason = arena.string(reason)
                if version >= ProtocolVersion.negotiated {
                    silent.pointee.timeout = isTimeout ? 1 : 0
                }
            }
        case .loadUpdate(let ranks):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_LOAD_UPDATE
            envelope.pointee.load_update = arena.make { update in
                phalanx__v1__load_update__init(update)
                update.pointee.n_ranks = ranks.count
                update.pointee.ranks = arena.messages(ranks) { $0.packed($1) }
            }
        case .leave(let reason):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_LEAVE
            envelope.pointee.leave = arena.make { leave in
                phalanx__v1__leave__init(leave)
                leave.pointee.reason = arena.string(reason)
            }
        case .hello, .config, .refuse, .ready, .view, .heartbeat, .prepare, .prepared, .askToLeave,
            .statusRequest, .statusReport, .drainRequest, .drainReport, .drain, .probeRequest,
            .probe, .probeResult, .probeReport:
            preconditionFailure("\(self) is not a small message")
        }
    }

    private func packWake(
        into envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>, _ arena: CArena
    ) {
        switch self {
        case .wakeRequest(let view, let fromTick):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_WAKE_REQUEST
            envelope.pointee.wake_request = arena.make { wake in
                phalanx__v1__wake_request__init(wake)
                wake.pointee.view = view
                wake.pointee.from_tick = fromTick
            }
        case .wake(let view, let fromTick):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_WAKE
            envelope.pointee.wake = arena.make { wake in
                phalanx__v1__wake__init(wake)
                wake.pointee.view = view
                wake.pointee.from_tick = fromTick
            }
        case .wakeAck(let view, let fromTick):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_WAKE_ACK
            envelope.pointee.wake_ack = arena.make { wake in
                phalanx__v1__wake_ack__init(wake)
                wake.pointee.view = view
                wake.pointee.from_tick = fromTick
            }
        case .hello, .config, .refuse, .ready, .view, .heartbeat, .viewJoined, .heartbeatAck,
            .peerSilent, .loadUpdate, .leave, .prepare, .prepared, .askToLeave, .statusRequest,
            .statusReport, .drainRequest, .drainReport, .drain, .probeRequest, .probe,
            .probeResult, .probeReport:
            preconditionFailure("\(self) is not about waking")
        }
    }

    fileprivate init(_ envelope: Phalanx__V1__Envelope) throws(CodecError) {
        let missing = CodecError.missingBody(message: "Envelope")
        switch envelope.body_case {
        case PHALANX__V1__ENVELOPE__BODY_HELLO:
            guard let body = envelope.hello else { throw missing }
            self = .hello(try Hello(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_CONFIG:
            guard let body = envelope.config else { throw missing }
            self = .config(try AssignedConfiguration(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_REFUSE:
            guard let body = envelope.refuse else { throw missing }
            self = .refuse(try Refusal(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_READY:
            guard let body = envelope.ready else { throw missing }
            self = .ready(try Ready(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_VIEW_STATE:
            guard let body = envelope.view_state else { throw missing }
            self = .view(try View(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_HEARTBEAT:
            guard let body = envelope.heartbeat else { throw missing }
            self = .heartbeat(try Heartbeat(body.pointee))
        case PHALANX__V1__ENVELOPE__BODY_VIEW_JOINED:
            guard let body = envelope.view_joined else { throw missing }
            self = .viewJoined(view: body.pointee.view)
        case PHALANX__V1__ENVELOPE__BODY_HEARTBEAT_ACK:
            guard let body = envelope.heartbeat_ack else { throw missing }
            self = .heartbeatAck(sequence: body.pointee.sequence)
        case PHALANX__V1__ENVELOPE__BODY_WAKE_REQUEST:
            guard let body = envelope.wake_request else { throw missing }
            self = .wakeRequest(view: body.pointee.view, fromTick: body.pointee.from_tick)
        case PHALANX__V1__ENVELOPE__BODY_WAKE:
            guard let body = envelope.wake else { throw missing }
            self = .wake(view: body.pointee.view, fromTick: body.pointee.from_tick)
        case PHALANX__V1__ENVELOPE__BODY_WAKE_ACK:
            guard let body = envelope.wake_ack else { throw missing }
            self = .wakeAck(view: body.pointee.view, fromTick: body.pointee.from_tick)
        case PHALANX__V1__ENVELOPE__BODY_PEER_SILENT:
            guard let body = envelope.peer_silent else { throw missing }
            self = .peerSilent(
                view: body.pointee.view,
                tick: body.pointee.tick,
                workers: list(body.pointee.workers, body.pointee.n_workers),
                reason: text(body.pointee.reason),
                isTimeout: body.pointee.timeout != 0)
        case PHALANX__V1__ENVELOPE__BODY_LOAD_UPDATE:
            guard let body = envelope.load_update else { throw missing }
            self = .loadUpdate(
                try list(body.pointee.ranks, body.pointee.n_ranks, RankLoad.init(_:)))
        case PHALANX__V1__ENVELOPE__BODY_LEAVE:
            guard let body = envelope.leave else { throw missing }
            self = .leave(reason: text(body.pointee.reason))
        default:
            self = try Self.group(envelope)
        }
    }
}
