internal import CProtocol

extension SamplingParameters {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__SamplingParameters> {
        arena.make { message in
            phalanx__v1__sampling_parameters__init(message)
            message.pointee.temperature = temperature
            message.pointee.top_k = topK
            message.pointee.top_p = topP
            message.pointee.min_p = minP
            message.pointee.presence_penalty = presencePenalty
            message.pointee.frequency_penalty = frequencyPenalty
            message.pointee.repetition_penalty = repetitionPenalty
            message.pointee.seed = seed
            message.pointee.max_tokens = maxTokens
            message.pointee.min_tokens = minTokens
            message.pointee.ignore_eos = ignoreEOS ? 1 : 0
            message.pointee.n_stop_token_ids = stopTokenIDs.count
            message.pointee.stop_token_ids = arena.array(stopTokenIDs)
            message.pointee.logprobs_plus_one = logprobs.map { $0 + 1 } ?? 0
            message.pointee.prompt_logprobs_plus_one = promptLogprobs.map { $0 + 1 } ?? 0
            message.pointee.n_logit_bias = logitBias.count
            message.pointee.logit_bias = arena.messages(logitBias) { bias, arena in
                arena.make { entry in
                    phalanx__v1__logit_bias__init(entry)
                    entry.pointee.token_id = bias.tokenID
                    entry.pointee.bias = bias.bias
                }
            }
            message.pointee.n_allowed_token_ids = allowedTokenIDs.count
            message.pointee.allowed_token_ids = arena.array(allowedTokenIDs)
        }
    }

    /// - Throws: ``CodecError/invalid(message:field:value:)`` naming the field that is out of the
    ///   range that its doc comment states.
    init(_ message: Phalanx__V1__SamplingParameters) throws(CodecError) {
        self.init()
        let name = "SamplingParameters"
        func check(_ field: String, _ value: Float, _ range: ClosedRange<Float>) throws(CodecError)
        {
            try require(range.contains(value), name, field, "\(value)")
        }
        try check("temperature", message.temperature, 0...2)
        try check("top_p", message.top_p, Float.leastNonzeroMagnitude...1)
        try check("min_p", message.min_p, 0...1)
        try check("presence_penalty", message.presence_penalty, -2...2)
        try check("frequency_penalty", message.frequency_penalty, -2...2)
        try check(
            "repetition_penalty", message.repetition_penalty,
            Float.leastNonzeroMagnitude...Float.greatestFiniteMagnitude)
        try require(message.top_k >= 0, name, "top_k", "\(message.top_k)")
        try require(message.max_tokens >= 0, name, "max_tokens", "\(message.max_tokens)")
        try require(
            0...max(message.max_tokens, 0) ~= message.min_tokens, name, "min_tokens",
            "\(message.min_tokens)")
        try require(
            message.logprobs_plus_one >= 0, name, "logprobs", "\(message.logprobs_plus_one)")
        try require(
            message.prompt_logprobs_plus_one >= 0, name, "prompt_logprobs",
            "\(message.prompt_logprobs_plus_one)")
        for (field, count) in [
            ("stop_token_ids", message.n_stop_token_ids), ("logit_bias", message.n_logit_bias),
            ("allowed_token_ids", message.n_allowed_token_ids),
        ] {
            try require(count <= CodecLimits.listEntriesMax, name, field, "\(count) entries")
        }
        temperature = message.temperature
        topK = message.top_k
        topP = message.top_p
        minP = message.min_p
        presencePenalty = message.presence_penalty
        frequencyPenalty = message.frequency_penalty
        repetitionPenalty = message.repetition_penalty
        seed = message.seed
        maxTokens = message.max_tokens
        minTokens = message.min_tokens
        ignoreEOS = message.ignore_eos != 0
        stopTokenIDs = list(message.stop_token_ids, message.n_stop_token_ids)
        logprobs = message.logprobs_plus_one > 0 ? message.logprobs_plus_one - 1 : nil
        promptLogprobs =
            message.prompt_logprobs_plus_one > 0 ? message.prompt_logprobs_plus_one - 1 : nil
        logitBias = try list(message.logit_bias, message.n_logit_bias) { entry throws(CodecError) in
            try require(-100...100 ~= entry.bias, name, "logit_bias", "\(entry.bias)")
            return LogitBias(tokenID: entry.token_id, bias: entry.bias)
        }
        allowedTokenIDs = list(message.allowed_token_ids, message.n_allowed_token_ids)
        try require(
            maxTokens > 0 || promptLogprobs != nil, name, "max_tokens", "0 without prompt_logprobs")
    }
}

