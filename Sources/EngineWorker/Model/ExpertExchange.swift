internal import Protocol

/// The routed experts of a MoE layer, over all workers.
protocol RoutedExperts: AnyObject {
    /// In the step that follows every worker may be sent all rows; ``gather(_:)`` says how many
    /// each has, worker by worker.
    func beginGathering()
    func gather(_ rows: Int)
    func endGathering()
    /// - Parameters:
    ///   - rows: `[rowCount, hidden]`
    ///   - output: `[rowCount, hidden]`, may be the matrix behind `rows`.
    func run(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices,
        experts: ExpertsHandle, backend: any Backend, at moment: ExpertExchange.Moment,
        into output: DeviceMatrix
    ) throws(CollectiveError)
}

/// Experts that are divided whole: rows go to the owners of their experts, come
/// back unweighted, one for each assignment, and are summed by the source in the router's order.
/// So a row's result has the same bits for every number of workers and every source rank. Rows of
/// this worker for its own experts are read where they are; their messages are empty.
///
/// A dispatch message is a header of four UInt32 (magic, rows, assignments, hidden size), the rows
/// `[rows, hidden]` F32, and the assignments `[assignments, 2]` UInt32: row index, expert's
/// index at its owner. A combine message is `[assignments, hidden]` F32. Messages are outside
/// input: sizes and indices are checked before use.
final class ExpertExchange: RoutedExperts {
    static let magic: UInt32 = 0x5048_4c31
    static let headerBytes = 16
    static let assignmentBytes = 8

    let placement: ExpertPlacement
    private let collectives: any Collectives
    private let hidden: Int
    private let chosen: Int
    private let clock: StageClock
    private let timer: ExpertTimer
    private let outgoing: PeerBuffers
    private let incoming: PeerBuffers
    private let returning: PeerBuffers
    private let results: PeerBuffers
    /// Results of this worker's own assignments to itself.
    private let own = PeerBuffers(peerCount: 1)

    /// By peer: assignments sent to it in this layer.
    private var sentCounts: [Int]
    /// By peer: where in its message the next row or assignment goes.
    private var rowCounts: [Int]
    private var lastRows: [Int]
    /// By peer: rows in its message.
    private var rowTotals: [Int]
    /// By worker, in a step that gathers all rows everywhere; else empty.
    private var gatheredRows: [Int] = []
    /// `[rows * chosen]` place of each assignment among those sent to its owner.
    private var places: [Int] = []
    /// `[rows * chosen]` result of each assignment.
    private var parts: [UnsafePointer<Float>] = []

    private var assignments = ExpertAssignments()

    init(
        placement: ExpertPlacement, collectives: any Collectives, hidden: Int, chosen: Int,
        clock: StageClock, timer: ExpertTimer
    ) {
        self.timer = timer
        precondition(collectives.worldSize == placement.worldSize, "\(collectives.worldSize)")
        precondition(collectives.rank == placement.rank, "rank \(collectives.rank)")
        self.placement = placement
        self.collectives = collectives
        self.hidden = hidden
        self.chosen = chosen
        self.clock = clock
        let peers = placement.worldSize
        outgoing = PeerBuffers(peerCount: peers)
        incoming = PeerBuffers(peerCount: peers)
        returning = PeerBuffers(peerCount: peers)
        results = PeerBuffers(peerCount: peers)
        sentCounts = Array(repeating: 0, count: peers)
        rowCounts = Array(repeating: 0, count: peers)
        lastRows = Array(repeating: -1, count: peers)
        rowTotals = Array(repeating: 0, count: peers)
        gatheredRows.reserveCapacity(peers)
    }

    // MARK: Gathering

    func beginGathering() { gatheredRows.removeAll(keepingCapacity: true) }
    func gather(_ rows: Int) { gatheredRows.append(rows) }
    func endGathering() { gatheredRows.removeAll(keepingCapacity: true) }

    /// Where and when a layer's messages belong.
    struct Moment {
        let view: UInt32
        let tick: UInt64
        let layer: Int
        let deadline: Instant
    }

