internal import DaemonRuntime
internal import Protocol

/// From what leaders say to what clients get, and every way in which a call ends.
extension GatewayService {
    func onLeader(_ event: LeaderLinks.Event) {
        switch event {
        case .opened(let rank, let capacity, let cacheCapacity):
            router.onRankOpened(rank, capacity: capacity, cacheCapacity: cacheCapacity)
            onServing()
            placeParked()
        case .closed(let rank):
            router.onRankClosed(rank)
            if !router.hasOpenRank {
                admission.onNotServing("no worker takes requests", at: MonotonicClock.now())
            }
        case .lost(let rank):
            router.onRankLost(rank)
            parkAll(of: rank)
        case .outputs(let outputs, let rank, let load, let known):
            router.onReport(load, known: known)
            metrics?.onLoad(load, at: MonotonicClock.now())
            for output in outputs { onOutput(output, from: rank) }
            // It may have been full, or have refused what waits here.
            if router.takesSequences(rank) { placeParked() }
            tellRouting(of: rank)
        case .rejected(let id, let rank, let reason, let text):
            onRejected(id, by: rank, reason, text)
        }
    }

    private func onOutput(_ output: RequestOutput, from rank: Int) {
        guard let (call, choice) = owners[output.requestID] else { return }
        let action = choice.machine.onOutput(
            from: rank, tokenCount: output.tokenIDs.count, isLast: output.finishReason != nil)
        guard case .deliver(let isFirst, let isLast) = action else { return }
        note(output, of: choice, in: call, rank: rank)
        if output.finishReason == .error {
            release(choice)
            return fail(call, .engineError(reason: output.error))
        }
        let delta = choice.receive(output)
        if isLast {
            release(choice)
        } else if delta.finishReason != nil {
            end(choice)
        }
        if delta.finishReason != nil { observe(choice, in: call, rank: rank, delta.finishReason) }
        if call.call.stream { stream(delta, of: choice, in: call, isFirst: isFirst) }
        finishIfComplete(call)
    }

    private func stream(
        _ delta: ChoiceText, of choice: Choice, in call: ActiveCall, isFirst: Bool
    ) {
        var bytes: [UInt8] = []
        if !call.streamBegan { beginStream(call) }
        call.chunk(delta, of: choice, isFirst: isFirst, into: &bytes)
        server?.write(call.exchange, bytes)
    }

    private func beginStream(_ call: ActiveCall) {
        call.streamBegan = true
        metrics?.onAnswer(status: 200)
        server?.beginStream(
            call.exchange, status: .ok,
            headers: [
                "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache",
            ])
    }

    private func finishIfComplete(_ call: ActiveCall) {
        guard !call.isEnded, call.choices.allSatisfy({ $0.machine.isEnded }) else { return }
        call.end()
        if call.call.stream {
            if !call.streamBegan { beginStream(call) }
            var bytes: [UInt8] = []
            call.closing(into: &bytes)
            server?.write(call.exchange, bytes)
            server?.finishStream(call.exchange)
        } else {
            json(call.exchange, call.answer())
        }
        forget(call)
    }

    private func onRejected(
        _ id: RequestID, by rank: Int, _ reason: RejectionReason, _ text: String
    ) {
        guard let (call, choice) = owners[id] else { return }
        let action = choice.machine.onRejected(by: rank, reason: reason)
        if action == .ignore { return }
        if let ticket = choice.ticket {
            router.onRefused(ticket, isFull: reason == .overloaded)
            choice.ticket = nil
        }
        tellRouting(of: rank)
        switch action {
        case .ignore:
            break
        case .resubmit:
            park(choice)
        case .fail:
            switch reason {
            case .overloaded:
                fail(call, .overloaded(reason: text, retryAfterSeconds: 1))
            case .tooLong, .invalid:
                fail(call, .invalidField(name: "prompt", reason: "was refused: \(text)"))
            case .otherView, .draining:
                fail(call, .notReady(reason: text, retryAfterSeconds: 1))
            }
        }
    }

