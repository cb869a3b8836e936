import Testing

/// What steady decode of 256 sequences allocates, with 1000 waiting.
///
/// `scheduler-benchmark` counts in a process of its own. A release build allocates nothing in a
/// hundred ticks; `make benchmark` fails where it does, or where a pass takes more than 50 us. A
/// debug build keeps the frame of each accessor coroutine on the heap, some hundred bytes and about
/// 35 times a sequence and tick. So it is the large allocations that must not be there: a copy of
/// a sequence's tokens, of its names of blocks, or of one of the plan's arrays.
@Suite struct SchedulerCostTests {
    #if DEBUG
        static let allocationsMax = 60 * 100 * 256
    #else
        static let allocationsMax = 0
    #endif

    @Test func steadyDecodeAllocatesNothingOfItsOwn() throws {
        let lines = try CountingProgram.lines("scheduler-benchmark")
        #expect(lines.count == 4, "\(lines)")
        for line in lines {
            let counts = CountingProgram.counts(line)
            try #require(counts.count == 2, "\(line)")
            #expect(counts[0] <= Self.allocationsMax && counts[1] == 0, "\(line)")
        }
    }
}
