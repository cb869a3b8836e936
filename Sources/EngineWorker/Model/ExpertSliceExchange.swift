internal import Protocol

/// Experts of which every worker has a slice: some of each one's inner activations (gate and up)
/// and some of its outputs (down). All workers get all rows, compute their slice of the inner
/// activations, exchange those, compute their columns of the outputs, sum them with the router's
/// weights, and send each row's columns to the worker that has the row.
///
/// As everywhere nothing is summed over workers, so a row has the bits that one worker gives it.
///
/// A dispatch message is a header of four UInt32 (magic, rows, experts a row, hidden size), the
/// rows `[rows, hidden]` F32, the experts `[rows, chosen]` Int32 and their weights
/// `[rows, chosen]` F32. Messages are outside input: sizes and indices are checked before use.
final class ExpertSliceExchange: RoutedExperts {
    static let magic: UInt32 = 0x5048_4c32
    static let headerBytes = 16

    private let layout: ParallelLayout
    private let collectives: any Collectives
    private let config: ModelConfig
    private let clock: StageClock
    private let timer: ExpertTimer
    private let rowsMax: Int
    /// `[rows of all workers, outputs of this worker]` summed over the chosen experts.
    private let sums: DeviceMatrix
    private let outgoing: PeerBuffers
    private let incoming: PeerBuffers
    private let slices: PeerBuffers
    private let received: PeerBuffers
    /// `[assignments, inner slice]`, `[assignments, inner]` and `[assignments, output slice]`.
    private let memory = PeerBuffers(peerCount: 3)
    private var assignments = ExpertAssignments()
    private var parts: [UnsafePointer<Float>] = []
    private var experts: [Int32] = []
    private var weights: [Float] = []
    /// By worker: its rows, and the first of them among all.
    private var rowCounts: [Int]
    private var rowStarts: [Int]
    private var rowPointers: [UnsafePointer<Float>?]

    /// - Parameter sums: `[rows of all workers at most, outputs of this worker]`
    init(
        layout: ParallelLayout, collectives: any Collectives, config: ModelConfig,
        sums: DeviceMatrix, clock: StageClock, timer: ExpertTimer
    ) {
        precondition(collectives.worldSize == layout.worldSize, "\(collectives.worldSize)")
        self.layout = layout
        self.collectives = collectives
        self.config = config
        self.clock = clock
        self.timer = timer
        self.sums = sums
        rowsMax = sums.rowCapacity
        let world = layout.worldSize
        outgoing = PeerBuffers(peerCount: world)
        incoming = PeerBuffers(peerCount: world)
        slices = PeerBuffers(peerCount: world)
        received = PeerBuffers(peerCount: world)
        rowCounts = Array(repeating: 0, count: world)
        rowStarts = Array(repeating: 0, count: world)
        rowPointers = Array(repeating: nil, count: world)
    }

    private func outputs(of worker: Int) -> Range<Int> {
        ParallelLayout.part(config.hiddenSize, index: worker, of: layout.worldSize)
    }
    private func inner(of worker: Int) -> Range<Int> {
        ParallelLayout.part(config.expertInnerSize, index: worker, of: layout.worldSize)
    }
    private var peers: [Int] { (0..<layout.worldSize).filter { $0 != layout.worker } }

    // Rows go to everybody in every step.
    func beginGathering() {}
    func gather(_ rows: Int) {}
    func endGathering() {}

    func run(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices,
        experts: ExpertsHandle, backend: any Backend, at moment: ExpertExchange.Moment,
        into output: DeviceMatrix
    ) throws(CollectiveError) {
        pack(rows, rowCount: rowCount, choices: choices)
        let dispatch = OperationTag.inLayer(.dispatch, moment)
        try collectives.allToAll(
            outgoing: outgoing, incoming: incoming, tag: dispatch, deadline: moment.deadline)
        let total = try unpack(rows, rowCount: rowCount, choices: choices, tag: dispatch)
        clock.lap(.dispatch)
        let count = total * config.expertsPerToken
        let own = region(0, count, inner(of: layout.worker).count)
        computeGates(experts, backend, into: own)
        let whole = try gatherSlices(own, count: count, at: moment)
        sum(computeOutputs(experts, backend, whole, count: count), rows: total, backend)
        clock.lap(.experts)
        try sendSums(rowCount: rowCount, backend: backend, at: moment, into: output)
        clock.lap(.combine)
    }

    private func region(_ index: Int, _ rows: Int, _ columns: Int) -> UnsafeMutablePointer<Float>? {
        memory.setCount(rows * columns * 4, of: index)
        return memory[index].baseAddress?.assumingMemoryBound(to: Float.self)
    }