extension GatewayMessage {
    /// The same bytes in every version; an OPEN says itself which are spoken.
    public func encoded() -> [UInt8] {
        let arena = CArena()
        return CArena.pack(
            arena.make { (message: UnsafeMutablePointer<Phalanx__V1__GatewayMessage>) in
                phalanx__v1__gateway_message__init(message)
                switch self {
                case .open(let protocols, let gateway, let view):
                    message.pointee.body_case = PHALANX__V1__GATEWAY_MESSAGE__BODY_OPEN
                    message.pointee.open = arena.make { open in
                        phalanx__v1__open__init(open)
                        open.pointee.protocol_version = protocols?.oldest ?? 0
                        let newest = protocols?.newest ?? 0
                        open.pointee.protocol_max = newest == protocols?.oldest ? 0 : newest
                        open.pointee.gateway_incarnation = gateway.rawValue
                        open.pointee.view = view
                    }
                case .submit(let request):
                    message.pointee.body_case = PHALANX__V1__GATEWAY_MESSAGE__BODY_SUBMIT
                    message.pointee.submit = arena.make { submit in
                        phalanx__v1__submit__init(submit)
                        submit.pointee.request_id = request.requestID.rawValue
                        submit.pointee.view = request.view
                        submit.pointee.n_prompt_token_ids = request.promptTokenIDs.count
                        submit.pointee.prompt_token_ids = arena.array(request.promptTokenIDs)
                        submit.pointee.sampling = request.sampling.packed(arena)
                        submit.pointee.priority = request.priority
                        submit.pointee.n_delivered_token_ids = request.deliveredTokenIDs.count
                        submit.pointee.delivered_token_ids = arena.array(request.deliveredTokenIDs)
                        submit.pointee.cache_salt = arena.bytes(request.cacheSalt)
                    }
                case .cancel(let requests):
                    message.pointee.body_case = PHALANX__V1__GATEWAY_MESSAGE__BODY_CANCEL
                    message.pointee.cancel = arena.make { cancel in
                        phalanx__v1__cancel__init(cancel)
                        cancel.pointee.n_request_ids = requests.count
                        cancel.pointee.request_ids = arena.array(requests.map(\.rawValue))
                    }
                }
            })
    }

    public static func decode(
        _ frame: UnsafeRawBufferPointer
    ) throws(CodecError) -> GatewayMessage {
        let name = "GatewayMessage"
        let limit = CodecLimits.gatewayMessageBytesMax
        guard frame.count <= limit else {
            throw .tooLarge(message: name, byteCount: frame.count, limit: limit)
        }
        let start = frame.baseAddress?.assumingMemoryBound(to: UInt8.self)
        guard let unpacked = phalanx__v1__gateway_message__unpack(nil, frame.count, start) else {
            throw .malformed(message: name, byteCount: frame.count)
        }
        defer { phalanx__v1__gateway_message__free_unpacked(unpacked, nil) }
        switch unpacked.pointee.body_case {
        case PHALANX__V1__GATEWAY_MESSAGE__BODY_OPEN:
            guard let open = unpacked.pointee.open else { throw .missingBody(message: name) }
            let oldest = open.pointee.protocol_version
            let newest = open.pointee.protocol_max == 0 ? oldest : open.pointee.protocol_max
            return .open(
                protocols: ProtocolRange(oldest: oldest, newest: newest),
                gateway: Incarnation(rawValue: open.pointee.gateway_incarnation),
                view: open.pointee.view)
        case PHALANX__V1__GATEWAY_MESSAGE__BODY_SUBMIT:
            guard let submit = unpacked.pointee.submit else { throw .missingBody(message: name) }
            return .submit(try GenerationRequest(submit.pointee))
        case PHALANX__V1__GATEWAY_MESSAGE__BODY_CANCEL:
            guard let cancel = unpacked.pointee.cancel else { throw .missingBody(message: name) }
            let ids = list(cancel.pointee.request_ids, cancel.pointee.n_request_ids)
            return .cancel(ids.map { RequestID(rawValue: $0) })
        default:
            throw .missingBody(message: name)
        }
    }
}

extension GatewayMessage {
    /// The request of a `Submit` whose values ``decode(_:)`` refuses, so that it can be answered:
    /// a request that is dropped without a word never ends for its client.
    public static func requestID(ofRefusedSubmit frame: UnsafeRawBufferPointer) -> RequestID? {
        guard frame.count <= CodecLimits.gatewayMessageBytesMax else { return nil }
        let start = frame.baseAddress?.assumingMemoryBound(to: UInt8.self)
        guard let unpacked = phalanx__v1__gateway_message__unpack(nil, frame.count, start) else {
            return nil
        }
        defer { phalanx__v1__gateway_message__free_unpacked(unpacked, nil) }
        guard unpacked.pointee.body_case == PHALANX__V1__GATEWAY_MESSAGE__BODY_SUBMIT,
            let submit = unpacked.pointee.submit
        else { return nil }
        return RequestID(rawValue: submit.pointee.request_id)
    }
}

extension GenerationRequest {
    init(_ submit: Phalanx__V1__Submit) throws(CodecError) {
        guard let sampling = submit.sampling else { throw .missingBody(message: "Submit.sampling") }
        let count = submit.n_prompt_token_ids
        try require(
            1...CodecLimits.promptTokensMax ~= count, "Submit", "prompt_token_ids",
            "\(count) tokens")
        try require(
            submit.n_delivered_token_ids <= CodecLimits.promptTokensMax, "Submit",
            "delivered_token_ids", "\(submit.n_delivered_token_ids) tokens")
        try require(
            submit.cache_salt.len <= CodecLimits.cacheSaltBytesMax, "Submit", "cache_salt",
            "\(submit.cache_salt.len) bytes")
        let tokens = list(submit.prompt_token_ids, count)
        let delivered = list(submit.delivered_token_ids, submit.n_delivered_token_ids)
        if let bad = (tokens + delivered).first(where: { $0 < 0 }) {
            throw .invalid(message: "Submit", field: "prompt_token_ids", value: "\(bad)")
        }
        self.init(
            requestID: RequestID(rawValue: submit.request_id),
            view: submit.view,
            promptTokenIDs: tokens,
            sampling: try SamplingParameters(sampling.pointee),
            priority: submit.priority,
            deliveredTokenIDs: delivered,
            cacheSalt: bytes(submit.cache_salt))
    }
}
