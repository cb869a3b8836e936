internal import DaemonRuntime
internal import Protocol

/// The sampling fields that both kinds of call share, checked as vLLM's `SamplingParams` checks
/// them: a value is in range or refused with its field's name, never bent (but for the two that
/// vLLM bends: temperatures below 0.01 and logit biases beyond 100).
enum SamplingFields {
    static let sequencesMax = 16_384
    static let stopStringsMax = 4
    static let temperatureRange: ClosedRange<Double> = 0...2
    static let penaltyRange: ClosedRange<Double> = -2...2
    static let biasRange: ClosedRange<Double> = -100...100
    /// Smaller ones, but for 0, would overflow the logits.
    static let temperatureFloor = 0.01

    /// All but `maxTokens`, `seed` and the logprobs, which depend on the kind of call.
    static func parse(
        _ fields: RequestFields, count: Int, defaults: ModelDefaults
    ) throws(APIError) -> SamplingParameters {
        var sampling = SamplingParameters()
        let model = defaults.sampling
        sampling.temperature = try temperature(fields) ?? model.temperature ?? 1
        sampling.topP = try topP(fields) ?? model.topP ?? 1
        sampling.topK = try topK(fields) ?? model.topK ?? 0
        sampling.minP = try minP(fields) ?? model.minP ?? 0
        sampling.repetitionPenalty =
            try repetitionPenalty(fields) ?? model.repetitionPenalty ?? 1
        sampling.presencePenalty = try penalty(fields, "presence_penalty") ?? 0
        sampling.frequencyPenalty = try penalty(fields, "frequency_penalty") ?? 0
        sampling.minTokens = try minTokens(fields)
        sampling.ignoreEOS = try fields.bool("ignore_eos", default: false)
        sampling.stopTokenIDs = unique(
            try tokenIDs(fields, "stop_token_ids", vocabularySize: defaults.vocabularySize) ?? [])
        sampling.logitBias = try logitBias(fields, vocabularySize: defaults.vocabularySize)
        sampling.allowedTokenIDs = try allowedTokenIDs(
            fields, vocabularySize: defaults.vocabularySize)
        if sampling.temperature == 0 {
            if count > 1 {
                throw .invalidField(
                    name: "n",
                    reason: "must be 1 when temperature is 0 (greedy sampling), got \(count)")
            }
            sampling.topP = 1
            sampling.topK = 0
            sampling.minP = 0
        }
        return sampling
    }

    static func temperature(_ fields: RequestFields) throws(APIError) -> Float? {
        guard let value = try fields.number("temperature") else { return nil }
        guard temperatureRange.contains(value) else {
            throw .invalidField(
                name: fields.name("temperature"), reason: "must be in [0, 2], got \(value)")
        }
        return value == 0 ? 0 : Float(max(value, temperatureFloor))
    }

    static func topP(_ fields: RequestFields) throws(APIError) -> Float? {
        guard let value = try fields.number("top_p") else { return nil }
        // Checked as the Float that the sampler sees: 1e-60 is 0 there.
        guard Float(value) > 0, value <= 1 else {
            throw .invalidField(
                name: fields.name("top_p"), reason: "must be in (0, 1], got \(value)")
        }
        return Float(value)
    }

    static func topK(_ fields: RequestFields) throws(APIError) -> Int32? {
        guard let value = try fields.integer("top_k") else { return nil }
        guard value >= -1 else {
            throw .invalidField(
                name: fields.name("top_k"),
                reason: "must be 0 (disable), or at least 1, got \(value)")
        }
        // More than there are tokens is all of them.
        return value == -1 ? 0 : Int32(clamping: value)
    }

    static func minP(_ fields: RequestFields) throws(APIError) -> Float? {
        guard let value = try fields.number("min_p") else { return nil }
        guard (0...1).contains(value) else {
            throw .invalidField(
                name: fields.name("min_p"), reason: "must be in [0, 1], got \(value)")
        }
        return Float(value)
    }

    static func repetitionPenalty(_ fields: RequestFields) throws(APIError) -> Float? {
        guard let value = try fields.number("repetition_penalty") else { return nil }
        guard Float(value) > 0, Float(value).isFinite else {
            throw .invalidField(
                name: fields.name("repetition_penalty"),
                reason: "must be a finite number greater than zero, got \(value)")
        }
        return Float(value)
    }

    private static func penalty(
        _ fields: RequestFields, _ name: String
    ) throws(APIError) -> Float? {
        guard let value = try fields.number(name) else { return nil }
        guard penaltyRange.contains(value) else {
            throw .invalidField(
                name: fields.name(name), reason: "must be in [-2, 2], got \(value)")
        }
        return Float(value)
    }

    private static func minTokens(_ fields: RequestFields) throws(APIError) -> Int32 {
        let value = try fields.integer("min_tokens", default: 0)
        guard value >= 0 else {
            throw .invalidField(
                name: "min_tokens", reason: "must be greater than or equal to 0, got \(value)")
        }
        guard let count = Int32(exactly: value) else {
            throw .invalidField(
                name: "min_tokens", reason: "must be less than or equal to max_tokens, got \(value)"
            )
        }
        return count
    }