    // MARK: Rows to everybody

    private func pack(_ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices) {
        let (hidden, chosen) = (config.hiddenSize, config.expertsPerToken)
        let count = rowCount * chosen
        for peer in peers {
            outgoing.setCount(Self.headerBytes + (rowCount * hidden + 2 * count) * 4, of: peer)
            guard let start = outgoing[peer].baseAddress else { continue }
            let header = start.assumingMemoryBound(to: UInt32.self)
            header[0] = Self.magic
            header[1] = UInt32(rowCount)
            header[2] = UInt32(chosen)
            header[3] = UInt32(hidden)
            guard rowCount > 0 else { continue }
            let values = start + Self.headerBytes
            let ids = values + rowCount * hidden * 4
            values.copyMemory(from: rows, byteCount: rowCount * hidden * 4)
            ids.copyMemory(from: choices.experts, byteCount: count * 4)
            (ids + count * 4).copyMemory(from: choices.weights, byteCount: count * 4)
        }
    }

    /// All workers' rows and choices, in worker order.
    ///
    /// - Returns: how many rows there are.
    private func unpack(
        _ rows: UnsafePointer<Float>, rowCount: Int, choices: RouterChoices, tag: OperationTag
    ) throws(CollectiveError) -> Int {
        let chosen = config.expertsPerToken
        experts.removeAll(keepingCapacity: true)
        weights.removeAll(keepingCapacity: true)
        var total = 0
        for worker in 0..<layout.worldSize {
            let count: Int
            let ids: UnsafePointer<Int32>
            let factors: UnsafePointer<Float>
            if worker == layout.worker {
                (count, ids, factors) = (rowCount, .init(choices.experts), .init(choices.weights))
                rowPointers[worker] = rows
            } else {
                let message = UnsafeRawBufferPointer(incoming[worker])
                guard let found = rowsOf(message), let start = message.baseAddress else {
                    throw .peerLost(
                        peer: worker, tag: tag, reason: "its dispatch message is malformed")
                }
                count = found
                let values = start + Self.headerBytes
                let after = values + count * config.hiddenSize * 4
                rowPointers[worker] = values.assumingMemoryBound(to: Float.self)
                ids = after.assumingMemoryBound(to: Int32.self)
                factors = (after + count * chosen * 4).assumingMemoryBound(to: Float.self)
            }
            (rowStarts[worker], rowCounts[worker]) = (total, count)
            total += count
            guard total <= rowsMax else {
                let reason = "with its \(count) there are \(total) rows, at most \(rowsMax)"
                throw .peerLost(peer: worker, tag: tag, reason: reason)
            }
            for index in 0..<(count * chosen) {
                guard ids[index] >= 0, Int(ids[index]) < config.expertCount else {
                    let reason = "it asks for expert \(ids[index]) of \(config.expertCount)"
                    throw .peerLost(peer: worker, tag: tag, reason: reason)
                }
                experts.append(ids[index])
                weights.append(factors[index])
            }
        }
        return total
    }

    private func rowsOf(_ message: UnsafeRawBufferPointer) -> Int? {
        guard message.count >= Self.headerBytes else { return nil }
        func word(_ index: Int) -> UInt32 {
            message.load(fromByteOffset: index * 4, as: UInt32.self)
        }
        let (hidden, chosen) = (config.hiddenSize, config.expertsPerToken)
        guard word(0) == Self.magic, word(2) == UInt32(chosen), word(3) == UInt32(hidden) else {
            return nil
        }
        let rows = Int(word(1))
        let expected = Self.headerBytes + rows * (hidden + 2 * chosen) * 4
        return message.count == expected ? rows : nil
    }

    // MARK: Slices

    private func computeGates(
        _ handle: ExpertsHandle, _ backend: any Backend, into own: UnsafeMutablePointer<Float>?
    ) {
        guard let own else { return }
        let (hidden, chosen) = (config.hiddenSize, config.expertsPerToken)
        let width = inner(of: layout.worker).count
        assignments.removeAll()
        for worker in 0..<layout.worldSize {
            guard let rows = rowPointers[worker] else { continue }
            for index in 0..<(rowCounts[worker] * chosen) {
                let place = rowStarts[worker] * chosen + index
                assignments.append(
                    expert: Int(experts[place]), input: rows + index / chosen * hidden,
                    output: own + place * width)
            }
        }
        assignments.withBatch(experts: handle.count) { batch in
            let began = timer.now
            backend.expertGate(handle, batch)
            timer.nanoseconds += timer.now - began
        }
    }

