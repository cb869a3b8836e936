internal import Protocol

/// The memory of one operation: what goes to each peer and where each peer's message belongs.
///
/// Both operations are the same exchange, one message to and from every peer; they differ only in
/// whose memory is used and in which sizes are accepted.
enum ExchangePayload {
    case gather(send: UnsafeRawBufferPointer, receive: UnsafeMutableRawBufferPointer)
    case buffers(outgoing: PeerBuffers, incoming: PeerBuffers)
    /// The sizes of `incoming` are set; parts of no bytes are left out.
    case known(outgoing: PeerBuffers, incoming: PeerBuffers)

    func outgoing(to peer: Int) -> UnsafeRawBufferPointer {
        switch self {
        case .gather(let send, _): send
        case .buffers(let outgoing, _), .known(let outgoing, _):
            UnsafeRawBufferPointer(outgoing[peer])
        }
    }

    /// Whether `peer` sends this worker a message, be it an empty one.
    func receives(from peer: Int) -> Bool {
        guard case .known(_, let incoming) = self else { return true }
        return incoming.count(of: peer) > 0
    }

    /// Whether this worker sends `peer` a message.
    func sends(to peer: Int) -> Bool {
        guard case .known(let outgoing, _) = self else { return true }
        return outgoing.count(of: peer) > 0
    }

    /// Where the `byteCount` bytes of `peer` belong; `nil` if this size is not what the operation
    /// is about. The size must have been checked against the limit.
    func destination(byteCount: Int, from peer: Int) -> UnsafeMutableRawBufferPointer? {
        switch self {
        case .gather(let send, let receive):
            guard byteCount == send.count else { return nil }
            return Self.part(of: receive, index: peer, byteCount: byteCount)
        case .buffers(_, let incoming):
            incoming.setCount(byteCount, of: peer)
            return incoming[peer]
        case .known(_, let incoming):
            return incoming.count(of: peer) == byteCount ? incoming[peer] : nil
        }
    }

    /// The worker's own part.
    func copyOwn(rank: Int) {
        let source = outgoing(to: rank)
        guard let target = destination(byteCount: source.count, from: rank) else {
            preconditionFailure("own part of \(source.count) bytes does not fit its own operation")
        }
        if source.count > 0 { target.copyMemory(from: source) }
    }

    private static func part(
        of buffer: UnsafeMutableRawBufferPointer, index: Int, byteCount: Int
    ) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            rebasing: buffer[(index * byteCount)..<((index + 1) * byteCount)])
    }
}

/// A group whose operations are all one exchange.
protocol ExchangingCollectives: Collectives {
    var messageBytesMax: Int { get }

    /// Sends and receives one message to and from every peer. The own part is copied already.
    func exchange(
        _ payload: ExchangePayload, tag: OperationTag, deadline: Instant
    ) throws(CollectiveError)
    /// Releases what the group holds; peers that still wait for this worker are told.
    func close()
}

extension ExchangingCollectives {
    func allGather(
        _ send: UnsafeRawBufferPointer,
        into receive: UnsafeMutableRawBufferPointer,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError) {
        precondition(
            send.count <= CollectiveLimits.allGatherBytesMax,
            "\(send.count) bytes to gather, at most \(CollectiveLimits.allGatherBytesMax)")
        precondition(
            receive.count == worldSize * send.count,
            "\(receive.count) bytes for \(worldSize) parts of \(send.count)")
        let payload = ExchangePayload.gather(send: send, receive: receive)
        payload.copyOwn(rank: rank)
        try exchange(payload, tag: tag, deadline: deadline)
    }

    func allToAll(
        outgoing: PeerBuffers,
        incoming: PeerBuffers,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError) {
        try exchange(
            .buffers(outgoing: outgoing, incoming: incoming), outgoing, incoming, tag, deadline)
    }

    /// For transports that leave out what is empty.
    func exchangeKnown(
        outgoing: PeerBuffers, incoming: PeerBuffers, tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) {
        try exchange(
            .known(outgoing: outgoing, incoming: incoming), outgoing, incoming, tag, deadline)
    }

    private func exchange(
        _ payload: ExchangePayload, _ outgoing: PeerBuffers, _ incoming: PeerBuffers,
        _ tag: OperationTag, _ deadline: Instant
    ) throws(CollectiveError) {
        precondition(outgoing !== incoming, "an all-to-all is not done in place")
        precondition(
            outgoing.peerCount == worldSize && incoming.peerCount == worldSize,
            "\(outgoing.peerCount) and \(incoming.peerCount) buffers for \(worldSize) workers")
        for peer in 0..<worldSize {
            precondition(
                outgoing.count(of: peer) <= messageBytesMax,
                "\(outgoing.count(of: peer)) bytes for \(peer), at most \(messageBytesMax)")
        }
        payload.copyOwn(rank: rank)
        try exchange(payload, tag: tag, deadline: deadline)
    }
}

/// The checks of a received header that both transports share.
struct HeaderCheck {
    let tag: OperationTag
    let messageBytesMax: Int

    /// Where the message of `peer` that `bytes` announces belongs.
    func destination(
        announcedBy bytes: UnsafeRawPointer, from peer: Int, in payload: ExchangePayload
    ) throws(CollectiveError) -> UnsafeMutableRawBufferPointer {
        guard let header = MessageHeader(reading: bytes) else {
            throw lost(peer, "its message does not begin with a header")
        }
        guard header.tag == tag else {
            throw .mismatch(peer: peer, expected: tag, received: header.tag)
        }
        guard header.rank == UInt32(peer) else {
            throw lost(peer, "its message says that it comes from rank \(header.rank)")
        }
        guard header.payloadByteCount <= UInt64(messageBytesMax) else {
            throw lost(
                peer, "it announces \(header.payloadByteCount) bytes, at most \(messageBytesMax)")
        }
        let byteCount = Int(header.payloadByteCount)
        guard let destination = payload.destination(byteCount: byteCount, from: peer) else {
            throw lost(peer, "it sends \(byteCount) bytes, which is not the size that was agreed")
        }
        return destination
    }

    func lost(_ peer: Int, _ reason: String) -> CollectiveError {
        .peerLost(peer: peer, tag: tag, reason: reason)
    }
}
