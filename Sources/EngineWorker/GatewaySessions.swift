internal import Protocol

/// The gateways that talk to this leader, and which sequence belongs to which of their requests.
///
/// A session is one connection, from its first OPEN on. A gateway that says nothing for
/// ``silenceMax`` is gone, and its sequences with it. A session that has lost a message is broken:
/// it gets no answer any more, so that the gateway comes again under another identity and submits
/// again what it had. A stream with a hole would be worse than one that is computed twice.
struct GatewaySessions {
    static let gatewaysMax = 1024
    static let silenceMax = Interval.seconds(10)
    /// Between two calls of ``expire(at:)``; a longer one is a pause of this process.
    static let pauseMax = Interval.seconds(3)

    struct Session {
        let identity: [UInt8]
        var incarnation: Incarnation
        let protocolVersion: UInt32
        var lastHeard: Instant
        var sequences: [RequestID: SequenceID] = [:]
        var isBroken = false
        var submissions = SubmissionCount()
        /// When it was last told how busy the rank is.
        var toldAt: Instant?
    }

    struct Owner {
        let identity: [UInt8]
        let request: RequestID
        let arrived: Instant
        var delivered = false
    }

    private var sessions: [Session] = []
    /// Connections whose sessions are over, the last ``gatewaysMax`` of them.
    private var closed: [[UInt8]] = []
    private var owners: [SequenceID: Owner] = [:]
    private var nextSequence: UInt64 = 1
    private var lastExpiry: Instant?

    var sequenceCount: Int { owners.count }
    var identities: [[UInt8]] { sessions.map(\.identity) }

    enum OpenAction: Equatable {
        /// Answer it; the orphans belong to the gateway's connection before this one.
        case answer(orphans: [SequenceID])
        /// The session has lost a message or is over: silence makes the gateway begin another.
        case ignore
        /// There is no room for another gateway.
        case full
    }

    mutating func onOpen(
        _ identity: [UInt8], incarnation: Incarnation,
        protocolVersion: UInt32 = ProtocolVersion.oldest, at now: Instant
    ) -> OpenAction {
        if let index = index(of: identity) {
            sessions[index].lastHeard = now
            return sessions[index].isBroken ? .ignore : .answer(orphans: [])
        }
        if closed.contains(identity) { return .ignore }
        let orphans = close { $0.incarnation == incarnation }
        guard sessions.count < Self.gatewaysMax else { return .full }
        sessions.append(
            Session(
                identity: identity, incarnation: incarnation, protocolVersion: protocolVersion,
                lastHeard: now))
        return .answer(orphans: orphans)
    }

    /// Chosen with the session's first OPEN; the oldest for those without a session.
    func protocolVersion(of identity: [UInt8]) -> UInt32 {
        index(of: identity).map { sessions[$0].protocolVersion } ?? ProtocolVersion.oldest
    }

    enum SubmitAction: Equatable {
        case take(SequenceID)
        /// The gateway has not introduced itself, or its session is over.
        case notOpen
        case duplicate
    }

    mutating func onSubmit(
        _ identity: [UInt8], request: RequestID, at now: Instant
    ) -> SubmitAction {
        guard let index = index(of: identity), !sessions[index].isBroken else { return .notOpen }
        guard sessions[index].sequences[request] == nil else { return .duplicate }
        let sequence = SequenceID(rawValue: nextSequence)
        nextSequence += 1
        sessions[index].submissions.onSubmitted(behind: sequence.rawValue)
        sessions[index].lastHeard = now
        sessions[index].sequences[request] = sequence
        owners[sequence] = Owner(identity: identity, request: request, arrived: now)
        return .take(sequence)
    }

    /// A submission that was refused before it became a sequence; its gateway counts it too.
    mutating func onRefused(_ identity: [UInt8]) {
        guard let index = index(of: identity) else { return }
        sessions[index].submissions.onSubmitted(behind: nextSequence - 1)
    }

    /// How many of a gateway's submissions a report knows of that counts `submissions` in all: the
    /// engine takes them in the order in which they became sequences.
    mutating func knownSubmissions(
        of identity: [UInt8], counting submissions: UInt64, at now: Instant
    ) -> UInt64 {
        guard let index = index(of: identity) else { return 0 }
        sessions[index].toldAt = now
        return sessions[index].submissions.known(counting: submissions)
    }

    /// Gateways that have not been told for `interval` how busy the rank is.
    func untold(for interval: Interval, at now: Instant) -> [[UInt8]] {
        sessions.filter { session in
            !session.isBroken && (session.toldAt.map { now - $0 >= interval } ?? true)
        }.map(\.identity)
    }

    /// A message could not be sent: what the gateway would get after it makes no sense.
    ///
    /// - Returns: the sequences that nobody waits for any more.
    mutating func onLoss(_ identity: [UInt8]) -> [SequenceID] {
        guard let index = index(of: identity) else { return [] }
        let orphans = sessions[index].sequences.values.sorted()
        sessions[index].sequences = [:]
        sessions[index].isBroken = true
        for orphan in orphans { owners[orphan] = nil }
        return orphans
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

    /// Sequences of gateways that have gone silent; their sessions are closed. To be called several
    /// times a ``silenceMax``: after a longer pause it was this process that was away, and what the
    /// gateways said meanwhile is yet to be read.
    mutating func expire(at now: Instant) -> [SequenceID] {
        let pause = lastExpiry.map { now - $0 } ?? .zero
        lastExpiry = now
        if pause > Self.pauseMax {
            for index in sessions.indices { sessions[index].lastHeard = now }
        }
        return close { now - $0.lastHeard > Self.silenceMax }
    }

    private mutating func close(where isOver: (Session) -> Bool) -> [SequenceID] {
        var orphans: [SequenceID] = []
        for session in sessions where isOver(session) {
            orphans += session.sequences.values.sorted()
            closed.append(session.identity)
        }
        if closed.count > Self.gatewaysMax { closed.removeFirst(closed.count - Self.gatewaysMax) }
        sessions.removeAll(where: isOver)
        for orphan in orphans { owners[orphan] = nil }
        return orphans
    }

    private func index(of identity: [UInt8]) -> Int? {
        sessions.firstIndex { $0.identity == identity }
    }
}
