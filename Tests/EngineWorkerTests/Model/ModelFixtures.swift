import DaemonRuntime
import Foundation
import Glibc
import Protocol
import Testing

@testable import EngineWorker

/// Checkpoints and golden outputs of the repository, found from this file.
enum Fixtures {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// A model by name, or a folder as it is.
    static func model(_ name: String) -> String {
        guard !name.hasPrefix("/") else { return name }
        return name.hasPrefix("demo-")
            ? repository + "/models/demo/" + name.dropFirst(5)
            : repository + "/Tests/Fixtures/models/" + name
    }

    static func golden(_ model: String, _ file: String) throws -> GoldenTensors {
        try GoldenTensors(path: repository + "/Tests/Fixtures/goldens/\(model)/\(file).safetensors")
    }

    struct Prompt: Decodable {
        let n: Int
        let ids: [Int32]
    }
    struct Greedy: Decodable {
        let n: Int
        let tokens: [Int32]
        let margin: [Float]
    }

    static func prompts(_ model: String) throws -> [[Int32]] {
        let file = model.hasPrefix("demo-") ? "prompts-demo.json" : "prompts-tiny.json"
        let path = repository + "/Tests/Fixtures/goldens/" + file
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        return try JSONDecoder().decode([Prompt].self, from: data).map(\.ids)
    }

    static func greedy(_ model: String) throws -> [Greedy] {
        let path = repository + "/Tests/Fixtures/goldens/\(model)/greedy.json"
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        return try JSONDecoder().decode([Greedy].self, from: data)
    }
}

/// The arrays of a golden file.
struct GoldenTensors {
    let tensors: [String: TensorView]

    init(path: String) throws {
        var tensors: [String: TensorView] = [:]
        for tensor in try SafetensorsFile(path: path).tensors { tensors[tensor.name] = tensor }
        self.tensors = tensors
    }

    func floats(_ name: String) throws -> [Float] {
        try #require(tensors[name], "\(name)").elements(as: Float.self)
    }
    func integers(_ name: String) throws -> [Int32] {
        try #require(tensors[name], "\(name)").elements(as: Int32.self)
    }
}

/// A model with block tables, driven as a scheduler would: each sequence has a table of blocks that
/// are not in order, so that a mistake in paging shows.
final class Driver {
    static let blockCount = 96

    let model: DeepSeekModel
    var deadline = Instant(nanoseconds: .max)
    /// Rows of padding in each step.
    var padding = 0
    static let paddingMax = 24
    private var tick: UInt64 = 0
    private var freeBlocks: [Int32]
    private var tables: [UInt64: [Int32]] = [:]
    private let blockSize: Int

    init(
        _ name: String, kernels: CPUBackend.KernelLevel = .best, threads: Int = 2,
        blockSize: Int = 16, rank: Int = 0,
        tensorParallelSize: Int = 1, division: ExpertDivision = .byExpert,
        collectives: any Collectives = SingleRankCollectives(),
        elementType: CPUBackend.ElementType = .float32,
        cacheType: CPUBackend.CacheType? = nil, quantizesWeights: Bool = false,
        weightsCache: PackedWeightsCache? = nil
    ) throws {
        let layout = ParallelLayout(
            dataParallelSize: collectives.worldSize / tensorParallelSize,
            tensorParallelSize: tensorParallelSize, worker: rank)
        self.blockSize = blockSize
        let blocks = Self.blockCount * 16 / blockSize
        model = try DeepSeekModel(
            folder: Fixtures.model(name), layout: layout, division: division,
            backend: CPUBackend(
                kernels: kernels, threads: threads, elementType: elementType,
                cacheType: cacheType, quantizesWeights: quantizesWeights,
                weightsCache: weightsCache),
            collectives: collectives,
            limits: BackendLimits(
                rowsMax: 512, blockCount: blocks, blockSize: blockSize,
                paddingRowsMax: Self.paddingMax))
        freeBlocks = (0..<Int32(blocks)).map { $0 * 37 % Int32(blocks) }
        if Set(freeBlocks).count < blocks { freeBlocks = Array(0..<Int32(blocks)).reversed() }
    }

    struct Part {
        var sequence: UInt64 = 0
        var tokens: [Int32]
        var firstPosition = 0
        var allLogits = false
    }

    /// - Parameter gathering: rows of each DP rank, when the step gathers them everywhere.
    func run(_ parts: [Part], gathering: [Int]? = nil) throws -> [[Float]] {
        var plan = StepPlan()
        for part in parts {
            let end = part.firstPosition + part.tokens.count
            var table = tables[part.sequence] ?? []
            while table.count * blockSize < end { table.append(freeBlocks.removeLast()) }
            tables[part.sequence] = table
            plan.append(
                sequence: SequenceID(rawValue: part.sequence), tokens: part.tokens[...],
                firstPosition: part.firstPosition, blocks: table, blockSize: blockSize,
                samples: true, isDecode: part.tokens.count == 1 && part.firstPosition > 0,
                allLogits: part.allLogits)
        }
        tick += 1
        if let gathering { model.gatherRows { gathering[$0] } }
        let logits = try model.forward(
            plan, paddedTo: padding > 0 ? plan.rowCount + padding : nil, view: 1, tick: tick,
            deadline: deadline)
        return (0..<logits.rowCount).map { Array(logits[$0]) }
    }

    func release(_ sequence: UInt64) {
        freeBlocks.append(contentsOf: tables.removeValue(forKey: sequence) ?? [])
    }

    /// Logits at every position of a prompt, fed in chunks.
    func logits(of prompt: [Int32], chunk: Int = .max, sequence: UInt64 = 0) throws -> [[Float]] {
        defer { release(sequence) }
        var rows: [[Float]] = []
        while rows.count < prompt.count {
            let end = rows.count + min(chunk, prompt.count - rows.count)
            let tokens = Array(prompt[rows.count..<end])
            rows += try run([
                Part(
                    sequence: sequence, tokens: tokens, firstPosition: rows.count, allLogits: true)
            ])
        }
        return rows
    }

    /// Greedy continuations of several prompts, decoded together.
    func greedy(_ prompts: [[Int32]], count: Int) throws -> [[Int32]] {
        defer { for index in prompts.indices { release(UInt64(index)) } }
        var outputs = prompts.map { _ in [Int32]() }
        for (index, prompt) in prompts.enumerated() {
            let rows = try run([Part(sequence: UInt64(index), tokens: prompt)])
            outputs[index].append(argmax(rows[0]))
        }
        for step in 1..<count {
            let rows = try run(
                prompts.indices.map {
                    Part(
                        sequence: UInt64($0), tokens: [outputs[$0][step - 1]],
                        firstPosition: prompts[$0].count + step - 1)
                })
            for index in prompts.indices { outputs[index].append(argmax(rows[index])) }
        }
        return outputs
    }
}

func argmax(_ values: [Float]) -> Int32 {
    var best = 0
    for index in values.indices where values[index] > values[best] { best = index }
    return Int32(best)
}

func largestDifference(_ left: some Sequence<Float>, _ right: some Sequence<Float>) -> Float {
    zip(left, right).reduce(0) { max($0, abs($1.0 - $1.1)) }
}

func bits(_ rows: [[Float]]) -> [[UInt32]] { rows.map { $0.map(\.bitPattern) } }