    /// How many sequences a prompt gets.
    static func count(_ value: Int) throws(APIError) -> Int {
        guard value >= 1 else {
            throw .invalidField(name: "n", reason: "must be at least 1, got \(value)")
        }
        guard value <= sequencesMax else {
            throw .invalidField(name: "n", reason: "must be at most \(sequencesMax), got \(value)")
        }
        return value
    }

    /// nil without a seed, or with vLLM's -1 for none.
    static func seed(_ fields: RequestFields) throws(APIError) -> Int64? {
        guard let value = try fields.integer("seed"), value != -1 else { return nil }
        return Int64(value)
    }

    static func stopStrings(_ fields: RequestFields) throws(APIError) -> [String] {
        guard let value = fields.value("stop") else { return [] }
        let strings: [String]
        if let text = value.string {
            strings = [text]
        } else if value.kind == .array {
            strings = try fields.strings("stop") ?? []
        } else {
            throw .invalidType(name: "stop", expected: "a string or an array of strings")
        }
        guard strings.count <= stopStringsMax else {
            throw .invalidField(
                name: "stop",
                reason: "must have at most \(stopStringsMax) strings, got \(strings.count)")
        }
        if strings.contains(where: \.isEmpty) {
            throw .invalidField(name: "stop", reason: "cannot contain an empty string")
        }
        return strings
    }

    /// A count of alternatives: nil is off, -1 is the vocabulary.
    static func logprobs(
        _ value: Int?, name: String, defaults: ModelDefaults
    ) throws(APIError) -> Int32? {
        guard let value else { return nil }
        guard value >= -1 else {
            throw .invalidField(name: name, reason: "must be a positive value or -1, got \(value)")
        }
        let count = value == -1 ? defaults.vocabularySize : value
        guard count <= defaults.logprobsLimit else {
            throw .invalidField(
                name: name,
                reason: "asks for \(count) logprobs, which is greater than max allowed: "
                    + "\(defaults.logprobsLimit)")
        }
        return Int32(clamping: count)
    }

    /// Token ids of the vocabulary, in the client's order; nil for missing and null.
    static func tokenIDs(
        _ fields: RequestFields, _ name: String, vocabularySize: Int
    ) throws(APIError) -> [Int32]? {
        guard let entries = try fields.array(name) else { return nil }
        var result: [Int32] = []
        result.reserveCapacity(entries.count)
        for entry in entries {
            let value = try RequestFields.integer(entry, name: fields.name(name))
            result.append(
                try tokenID(value, name: fields.name(name), vocabularySize: vocabularySize))
        }
        return result
    }

    static func tokenID(
        _ value: Int, name: String, vocabularySize: Int
    ) throws(APIError) -> Int32 {
        guard value >= 0, value < vocabularySize, let id = Int32(exactly: value) else {
            throw .invalidField(
                name: name,
                reason: "contains the token id \(value), which is out of vocabulary; "
                    + "the vocabulary has \(vocabularySize) tokens")
        }
        return id
    }

    private static func allowedTokenIDs(
        _ fields: RequestFields, vocabularySize: Int
    ) throws(APIError) -> [Int32] {
        let ids = try tokenIDs(fields, "allowed_token_ids", vocabularySize: vocabularySize)
        guard let ids else { return [] }
        if ids.isEmpty {
            throw .invalidField(name: "allowed_token_ids", reason: "must not be empty")
        }
        return unique(ids)
    }

    /// Sorted by token id.
    private static func logitBias(
        _ fields: RequestFields, vocabularySize: Int
    ) throws(APIError) -> [SamplingParameters.LogitBias] {
        guard let value = fields.value("logit_bias") else { return [] }
        guard let members = value.members else {
            throw .invalidType(name: "logit_bias", expected: "an object of token id to number")
        }
        var biases: [SamplingParameters.LogitBias] = []
        var positions: [Int32: Int] = [:]
        biases.reserveCapacity(members.count)
        for (key, value) in members {
            guard let id = Int(key) else {
                throw .invalidField(
                    name: "logit_bias",
                    reason: "has a key that is no integer token id: \"\(key)\"")
            }
            let token = try tokenID(id, name: "logit_bias", vocabularySize: vocabularySize)
            let number = try RequestFields.number(value, name: "logit_bias.\(key)")
            let clamped = min(max(number, biasRange.lowerBound), biasRange.upperBound)
            let bias = SamplingParameters.LogitBias(tokenID: token, bias: Float(clamped))
            // Of equal ids ("7" and "07", or "7" twice) the last one counts.
            if let position = positions[token] {
                biases[position] = bias
            } else {
                positions[token] = biases.count
                biases.append(bias)
            }
        }
        return biases.sorted { $0.tokenID < $1.tokenID }
    }

    /// The first of equal ids stays.
    private static func unique(_ ids: [Int32]) -> [Int32] {
        var seen: Set<Int32> = []
        return ids.filter { seen.insert($0).inserted }
    }
}
