public import EngineWorker

/// What cannot be understood or done, in words for the terminal.
public struct EngineBenchmarkError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    /// 64 (EX_USAGE of sysexits.h) for a command line that is refused, else 1.
    public let exitCode: Int32

    init(_ description: String) { (self.description, exitCode) = (description, 1) }

    /// - Parameter refusal: what is wrong with the command line.
    init(refusal: String) { (description, exitCode) = (refusal, 64) }
}

/// The command line of `phalanx-bench engine`.
public struct EngineBenchmarkOptions: Sendable {
    static let threadCountMax = CPUBackend.threadCountMax
    static let batchMax = 4096
    static let contextMax = 1 << 20
    static let stepsMax = 1_000_000
    static let ranksMax = 64

    public static let help = """
        usage: phalanx-bench engine --model DIR [--option value ...]

        Times decode and prefill steps of one engine in this process: no scheduler, no sampling,
        no links. Prints the median of the steps, and the fastest and slowest.

          --model DIR           checkpoint folder
          --threads N           threads of the kernels (default 1)
          --batch N,N,...       sequences of decode steps; 0: none (default 1,8,32)
          --context N           positions before a decode step's token (default 128)
          --prefill N,N,...     prompt lengths; 0: none (default 512)
          --steps N             steps that count, of each kind (default 12)
          --dtype TYPE          bfloat16 or float32 (default bfloat16)
          --kv-cache-dtype TYPE bfloat16, float32 or int8 (default: as --dtype)
          --quantization w8a8   int8 at load
          --packed-weights-cache DIR  as the worker's option
          --json                one JSON object a line
          --profile             where a step's time goes, after each figure
          --ranks N,N,...       whole ticks of groups of so many engines instead, each engine on a
                                thread with --threads of its own, joined by shared memory, the
                                experts split; each decodes the first of --batch sequences
          --idle-ranks N        of those, the last have no sequences (default 0)
          --spin N              microseconds that a rank's wait spins before it sleeps (default: as
                                the engine worker)
          --turns N             how often the groups take turns (default 3)

        """

    public var model = ""
    public var threads = 1
    public var batches = [1, 8, 32]
    public var prefills = [512]
    public var context = 128
    public var steps = 12
    public var elementType = CPUBackend.ElementType.bfloat16
    /// nil: that of ``elementType``.
    public var cacheType: CPUBackend.CacheType?
    public var quantizesWeights = false
    public var weightsCacheFolder: String?
    public var printsJSON = false
    public var printsProfile = false
    public var ranks: [Int] = []
    public var idleRanks = 0
    public var turns = 3
    public var spinMicroseconds: Int?

    /// - Parameter arguments: without the program's name and the word `engine`.
    public init(arguments: [String]) throws(EngineBenchmarkError) {
        var rest = arguments[...]
        while let name = rest.popFirst() {
            if name == "--json" {
                printsJSON = true
                continue
            }
            if name == "--profile" {
                printsProfile = true
                continue
            }
            guard let value = rest.popFirst() else {
                throw EngineBenchmarkError(refusal: "\(name) needs a value")
            }
            try take(name, value)
        }
        guard ranks.isEmpty || !batches.isEmpty else {
            throw EngineBenchmarkError(refusal: "--ranks needs a --batch of at least 1")
        }
        guard !model.isEmpty else { throw EngineBenchmarkError(refusal: "--model DIR is missing") }
    }

    private mutating func take(_ name: String, _ value: String) throws(EngineBenchmarkError) {
        switch name {
        case "--model": model = value
        case "--packed-weights-cache": weightsCacheFolder = value
        case "--threads": threads = try Self.number(name, value, 1...Self.threadCountMax)
        case "--batch": batches = try Self.numbers(name, value, 0...Self.batchMax)
        case "--context": context = try Self.number(name, value, 0...Self.contextMax)
        case "--prefill": prefills = try Self.numbers(name, value, 0...Self.contextMax)
        case "--steps": steps = try Self.number(name, value, 1...Self.stepsMax)
        case "--ranks": ranks = try Self.numbers(name, value, 1...Self.ranksMax)
        case "--idle-ranks": idleRanks = try Self.number(name, value, 0...Self.ranksMax)
        case "--spin": spinMicroseconds = try Self.number(name, value, 0...Self.stepsMax)
        case "--turns": turns = try Self.number(name, value, 1...Self.stepsMax)
        case "--dtype":
            switch value {
            case "bfloat16": elementType = .bfloat16
            case "float32": elementType = .float32
            default: throw EngineBenchmarkError(refusal: "--dtype \(value): bfloat16 or float32")
            }
        case "--kv-cache-dtype":
            guard let type = CPUBackend.CacheType(rawValue: value) else {
                let types = CPUBackend.CacheType.allCases.map(\.rawValue).joined(separator: ", ")
                throw EngineBenchmarkError(refusal: "--kv-cache-dtype \(value): one of \(types)")
            }
            cacheType = type
        case "--quantization":
            guard value == "w8a8" else {
                throw EngineBenchmarkError(
                    refusal: "--quantization \(value): only w8a8, made at load")
            }
            quantizesWeights = true
        default: throw EngineBenchmarkError(refusal: "unknown option \(name)")
        }
    }

    static func number(
        _ name: String, _ text: String, _ range: ClosedRange<Int>
    ) throws(EngineBenchmarkError) -> Int {
        guard let number = Int(text), range.contains(number) else {
            throw EngineBenchmarkError(
                refusal: "\(name) \(text): a number from \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return number
    }

    /// Zeros are left out, so that `0` alone means none.
    private static func numbers(
        _ name: String, _ text: String, _ range: ClosedRange<Int>
    ) throws(EngineBenchmarkError) -> [Int] {
        var numbers: [Int] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            numbers.append(try number(name, String(part), range))
        }
        return numbers.filter { $0 > 0 }
    }
}
