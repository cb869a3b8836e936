internal import CProtocol

extension TokenLogprobs {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__TokenLogprobs> {
        arena.make { message in
            phalanx__v1__token_logprobs__init(message)
            message.pointee.token_id = tokenID
            message.pointee.logprob = logprob
            message.pointee.rank = rank
            message.pointee.n_top = top.count
            message.pointee.top = arena.messages(top) { candidate, arena in
                arena.make { entry in
                    phalanx__v1__token_candidate__init(entry)
                    entry.pointee.token_id = candidate.tokenID
                    entry.pointee.logprob = candidate.logprob
                }
            }
        }
    }

    init(_ message: Phalanx__V1__TokenLogprobs) throws(CodecError) {
        let top = try list(message.top, message.n_top) { entry throws(CodecError) in
            Candidate(tokenID: entry.token_id, logprob: entry.logprob)
        }
        self.init(
            tokenID: message.token_id, logprob: message.logprob, rank: message.rank, top: top)
    }
}

extension RequestOutput {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__Output> {
        arena.make { message in
            phalanx__v1__output__init(message)
            message.pointee.request_id = requestID.rawValue
            message.pointee.n_token_ids = tokenIDs.count
            message.pointee.token_ids = arena.array(tokenIDs)
            message.pointee.n_logprobs = logprobs.count
            message.pointee.logprobs = arena.messages(logprobs) { $0.packed($1) }
            message.pointee.n_prompt_logprobs = promptLogprobs.count
            message.pointee.prompt_logprobs = arena.messages(promptLogprobs) { $0.packed($1) }
            message.pointee.finish_reason = UInt32(finishReason?.rawValue ?? 0)
            message.pointee.stop_token_id_plus_one = stopTokenID.map { $0 + 1 } ?? 0
            message.pointee.error = arena.string(error)
            message.pointee.queued_nanoseconds = queued.nanoseconds
            message.pointee.cached_prompt_tokens = cachedPromptTokens
        }
    }

    init(_ message: Phalanx__V1__Output) throws(CodecError) {
        let finish = UInt8(exactly: message.finish_reason).flatMap(FinishReason.init(rawValue:))
        try require(
            finish != nil || message.finish_reason == 0, "Output", "finish_reason",
            "\(message.finish_reason)")
        try require(
            message.stop_token_id_plus_one >= 0, "Output", "stop_token_id",
            "\(message.stop_token_id_plus_one)")
        self.init(
            requestID: RequestID(rawValue: message.request_id),
            tokenIDs: list(message.token_ids, message.n_token_ids),
            logprobs: try list(message.logprobs, message.n_logprobs, TokenLogprobs.init(_:)),
            promptLogprobs: try list(
                message.prompt_logprobs, message.n_prompt_logprobs, TokenLogprobs.init(_:)),
            finishReason: finish,
            stopTokenID: message.stop_token_id_plus_one > 0
                ? message.stop_token_id_plus_one - 1 : nil,
            error: text(message.error),
            queued: Interval(nanoseconds: message.queued_nanoseconds),
            cachedPromptTokens: message.cached_prompt_tokens)
    }
}

extension RankLoad {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__RankLoad> {
        arena.make { message in
            phalanx__v1__rank_load__init(message)
            message.pointee.dp_rank = dpRank
            message.pointee.running = running
            message.pointee.waiting = waiting
            message.pointee.pending_prefill_tokens = pendingPrefillTokens
            message.pointee.kv_cache_usage = kvCacheUsage
            message.pointee.tick = tick
            message.pointee.dummy_ticks = dummyTicks
            message.pointee.preemptions = preemptions
            message.pointee.prompt_tokens = promptTokens
            message.pointee.generation_tokens = generationTokens
            message.pointee.prefix_cache_queries = prefixCacheQueries
            message.pointee.prefix_cache_hits = prefixCacheHits
            let times = stageTimes.list
            message.pointee.n_stage_nanoseconds = times.count
            message.pointee.stage_nanoseconds = arena.array(times)
            message.pointee.padded_tokens = paddedTokens
            message.pointee.exchange_wait_nanoseconds = UInt64(
                clamping: exchangeWait.nanoseconds)
            message.pointee.tick_tokens = tickTokens
            message.pointee.tick_tokens_max = tickTokensMax
            message.pointee.tick_tokens_group = tickTokensGroup
            message.pointee.submissions = submissions
        }
    }

