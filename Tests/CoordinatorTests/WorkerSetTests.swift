import TestSupport
import Testing

@testable import Coordinator

@Suite struct WorkerSetTests {
    @Test func itIsASetOfIndexes() {
        var random = SeededGenerator.printingSeed(of: "WorkerSetTests")
        for worldSize in [1, 63, 64, 65, 320] as [UInt32] {
            var set = WorkerSet(worldSize: worldSize)
            var model: Set<UInt32> = []
            for _ in 0..<1000 {
                let worker = UInt32.random(in: 0..<worldSize, using: &random)
                if Bool.random(using: &random) {
                    set.insert(worker)
                    model.insert(worker)
                } else {
                    set.remove(worker)
                    model.remove(worker)
                }
                #expect(set.count == model.count && set.contains(worker) == model.contains(worker))
            }
            #expect(set.members == model.sorted(), "PHALANX_TEST_SEED=\(random.seed)")
            #expect(set.first(3) == Array(model.sorted().prefix(3)))
            #expect(set.first == model.min())
        }
    }

    @Test func aFullSetHoldsAllAndNoOther() {
        let set = WorkerSet(worldSize: 66, isFull: true)
        #expect(set.members == Array(0..<66) && !set.contains(66) && !set.contains(1000))
        #expect(WorkerSet(worldSize: 66).isEmpty)
    }
}
