internal import Protocol

/// What the workers of one DP rank exchange inside a step. They divide the heads of attention, the
/// outputs of its output projection and the vocabulary; between attention and the next layer each
/// has some of the rows ("sequence parallel", Korthikanti et al., arXiv 2205.05198).
///
/// Nothing is summed over workers: who needs a sum over all heads gets all heads. So every number
/// is computed whole, by one worker, in the order in which a single worker computes it, and has
/// the same bits for every number of workers. (The usual all-reduce after the output projection
/// moves 2 * hidden numbers a row, this heads * value + 2 * hidden, and would round otherwise.)
///
/// All workers of a view issue these operations, those of other DP ranks with their own rows; parts
/// of no bytes are left out.
final class TensorParallelGroup {
    let layout: ParallelLayout
    private let collectives: any Collectives
    private let backend: any Backend
    private let outgoing: PeerBuffers
    private let incoming: PeerBuffers

    init(layout: ParallelLayout, collectives: any Collectives, backend: any Backend) {
        precondition(collectives.worldSize == layout.worldSize, "\(collectives.worldSize)")
        precondition(collectives.rank == layout.worker, "rank \(collectives.rank)")
        self.layout = layout
        self.collectives = collectives
        self.backend = backend
        outgoing = PeerBuffers(peerCount: layout.worldSize)
        incoming = PeerBuffers(peerCount: layout.worldSize)
    }

    private var others: [Int] { layout.tensorPeers.filter { $0 != layout.worker } }
    private func tpRank(_ worker: Int) -> Int { worker - layout.leader }

    /// Everybody's columns to everybody.
    ///
    /// - Parameters:
    ///   - part: `[rows, columns of this worker]`
    ///   - full: `[rows, columns of all]`
    ///   - size: each of the columns that workers divide stands for so many.
    func gatherColumns(
        of part: DeviceMatrix, rows: Int, size: Int, into full: DeviceMatrix,
        at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        let columns = { (rank: Int) in self.columns(of: full, size: size, rank) }
        for peer in others {
            send(part, rows: 0..<rows, to: peer)
            expect(rows * columns(tpRank(peer)).count, from: peer)
        }
        try exchange(.inLayer(.gatherHeads, moment), moment.deadline)
        for peer in others {
            store(from: peer, rows: 0..<rows, columns: columns(tpRank(peer)), into: full)
        }
        let own = backend.hostRows(of: part, rows: rows)
        backend.store(own, rows: 0..<rows, columns: columns(layout.tpRank), into: full)
    }

    /// Each row's columns to the worker that has the row.
    ///
    /// - Parameters:
    ///   - part: `[rows, columns of this worker]`
    ///   - full: `[rows, columns of all]`, of which this worker's rows are written.
    func scatterRows(
        of part: DeviceMatrix, rows: Int, into full: DeviceMatrix, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        let own = layout.ownPart(rows)
        for peer in others {
            send(part, rows: layout.part(rows, of: tpRank(peer)), to: peer)
            expect(own.count * columns(of: full, size: 1, tpRank(peer)).count, from: peer)
        }
        try exchange(.inLayer(.scatterOutputs, moment), moment.deadline)
        for peer in others {
            let columns = columns(of: full, size: 1, tpRank(peer))
            store(from: peer, rows: own, columns: columns, into: full)
        }
        let block = backend.hostRows(of: part, rows: rows) + own.lowerBound * part.columns
        let columns = columns(of: full, size: 1, layout.tpRank)
        backend.store(block, rows: own, columns: columns, into: full)
    }

    /// Everybody's rows to everybody, in their place.
    func gatherRows(
        of matrix: DeviceMatrix, rows: Int, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        for peer in others {
            send(matrix, rows: layout.ownPart(rows), to: peer)
            expect(layout.part(rows, of: tpRank(peer)).count * matrix.columns, from: peer)
        }
        try exchange(.inLayer(.gatherRows, moment), moment.deadline)
        for peer in others {
            store(
                from: peer, rows: layout.part(rows, of: tpRank(peer)),
                columns: 0..<matrix.columns, into: matrix)
        }
    }

    /// Logits of all parts of the vocabulary to the leader.
    ///
    /// - Parameters:
    ///   - part: `[rows, part of this worker]`
    ///   - full: `[rows, vocabulary]`; written at the leader alone.
    func gatherLogits(
        _ part: UnsafePointer<Float>, rows: Int, vocabulary: Int,
        into full: UnsafeMutablePointer<Float>, view: UInt32, tick: UInt64, deadline: Instant
    ) throws(CollectiveError) {
        for peer in others {
            let columns = layout.part(vocabulary, of: tpRank(peer)).count
            expect(layout.isLeader ? rows * columns : 0, from: peer)
        }
        if !layout.isLeader {
            let bytes = rows * layout.ownPart(vocabulary).count * 4
            outgoing.setCount(bytes, of: layout.leader)
            outgoing[layout.leader].copyMemory(
                from: UnsafeRawBufferPointer(start: part, count: bytes))
        }
        try exchange(.logits(view: view, tick: tick), deadline)
        guard layout.isLeader else { return }
        func place(_ block: UnsafePointer<Float>, _ columns: Range<Int>) {
            for row in 0..<rows {
                (full + row * vocabulary + columns.lowerBound).update(
                    from: block + row * columns.count, count: columns.count)
            }
        }
        place(part, layout.ownPart(vocabulary))
        for peer in others {
            guard let block = incoming[peer].baseAddress else { continue }
            place(
                UnsafePointer(block.assumingMemoryBound(to: Float.self)),
                layout.part(vocabulary, of: tpRank(peer)))
        }
    }

    // MARK: Messages

    private func columns(of full: DeviceMatrix, size: Int, _ tpRank: Int) -> Range<Int> {
        let part = layout.part(full.columns / size, of: tpRank)
        return (part.lowerBound * size)..<(part.upperBound * size)
    }

    private func send(_ matrix: DeviceMatrix, rows: Range<Int>, to peer: Int) {
        let count = rows.count * matrix.columns
        outgoing.setCount(count * 4, of: peer)
        guard count > 0 else { return }
        let start = backend.hostRows(of: matrix, rows: rows.upperBound)
        outgoing[peer].copyMemory(
            from: UnsafeRawBufferPointer(
                start: start + rows.lowerBound * matrix.columns, count: count * 4))
    }

    private func expect(_ floats: Int, from peer: Int) { incoming.setCount(floats * 4, of: peer) }

    private func store(
        from peer: Int, rows: Range<Int>, columns: Range<Int>, into full: DeviceMatrix
    ) {
        guard !rows.isEmpty, !columns.isEmpty, let block = incoming[peer].baseAddress else {
            return
        }
        backend.store(
            UnsafePointer(block.assumingMemoryBound(to: Float.self)), rows: rows,
            columns: columns, into: full)
    }

    /// Sends and receives what was set, and forgets it.
    private func exchange(_ tag: OperationTag, _ deadline: Instant) throws(CollectiveError) {
        let expected = others.map { incoming.count(of: $0) }
        try collectives.allToAllOfKnownSizes(
            outgoing: outgoing, incoming: incoming, tag: tag, deadline: deadline)
        for (peer, count) in zip(others, expected) {
            outgoing.setCount(0, of: peer)
            guard incoming.count(of: peer) == count else {
                let found = incoming.count(of: peer)
                throw .peerLost(
                    peer: peer, tag: tag, reason: "it sent \(found) bytes instead of \(count)")
            }
        }
    }
}