    init(_ message: Phalanx__V1__RankLoad) throws(CodecError) {
        self.init()
        try require(
            0...1 ~= message.kv_cache_usage, "RankLoad", "kv_cache_usage",
            "\(message.kv_cache_usage)")
        let isPlausible =
            max(message.running, message.waiting) <= CodecLimits.loadSequencesMax
            && message.pending_prefill_tokens <= CodecLimits.loadTokensMax
            && max(message.submissions, message.tick_tokens_group) <= CodecLimits.loadCounterMax
        try require(isPlausible, "RankLoad", "numbers", "beyond what a rank can have")
        dpRank = message.dp_rank
        running = message.running
        waiting = message.waiting
        pendingPrefillTokens = message.pending_prefill_tokens
        kvCacheUsage = message.kv_cache_usage
        tick = message.tick
        dummyTicks = message.dummy_ticks
        preemptions = message.preemptions
        promptTokens = message.prompt_tokens
        generationTokens = message.generation_tokens
        prefixCacheQueries = message.prefix_cache_queries
        prefixCacheHits = message.prefix_cache_hits
        let count = message.n_stage_nanoseconds
        try require(
            count <= StageTimes.capacity, "RankLoad", "stage_nanoseconds", "\(count) stages")
        stageTimes = StageTimes(list(message.stage_nanoseconds, count))
        paddedTokens = message.padded_tokens
        exchangeWait = Interval(nanoseconds: Int64(clamping: message.exchange_wait_nanoseconds))
        tickTokens = message.tick_tokens
        tickTokensMax = message.tick_tokens_max
        tickTokensGroup = message.tick_tokens_group
        submissions = message.submissions
    }
}

extension Opened {
    func packed(
        _ arena: CArena, _ version: UInt32
    ) -> UnsafeMutablePointer<Phalanx__V1__Opened> {
        arena.make { message in
            phalanx__v1__opened__init(message)
            message.pointee.worker_incarnation = worker.rawValue
            message.pointee.view = view
            message.pointee.requests_max = requestsMax
            guard version >= ProtocolVersion.negotiated else { return }
            message.pointee.protocol_version = protocolVersion
            message.pointee.refusal = arena.string(refusal)
        }
    }

    init(_ message: Phalanx__V1__Opened) {
        self.init(
            worker: Incarnation(rawValue: message.worker_incarnation), view: message.view,
            requestsMax: message.requests_max)
        protocolVersion = chosenVersion(message.protocol_version)
        refusal = StatusReport.cut(text(message.refusal), toBytes: Self.refusalBytesMax)
    }
}

extension LeaderMessage {
    /// - Parameter version: of the link.
    public func encoded(in version: UInt32) -> [UInt8] {
        let arena = CArena()
        return CArena.pack(
            arena.make { (message: UnsafeMutablePointer<Phalanx__V1__LeaderMessage>) in
                phalanx__v1__leader_message__init(message)
                switch self {
                case .opened(let opened):
                    message.pointee.body_case = PHALANX__V1__LEADER_MESSAGE__BODY_OPENED
                    message.pointee.opened = opened.packed(arena, version)
                case .outputs(let outputs, let load, let knownSubmissions):
                    message.pointee.body_case = PHALANX__V1__LEADER_MESSAGE__BODY_OUTPUTS
                    message.pointee.outputs = arena.make { batch in
                        phalanx__v1__output_batch__init(batch)
                        batch.pointee.n_outputs = outputs.count
                        batch.pointee.outputs = arena.messages(outputs) { $0.packed($1) }
                        batch.pointee.load = load.packed(arena)
                        batch.pointee.known_submissions = knownSubmissions
                    }
                case .rejected(let request, let reason, let text):
                    message.pointee.body_case = PHALANX__V1__LEADER_MESSAGE__BODY_REJECTED
                    message.pointee.rejected = arena.make { rejected in
                        phalanx__v1__rejected__init(rejected)
                        rejected.pointee.request_id = request.rawValue
                        rejected.pointee.reason = reason.rawValue
                        rejected.pointee.text = arena.string(text)
                    }
                }
            })
    }

    public static func decode(_ frame: UnsafeRawBufferPointer) throws(CodecError) -> LeaderMessage {
        let name = "LeaderMessage"
        let limit = CodecLimits.leaderMessageBytesMax
        guard frame.count <= limit else {
            throw .tooLarge(message: name, byteCount: frame.count, limit: limit)
        }
        let start = frame.baseAddress?.assumingMemoryBound(to: UInt8.self)
        guard let unpacked = phalanx__v1__leader_message__unpack(nil, frame.count, start) else {
            throw .malformed(message: name, byteCount: frame.count)
        }
        defer { phalanx__v1__leader_message__free_unpacked(unpacked, nil) }
        switch unpacked.pointee.body_case {
        case PHALANX__V1__LEADER_MESSAGE__BODY_OPENED:
            guard let opened = unpacked.pointee.opened else { throw .missingBody(message: name) }
            return .opened(Opened(opened.pointee))
        case PHALANX__V1__LEADER_MESSAGE__BODY_OUTPUTS:
            guard let batch = unpacked.pointee.outputs, let load = batch.pointee.load else {
                throw .missingBody(message: name)
            }
            return .outputs(
                try list(batch.pointee.outputs, batch.pointee.n_outputs, RequestOutput.init(_:)),
                load: try RankLoad(load.pointee),
                knownSubmissions: batch.pointee.known_submissions)
        case PHALANX__V1__LEADER_MESSAGE__BODY_REJECTED:
            guard let rejected = unpacked.pointee.rejected else {
                throw .missingBody(message: name)
            }
            guard let reason = RejectionReason(rawValue: rejected.pointee.reason) else {
                throw .invalid(
                    message: "Rejected", field: "reason", value: "\(rejected.pointee.reason)")
            }
            return .rejected(
                RequestID(rawValue: rejected.pointee.request_id),
                reason: reason,
                text: text(rejected.pointee.text))
        default:
            throw .missingBody(message: name)
        }
    }
}
