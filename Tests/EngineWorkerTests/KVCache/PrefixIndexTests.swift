import Protocol
import Testing

@testable import EngineWorker

@Suite struct PrefixIndexTests {
    /// Against a dictionary, in a table that is small enough for long runs of full slots.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func itFindsWhatADictionaryFinds(seed: UInt64) {
        var random = TestRandom(seed: seed)
        let blockCount = random.next(in: 1...40)
        let root = BlockHash.root(blockSize: 1)
        let names = (0..<60 as Range<Int32>).map { root.next(tokens: [$0]) }
        var index = PrefixIndex(blockCount: blockCount)
        var expected: [BlockHash: Int32] = [:]
        for _ in 0..<500 {
            let block = Int32(random.next(in: 0...(blockCount - 1)))
            if index.contains(block: block) {
                index.remove(block: block)
                expected = expected.filter { $0.value != block }
            } else {
                let name = names[random.next(in: 0...59)]
                let inserted = index.insert(name, block: block)
                #expect(inserted == (expected[name] == nil), "SEED=\(seed)")
                if inserted { expected[name] = block }
            }
            #expect(index.count == expected.count, "SEED=\(seed)")
            for name in names { #expect(index.block(of: name) == expected[name], "SEED=\(seed)") }
        }
    }
}
