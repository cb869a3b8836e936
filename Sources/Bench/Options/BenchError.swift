/// Why a benchmark cannot begin, or its result not be kept; the text says what to do.
public enum BenchError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The command line cannot be read.
    case commandLine(String)
    /// A value that does not fit.
    case option(name: String, reason: String)
    case emptyVocabulary
    case promptTooShort(inputLength: Int, specialTokens: Int, range: Double)
    case tokenizer(String)
    case noTokenizer(model: String, root: String?)
    case unknownHost(name: String, reason: String)
    case models(url: String, reason: String)
    case notReady(seconds: Int, reason: String)
    case unwritable(path: String, reason: String)
    case interrupted

    public var description: String {
        switch self {
        case .commandLine(let reason): reason
        case .option(let name, let reason): "--\(name): \(reason)"
        case .emptyVocabulary: "the tokenizer has no token but special ones"
        case .promptTooShort(let inputLength, let specialTokens, let range):
            "--random-input-len \(inputLength): with \(specialTokens) special tokens and a range "
                + "ratio of \(range) a prompt could be empty; make it longer or the range smaller"
        case .tokenizer(let reason): "tokenizer: \(reason)"
        case .noTokenizer(let model, let root):
            "no tokenizer: neither \"\(model)\" nor \"\(root ?? "(no root)")\" of /v1/models is a "
                + "local folder with tokenizer.json; give --tokenizer DIR or --skip-tokenizer-init"
        case .unknownHost(let name, let reason): "host \"\(name)\": \(reason)"
        case .models(let url, let reason):
            "\(url): \(reason); is the server running there? --model names the model without asking"
        case .notReady(let seconds, let reason):
            "no answer to a test request within \(seconds) s; the last one failed: \(reason)"
        case .unwritable(let path, let reason): "\(path): cannot be written: \(reason)"
        case .interrupted: "interrupted before the measured run began"
        }
    }
}