    /// `[count, inner]` from everybody's slices.
    private func gatherSlices(
        _ own: UnsafeMutablePointer<Float>?, count: Int, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) -> UnsafeMutablePointer<Float>? {
        let bytes = count * inner(of: layout.worker).count * 4
        for peer in peers {
            slices.setCount(bytes, of: peer)
            if let own, bytes > 0 {
                slices[peer].copyMemory(from: UnsafeRawBufferPointer(start: own, count: bytes))
            }
            received.setCount(count * inner(of: peer).count * 4, of: peer)
        }
        try exchange(.inLayer(.gatherSlices, moment), moment.deadline)
        guard let whole = region(1, count, config.expertInnerSize), count > 0 else { return nil }
        for worker in 0..<layout.worldSize {
            let columns = inner(of: worker)
            let block =
                worker == layout.worker
                ? own.map { UnsafePointer($0) }
                : received[worker].baseAddress.map {
                    UnsafePointer($0.assumingMemoryBound(to: Float.self))
                }
            guard let block, !columns.isEmpty else { continue }
            for row in 0..<count {
                (whole + row * config.expertInnerSize + columns.lowerBound).update(
                    from: block + row * columns.count, count: columns.count)
            }
        }
        return whole
    }

    private func computeOutputs(
        _ handle: ExpertsHandle, _ backend: any Backend, _ whole: UnsafeMutablePointer<Float>?,
        count: Int
    ) -> UnsafeMutablePointer<Float>? {
        let width = outputs(of: layout.worker).count
        guard let whole, let results = region(2, count, width) else { return nil }
        assignments.removeAll()
        for place in 0..<count {
            assignments.append(
                expert: Int(experts[place]), input: whole + place * config.expertInnerSize,
                output: results + place * width)
        }
        assignments.withBatch(experts: handle.count) { batch in
            let began = timer.now
            backend.expertDown(handle, batch)
            timer.nanoseconds += timer.now - began
        }
        return results
    }

    // MARK: Sums to the owners of the rows

    private func sum(
        _ results: UnsafeMutablePointer<Float>?, rows: Int, _ backend: any Backend
    ) {
        guard let results, rows > 0 else { return }
        let width = outputs(of: layout.worker).count
        parts.removeAll(keepingCapacity: true)
        for place in experts.indices { parts.append(UnsafePointer(results + place * width)) }
        experts.withUnsafeMutableBufferPointer { experts in
            weights.withUnsafeMutableBufferPointer { weights in
                parts.withUnsafeBufferPointer { parts in
                    guard let experts = experts.baseAddress, let weights = weights.baseAddress,
                        let parts = parts.baseAddress
                    else { return }
                    let choices = RouterChoices(experts: experts, weights: weights, logits: weights)
                    backend.combine(parts, choices, rows: rows, into: sums)
                }
            }
        }
    }

    private func sendSums(
        rowCount: Int, backend: any Backend, at moment: ExpertExchange.Moment,
        into output: DeviceMatrix
    ) throws(CollectiveError) {
        let width = outputs(of: layout.worker).count
        let own = backend.hostRows(of: sums, rows: rowsMax)
        for peer in peers {
            let bytes = rowCounts[peer] * width * 4
            slices.setCount(bytes, of: peer)
            if bytes > 0 {
                slices[peer].copyMemory(
                    from: UnsafeRawBufferPointer(
                        start: own + rowStarts[peer] * width, count: bytes))
            }
            received.setCount(rowCount * outputs(of: peer).count * 4, of: peer)
        }
        try exchange(.inLayer(.combine, moment), moment.deadline)
        guard rowCount > 0 else { return }
        backend.store(
            own + rowStarts[layout.worker] * width, rows: 0..<rowCount,
            columns: outputs(of: layout.worker), into: output)
        for peer in peers {
            guard let block = received[peer].baseAddress, !outputs(of: peer).isEmpty else {
                continue
            }
            backend.store(
                UnsafePointer(block.assumingMemoryBound(to: Float.self)), rows: 0..<rowCount,
                columns: outputs(of: peer), into: output)
        }
    }

    private func exchange(_ tag: OperationTag, _ deadline: Instant) throws(CollectiveError) {
        let expected = peers.map { received.count(of: $0) }
        try collectives.allToAllOfKnownSizes(
            outgoing: slices, incoming: received, tag: tag, deadline: deadline)
        for (peer, count) in zip(peers, expected) where received.count(of: peer) != count {
            let found = received.count(of: peer)
            throw .peerLost(
                peer: peer, tag: tag, reason: "it sent \(found) bytes instead of \(count)")
        }
    }
}
