import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

/// An engine as the loader makes it, with everything that it says.
final class EngineFixture {
    static let syncInterval = 4

    private final class Said { var events: [EngineEvent] = [] }

    let engine: Engine
    let facts: EngineFacts
    private let said = Said()

    static func configuration(
        rank: Int = 0, worldSize: Int = 1, tensorParallelSize: Int = 1,
        model: String = "tiny-random", length: Int? = 512,
        blockCount: Int? = 64, cacheBytes: Int = 1 << 20, quantization: String? = nil,
        cacheType: String = "auto", prefixCaching: Bool = false, weightsCacheFolder: String? = nil,
        sliced: Bool = false,
        batchSizes: [Int] = []
    ) -> EngineConfiguration {
        EngineConfiguration(
            modelFolder: Fixtures.model(model),
            layout: ParallelLayout(
                dataParallelSize: worldSize / tensorParallelSize,
                tensorParallelSize: tensorParallelSize, worker: rank),
            dpRank: rank / tensorParallelSize,
            division: sliced ? .bySlice : .byExpert,
            maxSequencesRunning: 8, maxSequencesWaiting: 8, maxBatchedTokens: 64,
            maxModelLength: length, blockSize: 16, blockCountOverride: blockCount,
            cacheBytes: cacheBytes, chunkedPrefill: true, prefixCaching: prefixCaching,
            prefillFirst: false,
            priorityScheduling: false,
            syncInterval: Self.syncInterval, exchangeTimeout: .seconds(30),
            collectives: .sharedMemory, collectivesDevice: nil, elementType: "float32",
            cacheType: cacheType, quantization: quantization, kernelLevel: "best",
            threadCount: 1, weightsCacheFolder: weightsCacheFolder,
            batchSizes: BatchSizes(batchSizes))
    }

    init(_ configuration: EngineConfiguration = EngineFixture.configuration()) throws {
        let said = said
        let loaded = try EngineLoader.load(configuration, progress: EngineProgress()) {
            said.events += $0
        }
        engine = loaded.engine
        facts = loaded.facts
    }

    func enter(
        view: UInt32, protocolVersion: UInt32 = ProtocolVersion.current,
        _ collectives: any Collectives = SingleRankCollectives()
    ) {
        #expect(
            engine.join(
                ViewGroup(
                    view: view, protocolVersion: protocolVersion, collectives: collectives)))
        engine.activate(view: view)
    }

    func submit(
        _ id: UInt64, _ prompt: [Int32], delivered: [Int32] = [], view: UInt32 = 1,
        _ change: (inout SamplingParameters) -> Void = { _ in }
    ) {
        var sampling = SamplingParameters()
        sampling.temperature = 0
        sampling.ignoreEOS = true
        change(&sampling)
        engine.submit(
            SequenceID(rawValue: id),
            GenerationRequest(
                requestID: RequestID(rawValue: id), view: view, promptTokenIDs: prompt,
                sampling: sampling, priority: 0, deliveredTokenIDs: delivered))
    }

    /// Ticks until the group is idle.
    func runUntilIdle() {
        engine.lookForWork(at: MonotonicClock.now())
        while engine.isRunning { engine.step() }
    }

    func step(_ count: Int) {
        engine.lookForWork(at: MonotonicClock.now())
        for _ in 0..<count { engine.step() }
    }

    func takeEvents() -> [EngineEvent] {
        defer { said.events = [] }
        return said.events
    }
}

extension [EngineEvent] {
    var outputs: [SequenceOutput] {
        compactMap { event in
            if case .output(let output) = event { output } else { nil }
        }
    }

    func tokens(of id: UInt64) -> [Int32] {
        outputs.filter { $0.sequence.rawValue == id }.compactMap { $0.token?.tokenID }
    }

    func finishes(of id: UInt64) -> [FinishReason] {
        outputs.filter { $0.sequence.rawValue == id }.compactMap { $0.finish?.reason }
    }

    var loads: [RankLoad] {
        compactMap { if case .load(let load) = $0 { load } else { nil } }
    }

    var rejections: [String] {
        compactMap { event in
            guard case .rejected(let id, let reason, _) = event else { return nil }
            return "\(id.rawValue) \(reason)"
        }
    }

    var wakeRequests: [UInt64] {
        compactMap { if case .requestWake(1, let tick) = $0 { tick } else { nil } }
    }

    var brokenBy: [[UInt32]] {
        compactMap { if case .viewBroken(_, _, let workers, _, _) = $0 { workers } else { nil } }
    }
}
