import Testing

@testable import EngineWorker

@Suite struct WaitingQueueTests {
    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func itGivesWhatASortedListWouldGive(seed: UInt64) {
        var random = TestRandom(seed: seed)
        var queue = WaitingQueue()
        var reference: [(key: WaitingQueue.Key, id: SequenceID)] = []
        for step in 0..<400 as Range<UInt64> {
            let id = SequenceID(rawValue: step)
            if random.chance(3, of: 5) {
                let key = WaitingQueue.Key(
                    priority: Int32(random.next(in: -2...2)), arrival: step)
                queue.insert(id, key: key)
                reference.append((key, id))
                reference.sort { $0.key < $1.key }
            } else if random.chance(1, of: 2), !reference.isEmpty {
                let removed = reference.remove(at: random.next(in: 0...(reference.count - 1)))
                let didWait = queue.remove(removed.id)
                #expect(didWait, "SEED=\(seed)")
            } else if let first = queue.first {
                queue.remove(first)
                reference.removeFirst()
            }
            #expect(queue.first == reference.first?.id, "SEED=\(seed)")
            #expect(queue.count == reference.count, "SEED=\(seed)")
            queue.checkInvariants()
        }
        let didWait = queue.remove(SequenceID(rawValue: 1000))
        #expect(!didWait, "SEED=\(seed)")
    }
}
