/// A device that computes the stages of a DeepSeek-V3-class model.
///
/// One operation is one fused stage, so that an accelerator may choose its own kernels and layouts
/// inside it; the model above never sees an element type or a weight's layout. All shapes follow
/// from the ``ModelConfig`` and ``BackendLimits`` given to ``prepare(_:limits:)``. A shape that
/// does not fit is the caller's bug and traps.
///
/// Rules for every implementation: the result for one row does not depend on the other rows of the
/// call (batch invariance), and `rows` may be 0. One thread issues all operations, in order; a
/// device that runs them later reports what failed through ``failure``.
public protocol Backend: AnyObject {
    /// The first thing that went wrong on the device; nothing computed since is valid.
    var failure: BackendError? { get }

    // MARK: Loading

    /// Allocates the latent cache and the step's buffers. Called once, before anything else.
    func prepare(_ config: ModelConfig, limits: BackendLimits) throws(BackendError)
    func loadLinear(
        _ source: LinearSource, role: LinearRole
    ) throws(BackendError) -> LinearHandle
    /// Rows of `table` by token id.
    func loadEmbedding(_ table: TensorView) throws(BackendError) -> EmbeddingHandle
    /// `[heads * (nope + value), latent]`, dense: by head its key rows, then its value rows.
    func loadKeyValue(_ source: LinearSource) throws(BackendError) -> KeyValueHandle
    func loadVector(_ values: [Float]) throws(BackendError) -> VectorHandle
    /// The experts of one layer that this worker owns, in order; all have the same shape.
    func loadExperts(_ experts: [MLPWeights]) throws(BackendError) -> ExpertsHandle
    /// A backend that loads experts for this one into memory of its own, and computes nothing. It
    /// may be used on another thread while this one computes.
    ///
    /// - Parameter isUrgent: whether it may take all processors that this one has.
    func makeExpertLoader(isUrgent: Bool) throws(BackendError) -> any Backend
    /// From now on handles of experts are those that `loader` gave, which has loaded all; what was
    /// taken over before is freed.
    func adoptExperts(of loader: any Backend)
    func makeMatrix(rows: Int, columns: Int) throws(BackendError) -> DeviceMatrix
    /// All linears and key-value projections are loaded inside parts, in an order that the model's
    /// configuration alone decides; a backend may share a part with other workers.
    func beginWeights(_ part: WeightPart)
    func endWeights() throws(BackendError)

    // MARK: One step