    func run(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices,
        experts: ExpertsHandle, backend: any Backend, at moment: Moment,
        into output: DeviceMatrix
    ) throws(CollectiveError) {
        if placement.worldSize == 1 {
            assignLocally(rows, rowCount: rowCount, choices: choices)
            clock.lap(.dispatch)
            compute(experts, backend)
            clock.lap(.experts)
            collectLocally(rowCount: rowCount)
        } else {
            try dispatch(rows, rowCount: rowCount, choices: choices, experts.count, at: moment)
            clock.lap(.dispatch)
            assignOwn(rows, rowCount: rowCount, choices: choices)
            compute(experts, backend)
            clock.lap(.experts)
            let combine = OperationTag.combine(
                view: moment.view, tick: moment.tick, layer: moment.layer)
            for peer in 0..<placement.worldSize where peer != placement.rank {
                results.setCount(sentCounts[peer] * hidden * 4, of: peer)
            }
            try collectives.allToAllOfKnownSizes(
                outgoing: returning, incoming: results, tag: combine, deadline: moment.deadline)
            try collect(rowCount: rowCount, choices: choices, tag: combine)
        }
        defer { clock.lap(.combine) }
        guard rowCount > 0 else { return }
        parts.withUnsafeBufferPointer { parts in
            guard let start = parts.baseAddress else { return }
            backend.combine(start, choices, rows: rowCount, into: output)
        }
    }

    /// This worker's rows to the owners of their experts, and other workers' rows to this one.
    private func dispatch(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices, _ experts: Int,
        at moment: Moment
    ) throws(CollectiveError) {
        let tag = OperationTag.inLayer(.dispatch, moment)
        if gatheredRows.isEmpty {
            pack(rows, rowCount: rowCount, choices: choices)
            try collectives.allToAll(
                outgoing: outgoing, incoming: incoming, tag: tag, deadline: moment.deadline)
            return try unpack(experts: experts, tag: tag)
        }
        precondition(gatheredRows.count == placement.worldSize, "\(gatheredRows)")
        precondition(gatheredRows[placement.rank] == rowCount, "\(gatheredRows) \(rowCount)")
        packForAll(rows, rowCount: rowCount, choices: choices)
        try collectives.allToAllOfKnownSizes(
            outgoing: outgoing, incoming: incoming, tag: tag, deadline: moment.deadline)
        try takeOwn(tag: tag)
    }

    /// Bytes of a message with so many rows: the rows, then their experts.
    private func gatheredBytes(_ rows: Int) -> Int { rows * (hidden + chosen) * 4 }

    private func packForAll(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices
    ) {
        countOutgoing(rowCount: rowCount, choices: choices)
        for peer in 0..<placement.worldSize where peer != placement.rank {
            outgoing.setCount(gatheredBytes(rowCount), of: peer)
            incoming.setCount(gatheredBytes(gatheredRows[peer]), of: peer)
            guard rowCount > 0, let start = outgoing[peer].baseAddress else { continue }
            start.copyMemory(from: rows, byteCount: rowCount * hidden * 4)
            (start + rowCount * hidden * 4).copyMemory(
                from: choices.experts, byteCount: rowCount * chosen * 4)
        }
        outgoing.setCount(0, of: placement.rank)
        incoming.setCount(0, of: placement.rank)
    }