    private func parkAll(of rank: Int) {
        for call in calls.values.sorted(by: { $0.arrived < $1.arrived }) {
            for choice in call.choices where choice.machine.onRankLost(rank) {
                choice.ticket = nil
                park(choice)
            }
        }
    }

    // MARK: Ends

    /// The leader has nothing of it any more.
    private func release(_ choice: Choice) {
        owners[choice.requestID] = nil
        if let ticket = choice.ticket { router.onEnded(ticket, blocks: finalBlocks(of: choice)) }
        choice.ticket = nil
        admission.onSequenceEnded(at: MonotonicClock.now())
    }

    /// An answer is cached too, but for its last token: what follows it may begin with it.
    private func finalBlocks(of choice: Choice) -> [UInt64] {
        guard var blocks = choice.blocks else { return [] }
        blocks.extend(to: choice.promptTokens + choice.outputTokens.dropLast())
        return blocks.names
    }

    /// The gateway ends it, and the leader frees its blocks.
    private func end(_ choice: Choice) {
        owners[choice.requestID] = nil
        parked.removeAll { $0 == choice.requestID }
        guard case .cancel(let rank) = choice.machine.end() else { return }
        links?.cancel([choice.requestID], of: rank)
        if let ticket = choice.ticket { router.onCancelled(ticket) }
        choice.ticket = nil
        admission.onSequenceEnded(at: MonotonicClock.now())
    }

    /// The whole call ends with an error, as an answer or as the last event of its stream.
    func fail(_ call: ActiveCall, _ error: APIError) {
        guard !call.isEnded else { return }
        call.end()
        for choice in call.choices where !choice.machine.isEnded { end(choice) }
        if call.streamBegan {
            var bytes: [UInt8] = []
            ChunkTemplate.appendError(error, to: &bytes)
            ChunkTemplate.appendDone(to: &bytes)
            server?.write(call.exchange, bytes)
            server?.finishStream(call.exchange)
        } else {
            respond(call.exchange, error)
        }
        forget(call)
    }

    /// The client has left: nobody is to be told but the leaders.
    func abandon(_ call: ActiveCall) {
        guard !call.isEnded else { return }
        call.end()
        for choice in call.choices where !choice.machine.isEnded { end(choice) }
        forget(call)
    }

    private func forget(_ call: ActiveCall) {
        for choice in call.choices { owners[choice.requestID] = nil }
        calls[call.exchange] = nil
        placeParked()
        checkDrained()
    }

    // MARK: Metrics

    private func note(
        _ output: RequestOutput, of choice: Choice, in call: ActiveCall, rank: Int
    ) {
        guard !output.tokenIDs.isEmpty else { return }
        let now = MonotonicClock.now()
        if var ticket = choice.ticket, !ticket.isPrefilled {
            router.onPrefilled(&ticket)
            choice.ticket = ticket
        }
        if let last = choice.lastTokenAt {
            metrics?.onToken(rank: rank, sincePrevious: now - last)
        } else {
            choice.firstTokenAt = now
            choice.queued = output.queued
            metrics?.onFirstToken(
                rank: rank, timeToFirstToken: now - call.arrived, queued: output.queued)
        }
        choice.lastTokenAt = now
    }

    private func observe(
        _ choice: Choice, in call: ActiveCall, rank: Int, _ reason: FinishReason?
    ) {
        guard let reason else { return }
        let now = MonotonicClock.now()
        metrics?.onFinished(
            rank: rank,
            reason: reason,
            latency: now - call.arrived,
            queued: choice.queued,
            decode: now - (choice.firstTokenAt ?? now),
            promptTokens: choice.promptTokens.count,
            outputTokens: choice.outputTokens.count,
            choices: call.call.count,
            tokensMax: Int(choice.sampling.maxTokens))
    }
}
