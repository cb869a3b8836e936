internal import Glibc

/// The latent cache, the buffers of a step and its integers, all sized from the limits.
final class CPUStep {
    let config: ModelConfig
    let limits: BackendLimits
    /// `[layers, blocks, blockSize]` entries of `cacheType`, the blocks of padding included
    let cache: HostBuffer
    let cacheType: CPUBackend.CacheType
    /// `[rows, queryRank]`
    let queryLatents: HostBuffer
    /// `[rows, heads, nope + rope]`
    let queries: HostBuffer
    /// `[rows, cacheWidth]`
    let latents: HostBuffer
    /// `[rows, hidden]` rows whose logits are wanted
    let headRows: HostBuffer
    /// `[rows, rope / 2]` each
    let cosines: HostBuffer
    let sines: HostBuffer
    let rotary: RotaryFrequencies

    private(set) var rows = 0
    private(set) var tokenIDs: [Int32] = []
    private(set) var positions: [Int32] = []
    private(set) var slots: [Int32] = []
    private(set) var tables: [Int32] = []
    /// `[rows]` first entry of `tables` of the row's sequence.
    private(set) var tableStarts: [Int32] = []

    private var layerBytes: Int {
        limits.cacheBlockCount * limits.blockSize * cacheType.byteCount(for: config)
    }

    init(
        config: ModelConfig, limits: BackendLimits, cacheType: CPUBackend.CacheType
    ) throws(BackendError) {
        self.config = config
        self.cacheType = cacheType
        self.limits = limits
        func matrix(_ columns: Int) throws(BackendError) -> HostBuffer {
            try HostBuffer(byteCount: limits.rowsMax * columns * 4, purpose: "activations")
        }
        let positions = limits.cacheBlockCount.multipliedReportingOverflow(by: limits.blockSize)
        // Slots are 32-bit numbers.
        guard !positions.overflow, positions.partialValue <= Int(Int32.max) else {
            throw .unsupported("more than 2^31 cache positions: lower the number of KV blocks")
        }
        let cacheBytes = positions.partialValue.multipliedReportingOverflow(
            by: config.layerCount * cacheType.byteCount(for: config))
        guard !cacheBytes.overflow else {
            throw .outOfMemory(bytes: .max, purpose: "the KV cache")
        }
        cache = try HostBuffer(byteCount: cacheBytes.partialValue, purpose: "the KV cache")
        queryLatents = try matrix(config.queryRank ?? 0)
        queries = try matrix(config.headCount * (config.nopeHeadSize + config.ropeHeadSize))
        latents = try matrix(config.cacheWidth)
        headRows = try matrix(config.hiddenSize)
        cosines = try matrix(config.ropeHeadSize / 2)
        sines = try matrix(config.ropeHeadSize / 2)
        rotary = RotaryFrequencies(config)
        tokenIDs.reserveCapacity(limits.rowsMax)
        self.positions.reserveCapacity(limits.rowsMax)
        slots.reserveCapacity(limits.rowsMax)
        tableStarts.reserveCapacity(limits.rowsMax)
        tables.reserveCapacity(limits.cacheBlockCount)
    }

    func begin(_ plan: StepPlan, rows: Int) {
        precondition((plan.rowCount...limits.rowsMax).contains(rows), "\(rows) rows")
        let slotCount = limits.blockCount * limits.blockSize
        self.rows = rows
        // Copied: arrays that the plan shared would be made anew in every tick.
        Self.copy(plan.tokenIDs, into: &tokenIDs)
        Self.copy(plan.positions, into: &positions)
        Self.copy(plan.slots, into: &slots)
        Self.copy(plan.blockTables, into: &tables)
        for id in tokenIDs {
            precondition(id >= 0 && Int(id) < config.vocabularySize, "token \(id)")
        }
        for slot in slots { precondition(slot >= 0 && Int(slot) < slotCount, "slot \(slot)") }
        for block in tables {
            precondition(block >= 0 && Int(block) < limits.blockCount, "block \(block)")
        }
        tableStarts.removeAll(keepingCapacity: true)
        for entry in plan.entries {
            precondition(entry.firstRow == tableStarts.count, "rows are not in order")
            let end = entry.firstPosition + entry.rowCount
            precondition(end <= entry.blockCount * limits.blockSize, "\(end) positions")
            for _ in 0..<entry.rowCount { tableStarts.append(Int32(entry.firstBlock)) }
        }
        precondition(
            tableStarts.count == plan.rowCount,
            "\(tableStarts.count) rows in entries of \(plan.rowCount)")
        pad(by: rows - plan.rowCount)
    }

    /// Rows of token 0 at position 0: the first of a table of the blocks of padding. Each writes a
    /// slot of its own there, and all read the first.
    private func pad(by count: Int) {
        guard count > 0 else { return }
        precondition(count <= limits.paddingRowsMax, "\(count) rows of padding")
        let table = Int32(tables.count)
        tables.append(Int32(limits.blockCount))
        let firstSlot = limits.blockCount * limits.blockSize
        for row in 0..<count {
            tokenIDs.append(0)
            positions.append(0)
            slots.append(Int32(firstSlot + row))
            tableStarts.append(table)
        }
    }

    private static func copy(_ source: [Int32], into target: inout [Int32]) {
        target.removeAll(keepingCapacity: true)
        target.append(contentsOf: source)
    }

    /// The cache of one layer, `[blocks, blockSize]` entries.
    func cache(layer: Int) -> UnsafeMutableRawPointer {
        precondition((0..<config.layerCount).contains(layer), "layer \(layer)")
        return cache.address + layer * layerBytes
    }
}

/// Rotary frequencies, with YaRN's interpolation where the model has it, and what YaRN does to the
/// magnitude and to the softmax. Source: YaRN (arXiv 2309.00071) section 3.2 and 3.4, with the
/// parameters `mscale` and `mscale_all_dim` of DeepSeek's published code.
struct RotaryFrequencies: Hashable {
    /// `[rope / 2]` radians a position.
    let frequencies: [Double]
    /// Factor of cosines and sines.
    let magnitude: Double
    /// Factor of the attention scores: head size and YaRN.
    let scoreScale: Double

    init(_ config: ModelConfig) {
        let size = config.ropeHeadSize
        var frequencies = stride(from: 0, to: size, by: 2).map {
            pow(config.ropeBase, -Double($0) / Double(size))
        }
        var magnitude = 1.0
        var scoreScale = 1 / Double(config.nopeHeadSize + size).squareRoot()
        if let yarn = config.yarn {
            func dimension(rotations: Double) -> Double {
                let turns = Double(yarn.originalPositionCount) / (rotations * 2 * Double.pi)
                return Double(size) * log(turns) / (2 * log(config.ropeBase))
            }
            let low = max(dimension(rotations: yarn.betaFast).rounded(.down), 0)
            let high = min(
                dimension(rotations: yarn.betaSlow).rounded(.up), Double(size - 1))
            for index in frequencies.indices {
                let ramp = min(max((Double(index) - low) / max(high - low, 0.001), 0), 1)
                frequencies[index] *= (1 - ramp) + ramp / yarn.factor
            }
            func scale(_ multiplier: Double) -> Double {
                guard yarn.factor > 1, multiplier != 0 else { return 1 }
                return 0.1 * multiplier * log(yarn.factor) + 1
            }
            let all = scale(yarn.magnitudeScaleAllDimensions)
            magnitude = scale(yarn.magnitudeScale) / all
            scoreScale *= all * all
        }
        self.frequencies = frequencies
        self.magnitude = magnitude
        self.scoreScale = scoreScale
    }
}
