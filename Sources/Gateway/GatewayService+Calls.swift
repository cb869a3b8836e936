internal import DaemonRuntime
internal import Protocol

/// From a generation call to its sequences, and to the ranks that compute them.
extension GatewayService {
    func generate(
        _ endpoint: APIEndpoint, _ request: HTTPRequest, _ exchange: HTTPExchangeID
    ) throws(APIError) {
        let model = try served()
        var headers = GenerationCall.Headers()
        headers.requestID = request.headers["x-request-id"]
        headers.dataParallelRank = request.headers["x-data-parallel-rank"]
        headers.priority = request.headers["priority"]
        let call =
            endpoint == .chatCompletions
            ? try GenerationCall.parseChat(
                body: request.body, headers: headers, defaults: model.defaults)
            : try GenerationCall.parseCompletion(
                body: request.body, headers: headers, defaults: model.defaults)
        let prompts = try prompts(of: call, model)
        let forced = try forcedRank(of: call)
        try admit(sequences: prompts.count * call.count)
        let active = try makeCall(call, prompts, model, exchange)
        active.forcedRank = forced
        calls[exchange] = active
        for choice in active.choices {
            owners[choice.requestID] = (active, choice)
            park(choice)
        }
        placeParked()
    }

    /// As in vLLM, a client counts the ranks that the gateway serves, from 0.
    private func forcedRank(
        of call: GenerationCall
    ) throws(APIError) -> Int? {
        guard let wanted = call.dataParallelRank else { return nil }
        if viewRanks.isEmpty {
            // Without a view it is not known which ranks there are.
            let reason = admission.notReadyReason ?? "no rank is served"
            throw .notReady(reason: reason, retryAfterSeconds: 5)
        }
        guard viewRanks.indices.contains(wanted) else {
            throw .invalidField(
                name: "data_parallel_rank",
                reason: "\(wanted) is out of range [0, \(viewRanks.count))")
        }
        return viewRanks[wanted]
    }

    private func admit(sequences: Int) throws(APIError) {
        let capacity = max(router.capacity, lastCapacity)
        if capacity > 0 && sequences > capacity {
            throw .invalidField(
                name: "n",
                reason: "times the number of prompts is \(sequences), more than the "
                    + "\(capacity) sequences that this deployment takes at once")
        }
        let now = MonotonicClock.now()
        let free =
            admission.isInGap(at: now) ? capacity - router.sequenceCount : router.freeCapacity
        switch admission.decide(
            sequences: sequences, freeCapacity: free - parked.count, at: now)
        {
        case .admit:
            return
        case .refuseOverloaded(let seconds):
            let reason = "\(router.sequenceCount) sequences run or wait"
            throw .overloaded(reason: reason, retryAfterSeconds: seconds)
        case .refuseNotReady(let reason, let seconds):
            throw .notReady(reason: reason, retryAfterSeconds: seconds)
        }
    }

    private func prompts(
        of call: GenerationCall, _ model: ServedModel
    ) throws(APIError) -> [(tokens: [Int32], text: String)] {
        switch call.input {
        case .messages(let messages):
            let text = try model.render(
                messages, addGenerationPrompt: call.addGenerationPrompt,
                continueFinalMessage: call.continueFinalMessage)
            return [(try tokens(of: text, call, model), call.echoedContent ?? "")]
        case .prompts(let inputs):
            var prompts: [(tokens: [Int32], text: String)] = []
            for input in inputs {
                switch input {
                case .text(let text):
                    prompts.append((try tokens(of: text, call, model), text))
                case .tokens(let tokens):
                    let kept = call.truncated(tokens)
                    let text =
                        call.echo ? model.tokenizer.decode(kept, skipSpecialTokens: true) : ""
                    prompts.append((kept, text))
                }
            }
            return prompts
        }
    }

    private func tokens(
        of text: String, _ call: GenerationCall, _ model: ServedModel
    ) throws(APIError) -> [Int32] {
        try call.checkLength(of: text, tokenCharactersMax: model.tokenCharactersMax)
        return call.truncated(try model.encode(text, addSpecialTokens: call.addSpecialTokens))
    }

    private func makeCall(
        _ call: GenerationCall, _ prompts: [(tokens: [Int32], text: String)], _ model: ServedModel,
        _ exchange: HTTPExchangeID
    ) throws(APIError) -> ActiveCall {
        var choices: [Choice] = []
        for (place, prompt) in prompts.enumerated() {
            let seed = drawSeed()
            for number in 0..<call.count {
                let sampling = try call.samplingParameters(
                    promptTokens: prompt.tokens.count, choice: number, drawnSeed: seed)
                choices.append(
                    Choice(
                        index: place * call.count + number,
                        call: call,
                        promptTokens: prompt.tokens,
                        promptText: prompt.text,
                        sampling: sampling,
                        requestID: RequestID(rawValue: nextRequest),
                        tokenizer: model.tokenizer))
                nextRequest += 1
            }
        }
        let random = MonotonicClock.randomUInt64()
        return ActiveCall(
            exchange: exchange,
            call: call,
            identity: ResponseIdentity(
                kind: call.kind,
                requestID: call.requestID ?? Self.hexadecimal(random),
                created: MonotonicClock.wallMicroseconds() / 1_000_000,
                model: model.defaults.servedModelNames[0]),
            choices: choices,
            arrived: MonotonicClock.now(),
            tellsCachedTokens: options.flag("enable-prompt-tokens-details"))
    }

