import Testing

@testable import EngineWorker

@Suite struct SchedulerRandomTests {
    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func everySequenceYieldsWhatItWouldAlone(seed: UInt64) throws {
        var simulation = try SchedulerSimulation(seed: seed)
        try simulation.run(operations: 150)
        let statistics = simulation.scheduler.statistics
        #expect(statistics.kvUsage == 0, "SEED=\(seed)")
        #expect(statistics.running == 0 && statistics.waiting == 0, "SEED=\(seed)")
        // Every block can be had again, whether or not it is cached.
        var pool = simulation.scheduler.pool
        var everything = BlockTable()
        let all = pool.blockCount * pool.blockSize
        let taken = pool.extend(&everything, positionCount: all)
        #expect(taken && pool.cachedCount == 0 && pool.usage == 1, "SEED=\(seed)")
        var finished = 0
        for stream in simulation.streams {
            #expect(simulation.owners[Int(stream.id.rawValue)] == nil, "no end, SEED=\(seed)")
            let alone = try LoneSequence.run(
                prompt: stream.prompt, parameters: stream.parameters,
                sampler: simulation.sampler, eosTokenIDs: simulation.limits.eosTokenIDs,
                maxModelLength: simulation.limits.maxModelLength)
            if stream.isCancelled {
                #expect(stream.yielded.finish == nil, "SEED=\(seed)")
                #expect(alone.tokens.starts(with: stream.yielded.tokens), "SEED=\(seed)")
            } else {
                #expect(stream.yielded == alone, "SEED=\(seed) \(stream.id)")
                finished += 1
            }
        }
        #expect(finished > 0, "SEED=\(seed)")
    }

    @Test func theRandomRunsReachWhatTheyAreFor() throws {
        var (preemptions, moves, rejections, chunks) = (0, 0, 0, 0)
        var (hits, sharings, hitAfterPreemption) = (0, 0, 0)
        for seed in 1...60 as ClosedRange<UInt64> {
            var simulation = try SchedulerSimulation(seed: seed)
            try simulation.run(operations: 150)
            preemptions += simulation.scheduler.statistics.preemptionsTotal
            moves += simulation.moveCount
            rejections += simulation.rejectedCount
            hits += simulation.scheduler.statistics.prefixHitsTotal
            sharings += simulation.sharingCount
            hitAfterPreemption += simulation.resumedHitCount
            chunks +=
                simulation.plans.flatMap(\.entries).filter { $0.firstPosition > 0 && !$0.isDecode }
                .count
        }
        #expect(preemptions > 200, "\(preemptions)")
        #expect(moves > 200, "\(moves)")
        #expect(rejections > 100, "\(rejections)")
        #expect(chunks > 500, "\(chunks)")
        #expect(hits > 500, "\(hits)")
        #expect(sharings > 200, "\(sharings)")
        #expect(hitAfterPreemption > 25, "\(hitAfterPreemption)")
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func theSameCallsGiveTheSamePlans(seed: UInt64) throws {
        var first = try SchedulerSimulation(seed: seed)
        var second = try SchedulerSimulation(seed: seed)
        try first.run(operations: 100)
        try second.run(operations: 100)
        #expect(first.plans.count == second.plans.count, "SEED=\(seed)")
        for (left, right) in zip(first.plans, second.plans) {
            #expect(left.entries == right.entries, "SEED=\(seed)")
            #expect(left.tokenIDs == right.tokenIDs && left.slots == right.slots, "SEED=\(seed)")
            #expect(left.blockTables == right.blockTables, "SEED=\(seed)")
            #expect(left.logitRows == right.logitRows, "SEED=\(seed)")
        }
    }
}