    /// Takes the step's integers (positions, slots, block tables); they hold until the next call.
    ///
    /// - Parameter rows: of the step: those of the plan, and behind them rows of padding, which
    ///   are computed like others, but have a cache of their own that no sequence reads.
    func beginStep(_ plan: StepPlan, rows: Int)
    /// `output[r] = table[plan.tokenIDs[r]]`; rows of padding are those of token 0.
    func embed(_ table: EmbeddingHandle, into output: DeviceMatrix)
    /// `output = input / rms(input) * weight + bias`, row by row.
    func rmsNorm(_ input: DeviceMatrix, _ norm: NormWeights, rows: Int, into output: DeviceMatrix)
    /// `output = input . weight^T`
    func linear(
        _ input: DeviceMatrix, _ weight: LinearHandle, rows: Int, into output: DeviceMatrix)
    /// `sum += addend`
    func add(_ addend: DeviceMatrix, to sum: DeviceMatrix, rows: Int)
    /// Projects the step's rows to queries (kept inside the backend until ``mlaAttention``) and
    /// writes latents and rotated keys into the layer's cache at the plan's slots.
    func mlaProject(_ input: DeviceMatrix, _ weights: AttentionWeights, layer: Int)
    /// Every row attends to the positions up to its own.
    ///
    /// - Parameter output: `[rows, heads * value]`, what the output projection takes.
    func mlaAttention(_ weights: AttentionWeights, layer: Int, into output: DeviceMatrix)
    /// Chooses experts for every row.
    func route(
        _ input: DeviceMatrix, _ weights: RouterWeights, rows: Int, into choices: RouterChoices)
    /// `output = down(silu(gate(input)) * up(input))`
    func mlp(_ input: DeviceMatrix, _ weights: MLPWeights, rows: Int, into output: DeviceMatrix)
    /// The same for rows in host memory, each through its expert, unweighted.
    func expertMLP(_ experts: ExpertsHandle, _ batch: ExpertBatch)
    /// The two halves of ``expertMLP(_:_:)`` for experts that are cut into slices:
    /// `output = silu(gate(input)) * up(input)`, and `output = down(input)`.
    func expertGate(_ experts: ExpertsHandle, _ batch: ExpertBatch)
    func expertDown(_ experts: ExpertsHandle, _ batch: ExpertBatch)
    /// `output[r] = sum over slots, in rising slot, of weight * part`; parts are in host memory.
    func combine(
        _ parts: UnsafePointer<UnsafePointer<Float>>, _ choices: RouterChoices, rows: Int,
        into output: DeviceMatrix)
    /// The first `rows` rows in host memory; valid until the matrix is written again.
    func hostRows(of matrix: DeviceMatrix, rows: Int) -> UnsafePointer<Float>
    /// The matrix from a row on, with the same memory.
    func matrix(_ matrix: DeviceMatrix, from row: Int) -> DeviceMatrix
    /// Copies a block `[rows, columns]` of host memory into its place in `matrix`.
    func store(
        _ block: UnsafePointer<Float>, rows: Range<Int>, columns: Range<Int>,
        into matrix: DeviceMatrix)
    /// Normalises the named rows and multiplies them by the head.
    ///
    /// - Parameters:
    ///   - rows: rows of `input` whose logits are wanted.
    ///   - logits: `[rows.count, head.outputs]` in host memory.
    func lmHead(
        _ input: DeviceMatrix, rows: [Int32], _ norm: NormWeights, _ head: LinearHandle,
        into logits: UnsafeMutablePointer<Float>)
}

/// A part of a model's weights that several workers hold alike.
public struct WeightPart: Hashable, Sendable {
    /// See ``Checkpoint/fileIdentity``.
    public let checkpoint: String
    /// Usable in a file's name.
    public let name: String

    /// What every worker with this TP rank has.
    static func common(of checkpoint: Checkpoint, _ layout: ParallelLayout) -> WeightPart {
        let (rank, size) = (layout.tpRank, layout.tensorParallelSize)
        return WeightPart(
            checkpoint: checkpoint.fileIdentity,
            name: size == 1 ? "common" : "common-tp-\(rank)-of-\(size)")
    }

    /// All layers' experts of a range.
    static func experts(_ range: Range<Int>, of checkpoint: Checkpoint) -> WeightPart {
        WeightPart(
            checkpoint: checkpoint.fileIdentity,
            name: "experts-\(range.lowerBound)-\(range.upperBound)")
    }

    /// One worker's slice of all experts.
    static func slices(of checkpoint: Checkpoint, _ layout: ParallelLayout) -> WeightPart {
        WeightPart(
            checkpoint: checkpoint.fileIdentity,
            name: "slices-\(layout.worker)-of-\(layout.worldSize)")
    }
}

public struct BackendLimits: Hashable, Sendable {
    /// Rows of one step.
    public let rowsMax: Int
    /// Blocks of the latent cache, and token positions in each.
    public let blockCount: Int
    public let blockSize: Int
    /// Rows of padding in one step.
    public let paddingRowsMax: Int

    public init(rowsMax: Int, blockCount: Int, blockSize: Int, paddingRowsMax: Int = 0) {
        precondition(rowsMax > 0, "\(rowsMax) rows a step")
        precondition((0...rowsMax).contains(paddingRowsMax), "\(paddingRowsMax) rows of padding")
        precondition(blockCount > 0, "\(blockCount) blocks")
        precondition(blockSize > 0, "\(blockSize) positions a block")
        self.rowsMax = rowsMax
        self.blockCount = blockCount
        self.blockSize = blockSize
        self.paddingRowsMax = paddingRowsMax
    }

    /// Blocks behind those of sequences, which hold what rows of padding write: a position for
    /// each, because rows of one step are written side by side.
    var paddingBlockCount: Int { (paddingRowsMax + blockSize - 1) / blockSize }
    /// All blocks of the cache.
    var cacheBlockCount: Int { blockCount + paddingBlockCount }
}

