import TestSupport
import Testing

@testable import EngineWorker

/// A plan that another worker wrote is outside input.
@Suite struct StepPlanCodecTests {
    static let bounds = StepPlan.Bounds(
        rowsMax: 16, blockCount: 8, blockSize: 4, vocabularySize: 100, modelLength: 8)

    static func plan() -> StepPlan {
        var plan = StepPlan()
        plan.append(
            sequence: SequenceID(rawValue: 1 << 40), tokens: [7], firstPosition: 5, blocks: [3, 1],
            blockSize: 4, samples: true, isDecode: true, allLogits: false)
        plan.append(
            sequence: SequenceID(rawValue: 2), tokens: [1, 2, 99, 4, 5, 6], firstPosition: 2,
            blocks: [0, 7], blockSize: 4, samples: false, isDecode: false, allLogits: true)
        return plan
    }

    static func encoded(_ plan: StepPlan) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: plan.encodedByteCount)
        bytes.withUnsafeMutableBytes { plan.encode(into: $0) }
        return bytes
    }

    static func decoded(_ bytes: [UInt8], within bounds: StepPlan.Bounds = bounds) -> StepPlan? {
        var plan = Self.plan()
        return bytes.withUnsafeBytes { plan.decode($0, within: bounds) } ? plan : nil
    }

    @Test func aPlanArrivesAsItWas() throws {
        let plan = Self.plan()
        let found = try #require(Self.decoded(Self.encoded(plan)))
        #expect(found.entries == plan.entries)
        #expect(found.tokenIDs == plan.tokenIDs)
        #expect(found.positions == plan.positions)
        #expect(found.slots == plan.slots)
        #expect(found.blockTables == plan.blockTables)
        #expect(found.logitRows == plan.logitRows)
    }

    @Test func aDummyBatchNeedsNoBytes() { #expect(StepPlan().encodedByteCount == 0) }

    @Test func whatIsBeyondTheReceiversMemoryIsRefused() {
        let bytes = Self.encoded(Self.plan())
        func bounds(
            rows: Int = 16, blocks: Int = 8, size: Int = 4, vocabulary: Int = 100, length: Int = 8
        ) -> StepPlan.Bounds {
            StepPlan.Bounds(
                rowsMax: rows, blockCount: blocks, blockSize: size, vocabularySize: vocabulary,
                modelLength: length)
        }
        #expect(Self.decoded(bytes, within: bounds(rows: 6)) == nil)
        #expect(Self.decoded(bytes, within: bounds(blocks: 7)) == nil)
        #expect(Self.decoded(bytes, within: bounds(size: 3)) == nil)
        #expect(Self.decoded(bytes, within: bounds(vocabulary: 99)) == nil)
        #expect(Self.decoded(bytes, within: bounds(length: 7)) == nil)
        #expect(Self.decoded(bytes, within: bounds()) != nil)
    }

    @Test func noTruncationOrBitFlipTrapsAndWhatIsTakenIsInside() {
        let bytes = Self.encoded(Self.plan())
        for count in 0..<bytes.count { #expect(Self.decoded(Array(bytes.prefix(count))) == nil) }
        #expect(Self.decoded(bytes + [0, 0, 0, 0]) == nil)
        var taken = 0
        for index in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[index] ^= 1 << bit
                guard let plan = Self.decoded(damaged) else { continue }
                taken += 1
                #expect(plan.slots.allSatisfy { (0..<32).contains($0) })
                #expect(plan.tokenIDs.allSatisfy { (0..<100).contains($0) })
                #expect(plan.rowCount == 7)
            }
        }
        // Sequence numbers, flags and some tokens may be other ones.
        #expect(taken > 0)
    }

    @Test func noiseIsNoPlan() {
        var random = SeededGenerator.printingSeed(of: "plans")
        for _ in 0..<2000 {
            let count = Int.random(in: 0..<200, using: &random)
            let noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(Self.decoded(noise) == nil)
            let magic: [UInt8] = [0x31, 0x50, 0x58, 0x50]
            _ = Self.decoded(magic + noise)
        }
    }
}
