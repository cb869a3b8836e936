import DaemonRuntime
import Foundation
import Glibc
import Protocol
import TestSupport
import Testing

@testable import EngineWorker

@Suite struct PackedWeightsCacheTests {
    private static let prompt: [Int32] = [1, 5, 9, 13, 200, 7, 31, 64]

    private final class Log {
        var reports: [PackedWeightsCache.Report] = []

        var mapped: Int { reports.count { if case .mapped = $0.event { true } else { false } } }
        var written: Int { reports.count { if case .written = $0.event { true } else { false } } }
        var refusals: [String] {
            reports.compactMap { if case .refused(let reason) = $0.event { reason } else { nil } }
        }
        var unusable: [String] {
            reports.compactMap { if case .unusable(let reason) = $0.event { reason } else { nil } }
        }
    }

    /// Logits of one prompt by a model that was loaded with `folder` as its cache.
    private func logits(
        _ model: String, cache folder: String?, _ log: Log = Log(),
        patience: Interval = .seconds(60), quantizesWeights: Bool = false,
        elementType: CPUBackend.ElementType = .bfloat16
    ) throws -> [[UInt32]] {
        let cache = folder.map {
            PackedWeightsCache(folder: $0, patience: patience) { log.reports.append($0) }
        }
        return bits(
            try Driver(
                model, elementType: elementType, quantizesWeights: quantizesWeights,
                weightsCache: cache
            ).logits(of: Self.prompt))
    }

