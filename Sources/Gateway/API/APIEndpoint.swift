/// What a method and a path ask for.
public enum APIEndpoint: Hashable, Sendable {
    case completions
    case chatCompletions
    case models
    case model(id: String)
    /// The engine lives.
    case health
    /// Requests are taken; not in vLLM.
    case ready
    /// Amazon SageMaker's name of `health`.
    case ping
    case load
    case version
    case metrics
    case tokenize
    case detokenize
}
