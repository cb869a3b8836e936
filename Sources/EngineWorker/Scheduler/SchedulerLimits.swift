/// The bounds of one DP rank's scheduler; but for that on waiting sequences they hold for the life
/// of the process.
public struct SchedulerLimits: Hashable, Sendable {
    /// In which order sequences are admitted, and whom a lack of blocks hits first.
    public enum Policy: Hashable, Sendable {
        /// First come, first served; priorities are ignored.
        case firstComeFirstServed
        /// Lower priority value first, then first come.
        case priority
    }

    /// `max-num-seqs`: sequences that may hold KV blocks at once.
    public let maxSequencesRunning: Int
    /// `max-num-batched-tokens`: rows of one step.
    public let maxBatchedTokens: Int
    /// Rows of one step whose logits are wanted, so that their buffer has a size. Only prompts
    /// that are scored (prompt logprobs) want more than one a sequence; they are spread over as
    /// many steps as it takes, even where ``chunkedPrefill`` is off.
    public let maxLogitRows: Int
    /// `max-model-len`: tokens of one sequence, prompt and output.
    public let maxModelLength: Int
    /// Sequences that may wait; the next one is refused.
    public internal(set) var maxSequencesWaiting: Int
    /// Blocks of the KV cache.
    public let blockCount: Int
    /// Positions of one block.
    public let blockSize: Int
    /// Whether a prompt may be spread over several steps.
    public let chunkedPrefill: Bool
    /// Whether a step either computes prompts or decodes, prompts first (vLLM-Ascend's scheduler).
    public let prefillFirst: Bool
    /// Whether full blocks are kept and found again by their content.
    public let prefixCaching: Bool
    public let policy: Policy
    /// Token ids that end a sequence, from the tokenizer and the generation configuration.
    public let eosTokenIDs: [Int32]
    /// Rows of the model's embedding: ids at or above it are refused.
    public let vocabularyCount: Int

    /// ``maxLogitRows`` where none is given, unless more sequences than that may run.
    public static let logitRowsDefault = 256

    /// Blocks that admission leaves free where ``prefillFirst`` admits before it decodes: one of a
    /// hundred, as in vLLM-Ascend, so that those who run are not preempted at once.
    public var reservedBlockCount: Int { prefillFirst ? (blockCount + 99) / 100 : 0 }

    public init(
        maxSequencesRunning: Int,
        maxBatchedTokens: Int,
        maxLogitRows: Int? = nil,
        maxModelLength: Int,
        maxSequencesWaiting: Int,
        blockCount: Int,
        blockSize: Int,
        chunkedPrefill: Bool = true,
        prefillFirst: Bool = false,
        prefixCaching: Bool = false,
        policy: Policy = .firstComeFirstServed,
        eosTokenIDs: [Int32],
        vocabularyCount: Int
    ) throws(SchedulerLimitsError) {
        let logitRows = maxLogitRows ?? max(Self.logitRowsDefault, maxSequencesRunning)
        let positive = [
            ("max-num-seqs", maxSequencesRunning),
            ("max-num-batched-tokens", maxBatchedTokens),
            ("the bound on logits rows", logitRows),
            ("max-model-len", maxModelLength),
            ("the bound on waiting sequences", maxSequencesWaiting),
            ("the number of KV blocks", blockCount),
            ("block-size", blockSize),
            ("the vocabulary", vocabularyCount),
        ]
        for (name, value) in positive where value < 1 || value > Int(Int32.max) {
            throw .outOfRange(name: name, value: value)
        }
        guard blockSize <= Int(Int32.max) / blockCount else {
            throw .outOfRange(name: "KV blocks times block-size", value: blockCount * blockSize)
        }
        // Each running sequence is sure of one row, so that no decode step is ever put off.
        guard maxBatchedTokens >= maxSequencesRunning else {
            throw .batchBelowSequences(batch: maxBatchedTokens, sequences: maxSequencesRunning)
        }
        guard logitRows >= maxSequencesRunning else {
            throw .logitRowsBelowSequences(rows: logitRows, sequences: maxSequencesRunning)
        }
        guard chunkedPrefill || maxBatchedTokens >= maxModelLength else {
            throw .batchBelowModelLength(batch: maxBatchedTokens, modelLength: maxModelLength)
        }
        self.maxSequencesRunning = maxSequencesRunning
        self.maxBatchedTokens = maxBatchedTokens
        self.maxLogitRows = logitRows
        self.maxModelLength = maxModelLength
        self.maxSequencesWaiting = maxSequencesWaiting
        self.blockCount = blockCount
        self.blockSize = blockSize
        self.chunkedPrefill = chunkedPrefill
        self.prefillFirst = prefillFirst
        self.prefixCaching = prefixCaching
        self.policy = policy
        self.eosTokenIDs = eosTokenIDs
        self.vocabularyCount = vocabularyCount
    }

    /// The longest sequence that the KV cache can hold. Below `maxModelLength`, some requests can
    /// never run: a worker should refuse to start and name this length.
    public var longestSequence: Int { min(maxModelLength, blockCount * blockSize) }
}

/// Bounds that contradict each other or make no sense.
public enum SchedulerLimitsError: Error, Hashable, CustomStringConvertible {
    case outOfRange(name: String, value: Int)
    case batchBelowSequences(batch: Int, sequences: Int)
    case logitRowsBelowSequences(rows: Int, sequences: Int)
    case batchBelowModelLength(batch: Int, modelLength: Int)

    public var description: String {
        switch self {
        case .outOfRange(let name, let value):
            "\(name) is \(value); it must be in 1 ... \(Int32.max)"
        case .batchBelowSequences(let batch, let sequences):
            "max-num-batched-tokens (\(batch)) is below max-num-seqs (\(sequences)); "
                + "raise the first or lower the second"
        case .logitRowsBelowSequences(let rows, let sequences):
            "the bound on logits rows (\(rows)) is below max-num-seqs (\(sequences)); "
                + "raise the first or lower the second"
        case .batchBelowModelLength(let batch, let modelLength):
            "max-num-batched-tokens (\(batch)) is below max-model-len (\(modelLength)), and "
                + "chunked prefill is off; raise the first, lower the second or turn it on"
        }
    }
}