    private func packedFiles(_ folder: TemporaryFolder) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path)
            .filter { $0.hasSuffix(".packed") }.sorted()
    }

    @Test(arguments: ["tiny-random", "tiny-w8a8", "tiny-fp8"])
    func theLogitsHaveTheSameBitsWithAndWithoutTheCache(model: String) throws {
        let folder = try TemporaryFolder()
        let (first, second) = (Log(), Log())
        let expected = try logits(model, cache: nil)
        #expect(try logits(model, cache: folder.path, first) == expected)
        #expect(try logits(model, cache: folder.path, second) == expected)
        #expect((first.written, first.mapped, first.reports.count) == (2, 0, 2))
        #expect((second.written, second.mapped, second.reports.count) == (0, 2, 2))
    }

    @Test func whatDecidesAboutTheBytesDecidesAboutTheFile() throws {
        let folder = try TemporaryFolder()
        for (type, quantizes) in [
            (CPUBackend.ElementType.bfloat16, false), (.float32, false), (.bfloat16, true),
        ] {
            let expected = try logits(
                "tiny-random", cache: nil, quantizesWeights: quantizes, elementType: type)
            for pass in 0..<2 {
                let log = Log()
                let found = try logits(
                    "tiny-random", cache: folder.path, log, quantizesWeights: quantizes,
                    elementType: type)
                #expect(found == expected, "\(type) \(quantizes)")
                #expect(log.written == (pass == 0 ? 2 : 0), "\(type) \(quantizes)")
            }
        }
        #expect(try packedFiles(folder).count == 6)
    }

    @Test func ranksShareTheCommonPartAndHaveTheirOwnExperts() throws {
        let folder = try TemporaryFolder()
        let model = "tiny-random"
        var logs: [Log] = []
        for rank in 0..<2 {
            let log = Log()
            logs.append(log)
            let backend = try CPUBackend(
                kernels: .best, threads: 1,
                weightsCache: PackedWeightsCache(folder: folder.path) { log.reports.append($0) })
            _ = try DeepSeekModel(
                folder: Fixtures.model(model),
                layout: ParallelLayout(dataParallelSize: 2, worker: rank),
                backend: backend,
                collectives: UnconnectedCollectives(rank: rank, worldSize: 2),
                limits: BackendLimits(rowsMax: 8, blockCount: 4, blockSize: 16))
        }
        #expect((logs[0].written, logs[0].mapped) == (2, 0))
        #expect((logs[1].written, logs[1].mapped) == (1, 1))
        #expect(try packedFiles(folder).count == 3)
    }

    /// Two threads stand for two processes: a lock belongs to an open file, not to a process.
    @Test func backendsThatStartAtOncePackEachPartOnce() throws {
        let folder = try TemporaryFolder()
        let expected = try logits("tiny-w8a8", cache: nil)
        let (path, count) = (folder.path, 4)
        let outcomes = Lock<[Result<Outcome, any Error>]>([])
        DispatchQueue.concurrentPerform(iterations: count) { _ in
            let outcome = Result {
                let log = Log()
                let found = try logits("tiny-w8a8", cache: path, log)
                return Outcome(logits: found, reports: log.reports)
            }
            outcomes.withLock { $0.append(outcome) }
        }
        let all = Log()
        for outcome in outcomes.withLock({ $0 }) {
            let outcome = try outcome.get()
            #expect(outcome.logits == expected)
            all.reports += outcome.reports
        }
        #expect((all.written, all.mapped) == (2, 2 * count - 2))
        #expect(all.unusable.isEmpty && all.refusals.isEmpty)
    }

    private struct Outcome: Sendable {
        let logits: [[UInt32]]
        let reports: [PackedWeightsCache.Report]
    }

    @Test func aDamagedFileIsRefusedAndWrittenAgain() throws {
        let folder = try TemporaryFolder()
        let expected = try logits("tiny-random", cache: folder.path)
        let name = try #require(try packedFiles(folder).first)
        let whole = try folder.read(name)
        var damaged: [(String, [UInt8])] = [
            ("empty", []), ("a word", Array(whole.prefix(8))),
            ("one header", Array(whole.prefix(2 << 20))),
            ("a byte short", Array(whole.dropLast())), ("a byte long", whole + [0]),
            ("noise", (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 37) }),
        ]
        // Magic, lengths, key, checksum and sizes of pieces: any bit.
        for offset in [0, 7, 8, 15, 16, 20, 24, 31, 32, 39, 40, 47, 48, 100, 240, 300] {
            var bytes = whole
            bytes[offset] ^= 1 << UInt8(offset % 8)
            damaged.append(("bit of byte \(offset)", bytes))
        }
        for (what, bytes) in damaged {
            try folder.write(name, bytes)
            let log = Log()
            #expect(try logits("tiny-random", cache: folder.path, log) == expected, "\(what)")
            #expect(log.refusals.count == 1 && log.written == 1 && log.mapped == 1, "\(what)")
            #expect(try folder.read(name) == whole, "\(what)")
        }
    }

    @Test func aFileOfAnotherKeyUnderTheSameNameIsRefused() throws {
        let folder = try TemporaryFolder()
        let expected = try logits("tiny-random", cache: folder.path)
        let names = try packedFiles(folder)
        try folder.write(names[0], try folder.read(names[1]))
        let log = Log()
        #expect(try logits("tiny-random", cache: folder.path, log) == expected)
        #expect(log.refusals.count == 1 && log.refusals[0].contains("it holds checkpoint="))
    }

    @Test func aChangedCheckpointHasAnotherKey() throws {
        let (folder, model) = (
            try TemporaryFolder(), try TemporaryFolder(copyOf: "tiny-random")
        )
        let before = try Checkpoint(folder: model.path)
        let old = try logits(model.path, cache: folder.path)
        let shard = try #require(
            try FileManager.default.contentsOfDirectory(atPath: model.path)
                .filter { $0.hasSuffix(".safetensors") }.sorted().last)
        // The last bytes belong to a weight that the digest does not read.
        var bytes = try model.read(shard)
        for index in bytes.indices.suffix(4096) where index % 2 == 1 { bytes[index] ^= 0x80 }
        try model.write(shard, bytes)
        let after = try Checkpoint(folder: model.path)
        #expect(after.fileIdentity != before.fileIdentity)
        let log = Log()
        let new = try logits(model.path, cache: folder.path, log)
        #expect(log.written == 2 && log.mapped == 0)
        #expect(new == (try logits(model.path, cache: nil)))
        #expect(new != old)
        #expect(try packedFiles(folder).count == 4)
    }

    @Test func aFolderThatCannotBeUsedCostsNothingButMemory() throws {
        let folder = try TemporaryFolder()
        try folder.write("file", [1])
        for path in [folder.path + "/missing", folder.path + "/file", "/proc"] {
            let log = Log()
            #expect(
                try logits("tiny-random", cache: path, log)
                    == (try logits("tiny-random", cache: nil)))
            #expect(log.unusable.count == 2 && log.reports.allSatisfy(\.isWarning), "\(path)")
        }
    }

    /// As root, permissions stop nobody, so this is about what is there and what is not written.
    @Test func aFolderThatCanOnlyBeReadServesWhatItHas() throws {
        let folder = try TemporaryFolder()
        let expected = try logits("tiny-random", cache: folder.path)
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path)
        where name.hasSuffix(".lock") {
            try folder.remove(name)
            // Where a lock file cannot be opened for writing, for root neither.
            mkdir(folder.path + "/" + name, 0o700)
        }
        chmod(folder.path, 0o500)
        defer { chmod(folder.path, 0o700) }
        let log = Log()
        #expect(try logits("tiny-random", cache: folder.path, log) == expected)
        #expect(log.mapped == 2 && log.reports.count == 2)
        let other = Log()
        _ = try logits("tiny-random", cache: folder.path, other, elementType: .float32)
        #expect(other.mapped == 0)
    }

    @Test func aLockThatIsNotGivenBackIsWaitedForUntilTheDeadline() throws {
        let folder = try TemporaryFolder()
        let expected = try logits("tiny-random", cache: folder.path)
        var held: [Int32] = []
        for name in try packedFiles(folder) {
            try folder.remove(name)
            let lock = open(folder.path + "/" + name + ".lock", O_RDWR)
            #expect(lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
            held.append(lock)
        }
        defer { for lock in held { close(lock) } }
        let log = Log()
        let found = try logits(
            "tiny-random", cache: folder.path, log, patience: .milliseconds(50))
        #expect(found == expected)
        #expect(log.unusable.count == 2 && log.written == 0)
        #expect(log.reports.contains { $0.event == .waiting })
    }

    @Test func aFullDiskLeavesTheWeightsInPrivateMemory() throws {
        let folder = try TemporaryFolder()
        let expected = try logits("tiny-random", cache: folder.path)
        for name in try packedFiles(folder) {
            try folder.remove(name)
            // A device that refuses every byte stands for the disk.
            #expect(symlink("/dev/full", folder.path + "/" + name + ".tmp") == 0)
        }
        let log = Log()
        #expect(try logits("tiny-random", cache: folder.path, log) == expected)
        #expect(log.unusable.count == 2 && log.written == 0)
        let left = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        #expect(left.count == 2 && left.allSatisfy { $0.hasSuffix(".lock") })
    }

    @Test func aLayoutPutsNoPieceAcrossTheEndOfAChunk() {
        var layout = PackedLayout()
        var random = SeededGenerator.printingSeed(of: "PackedLayout")
        var end = 0
        for _ in 0..<2000 {
            let largest = Int.random(in: 0..<97, using: &random) == 0 ? 200 << 20 : 3 << 20
            let wanted = Int.random(in: 1...largest, using: &random)
            let start = layout.place(byteCount: wanted)
            let chunk = layout.chunks[layout.chunks.count - 1]
            #expect(start >= end && start % PackedLayout.alignment == 0)
            #expect(
                start >= chunk.start && start + wanted <= chunk.start + chunk.byteCount)
            #expect(chunk.start % HostBuffer.hugePageBytes == 0)
            end = start + wanted
        }
        #expect(layout.byteCount >= end && layout.byteCount - end < PackedLayout.alignment)
    }
}