    /// The assignments to this worker's experts in everybody's rows, by rows and slots.
    private func takeOwn(tag: OperationTag) throws(CollectiveError) {
        assignments.removeAll()
        let local = placement.localExperts
        for peer in 0..<placement.worldSize where peer != placement.rank {
            let (message, rowCount) = (UnsafeRawBufferPointer(incoming[peer]), gatheredRows[peer])
            guard message.count == gatheredBytes(rowCount) else {
                throw .peerLost(peer: peer, tag: tag, reason: "its dispatch message is malformed")
            }
            returning.setCount(0, of: peer)
            guard rowCount > 0, let start = message.baseAddress else { continue }
            let rows = start.assumingMemoryBound(to: Float.self)
            let ids = (start + rowCount * hidden * 4).assumingMemoryBound(to: Int32.self)
            var count = 0
            for index in 0..<(rowCount * chosen) {
                guard ids[index] >= 0, Int(ids[index]) < placement.expertCount else {
                    let reason = "it asks for expert \(ids[index]) of \(placement.expertCount)"
                    throw .peerLost(peer: peer, tag: tag, reason: reason)
                }
                if local.contains(Int(ids[index])) { count += 1 }
            }
            returning.setCount(count * hidden * 4, of: peer)
            guard let target = returning[peer].baseAddress else { continue }
            var output = target.assumingMemoryBound(to: Float.self)
            for index in 0..<(rowCount * chosen) where local.contains(Int(ids[index])) {
                assignments.append(
                    expert: Int(ids[index]) - local.lowerBound,
                    input: rows + index / chosen * hidden, output: output)
                output += hidden
            }
        }
    }

    // MARK: One worker

    private func assignLocally(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices
    ) {
        let count = rowCount * chosen
        own.setCount(count * hidden * 4, of: 0)
        assignments.removeAll()
        guard let start = own[0].baseAddress else { return }
        let target = start.assumingMemoryBound(to: Float.self)
        for index in 0..<count {
            assignments.append(
                expert: Int(choices.experts[index]), input: rows + index / chosen * hidden,
                output: target + index * hidden)
        }
    }

    private func collectLocally(rowCount: Int) {
        parts.removeAll(keepingCapacity: true)
        assignments.collectOutputs(into: &parts)
    }

    // MARK: Source side

    private func pack(_ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices) {
        countOutgoing(rowCount: rowCount, choices: choices)
        let peers = placement.worldSize
        for peer in 0..<peers where peer != placement.rank {
            let assignmentStart = Self.headerBytes + rowCounts[peer] * hidden * 4
            let total = assignmentStart + sentCounts[peer] * Self.assignmentBytes
            outgoing.setCount(total, of: peer)
            let header = outgoing[peer].bindMemory(to: UInt32.self)
            header[0] = Self.magic
            header[1] = UInt32(rowCounts[peer])
            header[2] = UInt32(sentCounts[peer])
            header[3] = UInt32(hidden)
        }
        for peer in 0..<peers {
            rowTotals[peer] = rowCounts[peer]
            (sentCounts[peer], rowCounts[peer], lastRows[peer]) = (0, 0, -1)
        }
        for row in 0..<rowCount {
            for slot in 0..<chosen {
                let expert = Int(choices.experts[row * chosen + slot])
                let owner = placement.owner(of: expert)
                guard owner != placement.rank else { continue }
                let message = outgoing[owner]
                if lastRows[owner] != row {
                    let offset = Self.headerBytes + rowCounts[owner] * hidden * 4
                    UnsafeMutableRawBufferPointer(rebasing: message[offset...]).copyMemory(
                        from: UnsafeRawBufferPointer(start: rows + row * hidden, count: hidden * 4))
                    rowCounts[owner] += 1
                    lastRows[owner] = row
                }
                let base = Self.headerBytes + rowTotals[owner] * hidden * 4
                let offset = base + sentCounts[owner] * Self.assignmentBytes
                let local = expert - placement.experts(of: owner).lowerBound
                message.storeBytes(
                    of: UInt32(rowCounts[owner] - 1), toByteOffset: offset, as: UInt32.self)
                message.storeBytes(of: UInt32(local), toByteOffset: offset + 4, as: UInt32.self)
                sentCounts[owner] += 1
            }
        }
    }

    private func countOutgoing(rowCount: Int, choices: RouterChoices) {
        for peer in 0..<placement.worldSize {
            (sentCounts[peer], rowCounts[peer], lastRows[peer]) = (0, 0, -1)
        }
        places.removeAll(keepingCapacity: true)
        for index in 0..<(rowCount * chosen) {
            let owner = placement.owner(of: Int(choices.experts[index]))
            places.append(sentCounts[owner])
            sentCounts[owner] += 1
            if lastRows[owner] != index / chosen {
                lastRows[owner] = index / chosen
                rowCounts[owner] += 1
            }
        }
    }

