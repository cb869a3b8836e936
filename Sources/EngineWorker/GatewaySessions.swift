internal import Protocol

/// The gateways that talk to this leader, and which sequence belongs to which of their requests.
///
/// A gateway that says nothing for ``silenceMax`` is gone, and its sequences with it.
struct GatewaySessions {
    static let gatewaysMax = 1024
    static let silenceMax = Interval.seconds(10)

    struct Session {
        let identity: [UInt8]
        var incarnation: Incarnation
        var lastHeard: Instant
        var sequences: [RequestID: SequenceID] = [:]
    }

    struct Owner {
        let identity: [UInt8]
        let request: RequestID
        let arrived: Instant
        var delivered = false
    }

    private var sessions: [Session] = []
    private var owners: [SequenceID: Owner] = [:]
    private var nextSequence: UInt64 = 1

    var sequenceCount: Int { owners.count }
    var identities: [[UInt8]] { sessions.map(\.identity) }

    /// False when there is no room for another gateway.
    mutating func onOpen(
        _ identity: [UInt8], incarnation: Incarnation, at now: Instant
    ) -> Bool {
        if let index = index(of: identity) {
            sessions[index].lastHeard = now
            sessions[index].incarnation = incarnation
            return true
        }
        guard sessions.count < Self.gatewaysMax else { return false }
        sessions.append(Session(identity: identity, incarnation: incarnation, lastHeard: now))
        return true
    }

    /// A sequence for a request, or nil when the gateway never introduced itself or uses a request
    /// id twice.
    mutating func onSubmit(
        _ identity: [UInt8], request: RequestID, at now: Instant
    ) -> SequenceID? {
        guard let index = index(of: identity), sessions[index].sequences[request] == nil else {
            return nil
        }
        let sequence = SequenceID(rawValue: nextSequence)
        nextSequence += 1
        sessions[index].lastHeard = now
        sessions[index].sequences[request] = sequence
        owners[sequence] = Owner(identity: identity, request: request, arrived: now)
        return sequence
    }

    /// The sequence of a request that its gateway gives up; nil when it has ended already.
    mutating func onCancel(_ identity: [UInt8], request: RequestID) -> SequenceID? {
        guard let index = index(of: identity),
            let sequence = sessions[index].sequences[request]
        else { return nil }
        remove(sequence)
        return sequence
    }

    func owner(of sequence: SequenceID) -> Owner? { owners[sequence] }

    /// True the first time: the output that carries how long the sequence was queued.
    mutating func markDelivered(_ sequence: SequenceID) -> Bool {
        guard let owner = owners[sequence], !owner.delivered else { return false }
        owners[sequence]?.delivered = true
        return true
    }

    mutating func remove(_ sequence: SequenceID) {
        guard let owner = owners.removeValue(forKey: sequence) else { return }
        guard let index = index(of: owner.identity) else { return }
        sessions[index].sequences[owner.request] = nil
    }

    /// Sequences of gateways that have gone silent; their sessions are closed.
    mutating func expire(at now: Instant) -> [SequenceID] {
        var orphans: [SequenceID] = []
        for session in sessions where now - session.lastHeard > Self.silenceMax {
            orphans += session.sequences.values.sorted()
        }
        sessions.removeAll { now - $0.lastHeard > Self.silenceMax }
        for orphan in orphans { owners[orphan] = nil }
        return orphans
    }

    private func index(of identity: [UInt8]) -> Int? {
        sessions.firstIndex { $0.identity == identity }
    }
}