public enum BackendError: Error, Hashable, Sendable, CustomStringConvertible {
    case outOfMemory(bytes: Int, purpose: String)
    case unsupported(String)
    case device(String)

    public var description: String {
        switch self {
        case .outOfMemory(let bytes, let purpose):
            "\(bytes) bytes for \(purpose) cannot be had: lower the number of KV blocks or of "
                + "tokens a step, or use a machine with more memory"
        case .unsupported(let what): what
        case .device(let what): "the device failed: \(what)"
        }
    }
}

/// Where a linear layer's weights `[outputs, inputs]` come from.
public enum LinearSource: Sendable {
    /// F32, BF16 or F16.
    case dense(TensorView)
    /// E4M3 codes with one F32 scale a block of `block` x `block`; the first row is number
    /// `firstOutput` of the first block.
    case fp8Blocks(weight: TensorView, scales: TensorView, block: Int, firstOutput: Int)
    /// `(rint(x / inputScale + inputOffset) . weight + sumBias) * sumScale`
    case staticInt8(
        weight: TensorView, inputScale: Float, inputOffset: Float, sumBias: [Int32],
        sumScale: [Float])
    /// `(rint(x / s) . weight) * scale * s` with `s = max|x| / 127` for each row
    case dynamicInt8(weight: TensorView, scale: [Float])
}

/// What a linear layer is for, which may decide about its element types.
public enum LinearRole: Hashable, Sendable {
    case projection
    /// Small, and its rounding moves tokens to other experts: always at full precision.
    case router
    case head
}

public struct LinearHandle: Hashable, Sendable {
    let index: Int
    public let outputs: Int
    public let inputs: Int
}

public struct EmbeddingHandle: Hashable, Sendable {
    let index: Int
    public let columns: Int
}

public struct KeyValueHandle: Hashable, Sendable {
    let index: Int
}

public struct VectorHandle: Hashable, Sendable {
    let index: Int
    public let count: Int
}

public struct ExpertsHandle: Hashable, Sendable {
    let index: Int
    public let count: Int
}

public struct NormWeights: Hashable, Sendable {
    public let weight: VectorHandle
    public let bias: VectorHandle?
    public let epsilon: Float
}

public struct MLPWeights: Hashable, Sendable {
    public let gate: LinearHandle
    public let up: LinearHandle
    public let down: LinearHandle
}

public struct AttentionWeights: Hashable, Sendable {
    /// nil: `queryUp` takes the layer's input itself.
    public let queryDown: LinearHandle?
    public let queryNorm: NormWeights?
    public let queryUp: LinearHandle
    public let latentDown: LinearHandle
    public let latentNorm: NormWeights
    public let keyValueUp: KeyValueHandle
    /// Of a TP worker: some of its outputs, from all heads.
    public let output: LinearHandle
}

public struct RouterWeights: Hashable, Sendable {
    public let gate: LinearHandle
    public let bias: VectorHandle
}

/// Rows of activations in the device's memory, in the device's element type.
public struct DeviceMatrix {
    let address: UnsafeMutableRawPointer
    public let rowCapacity: Int
    public let columns: Int
}

/// What the router chose, in host memory.
public struct RouterChoices {
    /// `[rows, chosen]`
    public let experts: UnsafeMutablePointer<Int32>
    /// `[rows, chosen]`
    public let weights: UnsafeMutablePointer<Float>
    /// `[rows, experts]` before the sigmoid, for tracing.
    public let logits: UnsafeMutablePointer<Float>
}

/// Assignments of rows to the experts of this worker, sorted by expert.
public struct ExpertBatch {
    /// `[experts + 1]` first assignment of each expert.
    public let starts: UnsafePointer<Int>
    /// `[assignments]` each to `[hidden]`
    public let inputs: UnsafePointer<UnsafePointer<Float>>
    /// `[assignments]` each to `[hidden]`; no overlap with the inputs.
    public let outputs: UnsafePointer<UnsafeMutablePointer<Float>>
}