    private func collect(
        rowCount: Int, choices: RouterChoices, tag: OperationTag
    ) throws(CollectiveError) {
        for peer in 0..<placement.worldSize where peer != placement.rank {
            let expected = sentCounts[peer] * hidden * 4
            guard results.count(of: peer) == expected else {
                let found = results.count(of: peer)
                throw .peerLost(
                    peer: peer, tag: tag,
                    reason: "it sent \(found) bytes of expert results instead of \(expected)")
            }
        }
        parts.removeAll(keepingCapacity: true)
        for index in 0..<(rowCount * chosen) {
            let owner = placement.owner(of: Int(choices.experts[index]))
            let buffer = owner == placement.rank ? own[0] : results[owner]
            guard let start = buffer.baseAddress else { continue }
            let values = UnsafePointer(start.assumingMemoryBound(to: Float.self))
            parts.append(values + places[index] * hidden)
        }
    }

    // MARK: Owner side

    private func unpack(experts: Int, tag: OperationTag) throws(CollectiveError) {
        assignments.removeAll()
        for peer in 0..<placement.worldSize where peer != placement.rank {
            let message = UnsafeRawBufferPointer(incoming[peer])
            guard let header = Self.header(of: message, hidden: hidden) else {
                throw .peerLost(
                    peer: peer, tag: tag, reason: "its dispatch message is malformed")
            }
            returning.setCount(header.assignments * hidden * 4, of: peer)
            guard let source = message.baseAddress, let target = returning[peer].baseAddress,
                header.assignments > 0
            else { continue }
            let rows = (source + Self.headerBytes).assumingMemoryBound(to: Float.self)
            let results = target.assumingMemoryBound(to: Float.self)
            let base = Self.headerBytes + header.rows * hidden * 4
            for index in 0..<header.assignments {
                let offset = base + index * Self.assignmentBytes
                let row = Int(message.load(fromByteOffset: offset, as: UInt32.self))
                let expert = Int(message.load(fromByteOffset: offset + 4, as: UInt32.self))
                guard row < header.rows, expert < experts else {
                    let reason = "it asks for row \(row), expert \(expert) of \(experts)"
                    throw .peerLost(peer: peer, tag: tag, reason: reason)
                }
                assignments.append(
                    expert: expert, input: rows + row * hidden, output: results + index * hidden)
            }
        }
    }

    /// Assignments of this worker's rows to its own experts, without a message.
    private func assignOwn(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices
    ) {
        own.setCount(rowCount * chosen * hidden * 4, of: 0)
        guard let start = own[0].baseAddress else { return }
        let target = start.assumingMemoryBound(to: Float.self)
        let local = placement.localExperts
        for index in 0..<(rowCount * chosen) {
            let expert = Int(choices.experts[index])
            guard local.contains(expert) else { continue }
            assignments.append(
                expert: expert - local.lowerBound, input: rows + index / chosen * hidden,
                output: target + places[index] * hidden)
        }
    }

    /// Rows and assignments of a dispatch message, or nil when its size denies them.
    static func header(
        of message: UnsafeRawBufferPointer, hidden: Int
    ) -> (rows: Int, assignments: Int)? {
        guard message.count >= headerBytes else { return nil }
        func word(_ index: Int) -> UInt32 {
            message.load(fromByteOffset: index * 4, as: UInt32.self)
        }
        guard word(0) == magic, word(3) == UInt32(hidden) else { return nil }
        let (rows, assignments) = (Int(word(1)), Int(word(2)))
        // 2^32 times sizes that the configuration bounds stay within 64 bits.
        let expected = headerBytes + rows * hidden * 4 + assignments * assignmentBytes
        return message.count == expected ? (rows, assignments) : nil
    }

    private func compute(_ experts: ExpertsHandle, _ backend: any Backend) {
        assignments.withBatch(experts: experts.count) { batch in
            let began = timer.now
            backend.expertMLP(experts, batch)
            timer.nanoseconds += timer.now - began
        }
    }
}
