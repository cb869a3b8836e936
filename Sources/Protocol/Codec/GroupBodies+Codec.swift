internal import CProtocol

extension GroupPosition {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__GroupPosition> {
        arena.make { message in
            phalanx__v1__group_position__init(message)
            message.pointee.rank = rank
            message.pointee.world_size = worldSize
        }
    }

    /// Nil where a message has none.
    static func optional(
        _ message: UnsafeMutablePointer<Phalanx__V1__GroupPosition>?, of name: String
    ) throws(CodecError) -> GroupPosition? {
        message == nil ? nil : try GroupPosition(message, of: name)
    }

    /// - Parameter name: the message that it is part of.
    init(
        _ message: UnsafeMutablePointer<Phalanx__V1__GroupPosition>?, of name: String
    ) throws(CodecError) {
        guard let message = message?.pointee else { throw .missingBody(message: name) }
        let isInside = message.rank < message.world_size
        let (rank, size) = (message.rank, message.world_size)
        try require(isInside, name, "position", "\(rank) of \(size)")
        try require(size <= CodecLimits.membersMax, name, "position.world_size", "\(size)")
        self.init(rank: rank, worldSize: size)
    }
}

/// What is said of a worker's position, and of its end.
extension ControlBody {
    func packGroup(
        into envelope: UnsafeMutablePointer<Phalanx__V1__Envelope>, _ arena: CArena
    ) {
        switch self {
        case .prepare(let position):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PREPARE
            envelope.pointee.prepare = arena.make { prepare in
                phalanx__v1__prepare__init(prepare)
                prepare.pointee.position = position.packed(arena)
            }
        case .prepared(let position, let failure):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_PREPARED
            envelope.pointee.prepared = arena.make { prepared in
                phalanx__v1__prepared__init(prepared)
                prepared.pointee.position = position.packed(arena)
                prepared.pointee.failure = arena.string(failure)
            }
        case .askToLeave(let reason):
            envelope.pointee.body_case = PHALANX__V1__ENVELOPE__BODY_ASK_TO_LEAVE
            envelope.pointee.ask_to_leave = arena.make { ask in
                phalanx__v1__ask_to_leave__init(ask)
                ask.pointee.reason = arena.string(reason)
            }
        case .hello, .config, .refuse, .ready, .view, .heartbeat, .viewJoined, .heartbeatAck,
            .wakeRequest, .wake, .wakeAck, .peerSilent, .loadUpdate, .leave, .statusRequest,
            .statusReport, .drainRequest, .drainReport, .drain, .probeRequest, .probe, .probeResult,
            .probeReport:
            preconditionFailure("\(self) is not about a worker's position")
        }
    }

    static func group(_ envelope: Phalanx__V1__Envelope) throws(CodecError) -> ControlBody {
        let missing = CodecError.missingBody(message: "Envelope")
        switch envelope.body_case {
        case PHALANX__V1__ENVELOPE__BODY_PREPARE:
            guard let body = envelope.prepare else { throw missing }
            return .prepare(try GroupPosition(body.pointee.position, of: "Prepare"))
        case PHALANX__V1__ENVELOPE__BODY_PREPARED:
            guard let body = envelope.prepared else { throw missing }
            return .prepared(
                try GroupPosition(body.pointee.position, of: "Prepared"),
                failure: text(body.pointee.failure))
        case PHALANX__V1__ENVELOPE__BODY_ASK_TO_LEAVE:
            guard let body = envelope.ask_to_leave else { throw missing }
            return .askToLeave(reason: text(body.pointee.reason))
        default:
            return try operators(envelope)
        }
    }
}