    /// Sixteen digits.
    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// For a request without a seed: random, or from `--seed` and the number of the request.
    private func drawSeed() -> UInt64 {
        guard let seed = options.integer("seed") else { return MonotonicClock.randomUInt64() }
        seedCounter += 1
        return UInt64(truncatingIfNeeded: seed) &+ seedCounter &* 0x9E37_79B9_7F4A_7C15
    }

    // MARK: Ranks

    func park(_ choice: Choice) {
        choice.parkedSince = choice.parkedSince ?? MonotonicClock.now()
        parked.append(choice.requestID)
    }

    /// Hands parked choices to ranks that have room, in order.
    func placeParked() {
        guard !parked.isEmpty, router.hasOpenRank else { return }
        var left: [RequestID] = []
        let waiting = parked
        parked = []
        for id in waiting {
            guard let (call, choice) = owners[id] else { continue }
            // No rank has room for one that may go anywhere: none has for the next.
            let canGo = call.forcedRank.map(router.takesSequences) ?? router.takesSequences
            if !canGo || !place(choice, of: call) { left.append(id) }
        }
        parked = left + parked
    }

    private func place(_ choice: Choice, of call: ActiveCall) -> Bool {
        let candidate = RankRouter.Candidate(
            tokens: choice.promptTokens.count + choice.outputTokens.count,
            outputTokensMax: Int(choice.sampling.maxTokens) - choice.outputTokens.count,
            blocks: blockNames(of: choice, in: call),
            forced: call.forcedRank)
        guard let rank = router.choose(candidate) else { return false }
        let request = GenerationRequest(
            requestID: choice.requestID,
            view: view,
            promptTokenIDs: choice.promptTokens,
            sampling: choice.sampling,
            priority: Int32(clamping: call.call.priority),
            deliveredTokenIDs: choice.outputTokens,
            cacheSalt: call.call.cacheSalt.map { Array($0.utf8) } ?? [])
        guard links?.send(.submit(request), to: rank) == true else { return false }
        choice.machine.onSubmitted(to: rank)
        choice.parkedSince = nil
        choice.submittedAt = MonotonicClock.now()
        choice.ticket = router.onSubmitted(candidate, to: rank)
        tellRouting(of: rank)
        return true
    }

    /// Names of a sequence's full blocks; none where they would change nothing.
    private func blockNames(of choice: Choice, in call: ActiveCall) -> [UInt64] {
        guard let model, let blockSize = model.cachedBlockSize, viewRanks.count > 1 else {
            return []
        }
        // The choices of one prompt begin alike.
        let first = call.choices[choice.index / call.call.count * call.call.count]
        var blocks =
            choice.blocks ?? first.blocks
            ?? PromptBlocks(
                blockSize: blockSize, salt: call.call.cacheSalt.map { Array($0.utf8) } ?? [])
        blocks.extend(to: choice.promptTokens + choice.outputTokens)
        choice.blocks = blocks
        return blocks.names
    }

    func tellRouting(of rank: Int) {
        metrics?.onRouting(
            rank: rank, pendingTokens: router.pendingTokens(of: rank),
            affinityTokens: router.affinityTokens, refusals: router.refusals)
    }

    func failOverdue() {
        guard !parked.isEmpty else { return }
        let now = MonotonicClock.now()
        for id in parked {
            guard let (call, choice) = owners[id], let since = choice.parkedSince,
                now - since > Self.parkedMax
            else { continue }
            let reason = "no rank took the request for \(Int(Self.parkedMax.seconds)) s"
            fail(call, .notReady(reason: reason, retryAfterSeconds: 5))
        }
    }

    /// Without a coordinator an idle group is not woken, and a view that broke is followed by none:
    /// what has waited too long for its next token ends here, since nothing else would end it.
    func failUnwoken() {
        guard control?.coordinatorIsSilent == true else { return }
        let now = MonotonicClock.now()
        for call in calls.values.sorted(by: { $0.arrived < $1.arrived }) {
            let isUnwoken = call.choices.contains { choice in
                waitsSince(choice).map { now - $0 > Self.parkedMax } ?? false
            }
            guard isUnwoken else { continue }
            let state = router.hasOpenRank ? "the workers are idle" : "no view is active"
            let reason = "the coordinator is silent and \(state)"
            fail(call, .notReady(reason: reason, retryAfterSeconds: 5))
        }
    }

    /// Since when a rank that may never compute again owes it a token.
    private func waitsSince(_ choice: Choice) -> Instant? {
        switch choice.machine.state {
        case .submitted: choice.submittedAt
        case .generating(let rank) where !router.isOpen(rank): choice.lastTokenAt
        case .generating, .parked, .ended: nil
        }
    }
}
