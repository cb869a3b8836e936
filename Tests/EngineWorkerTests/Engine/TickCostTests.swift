import Testing

/// What steady ticks of whole engines allocate, alone and in a group of two.
///
/// `tick-benchmark` counts in a process of its own. A release build allocates nothing on the
/// engine threads in 200 ticks; `make benchmark` fails where it does. A debug build keeps the frame
/// of each accessor coroutine on the heap, some 200 times a sequence and tick, so here it is the
/// large allocations that must not be there: a copy of a tick's outputs, plan or messages.
@Suite struct TickCostTests {
    #if DEBUG
        static let allocationsMax = 4000 * 200
    #else
        static let allocationsMax = 0
    #endif

    @Test func steadyTicksAllocateNothingOfTheirOwn() throws {
        let lines = try CountingProgram.lines("tick-benchmark", [Fixtures.model("demo-w8a8")])
        #expect(lines.count == 6, "\(lines)")
        for line in lines {
            let counts = CountingProgram.counts(line.split(separator: "allocations ").last ?? "")
            try #require(counts.count >= 2, "\(line)")
            #expect(counts[0] <= Self.allocationsMax && counts[1] == 0, "\(line)")
        }
    }
}
