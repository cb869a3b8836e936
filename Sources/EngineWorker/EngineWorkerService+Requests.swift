internal import DaemonRuntime
internal import Protocol

/// The request plane: what gateways say, and what goes back to them.
extension EngineWorkerService {
    func receive(_ frame: UnsafeRawBufferPointer, from identity: [UInt8]) {
        do throws(CodecError) {
            switch try GatewayMessage.decode(frame) {
            case .open(let protocols, let gateway, _):
                onOpen(identity, protocols, gateway)
            case .submit(let request):
                onSubmit(identity, request)
            case .cancel(let ids):
                onCancel(identity, ids)
            }
        } catch {
            logger.throttledWarning("dropped a message of a gateway", ["reason": error])
            guard let id = GatewayMessage.requestID(ofRefusedSubmit: frame) else { return }
            sessions.onRefused(identity)
            sendToGateway(.rejected(id, reason: .invalid, text: "\(error)"), identity)
        }
    }

    private func onOpen(
        _ identity: [UInt8], _ spoken: ProtocolRange?, _ gateway: Incarnation
    ) {
        guard let version = spoken.flatMap({ protocols.newestInCommon(with: $0) }) else {
            return refuseProtocols(identity, spoken)
        }
        switch sessions.onOpen(
            identity, incarnation: gateway, protocolVersion: version, at: MonotonicClock.now())
        {
        case .answer(let orphans):
            for orphan in orphans { command(.cancel(orphan)) }
        case .ignore:
            return
        case .full:
            logger.throttledWarning("too many gateways", ["max": GatewaySessions.gatewaysMax])
            return
        }
        tellOpened(identity)
        tellLoad(identity, outputs: [], at: MonotonicClock.now())
        checkDrained()
    }

    /// Which view's sequences are taken; 0 is no view: the gateway asks again.
    private func tellOpened(_ identity: [UInt8]) {
        let takes = view?.state == .active && rank != nil && !isDraining && brokenView == nil
        let number = takes ? view?.number ?? 0 : 0
        var opened = Opened(worker: incarnation, view: number, requestsMax: requestsMax)
        opened.protocolVersion = sessions.protocolVersion(of: identity)
        sendToGateway(.opened(opened), identity)
    }

    /// Gateways that are here already need not ask.
    func tellGateways() {
        for identity in sessions.identities { tellOpened(identity) }
    }

    /// A gateway that knows this field says why it is never served; an older one sees a leader that
    /// takes nothing.
    private func refuseProtocols(_ identity: [UInt8], _ spoken: ProtocolRange?) {
        var opened = Opened(worker: incarnation, view: 0, requestsMax: 0)
        opened.protocolVersion = protocols.newest
        opened.refusal =
            protocols.refusal(
                of: spoken, peer: "the gateway",
                this: "the worker on \(DaemonProcess.nodeName(options)) (version "
                    + "\(DaemonProcess.version))") ?? ""
        logger.throttledWarning("refused a gateway", ["reason": opened.refusal])
        _ = requests.send(
            LeaderMessage.opened(opened).encoded(in: protocols.newest), to: identity)
    }

    private func onSubmit(_ identity: [UInt8], _ request: GenerationRequest) {
        func refuse(_ reason: RejectionReason, _ text: String) {
            sessions.onRefused(identity)
            sendToGateway(.rejected(request.requestID, reason: reason, text: text), identity)
        }
        if isDraining { return refuse(.draining, "the worker is stopping") }
        guard let view, view.state == .active, view.number == request.view, rank != nil else {
            return refuse(.otherView, "the worker is in view \(view?.number ?? 0)")
        }
        guard sessions.sequenceCount < requestsMax else {
            return refuse(.overloaded, "\(sessions.sequenceCount) sequences are here")
        }
        switch sessions.onSubmit(identity, request: request.requestID, at: MonotonicClock.now()) {
        case .take(let sequence): command(.submit(sequence, request))
        case .notOpen: refuse(.otherView, "the session is over")
        case .duplicate: refuse(.invalid, "the request id \(request.requestID) is in use")
        }
    }

    private func onCancel(_ identity: [UInt8], _ ids: [RequestID]) {
        for id in ids {
            guard let sequence = sessions.onCancel(identity, request: id) else { continue }
            command(.cancel(sequence))
        }
        checkDrained()
    }

    func reject(_ sequence: SequenceID, _ reason: RejectionReason, _ text: String) {
        guard let owner = sessions.owner(of: sequence) else { return }
        sessions.remove(sequence)
        sendToGateway(.rejected(owner.request, reason: reason, text: text), owner.identity)
        checkDrained()
    }

    /// One message a gateway for everything that a step brought.
    func deliver(_ outputs: [SequenceOutput]) {
        var batches: [(identity: [UInt8], outputs: [RequestOutput])] = []
        let now = MonotonicClock.now()
        for output in outputs {
            guard let owner = sessions.owner(of: output.sequence) else { continue }
            let isFirst = sessions.markDelivered(output.sequence)
            let answer = RequestOutput(
                requestID: owner.request,
                tokenIDs: output.token.map { [$0.tokenID] } ?? [],
                logprobs: output.token?.logprobs.map { [$0] } ?? [],
                promptLogprobs: output.promptLogprobs,
                finishReason: output.finish?.reason,
                stopTokenID: output.finish?.stopTokenID,
                error: output.finish?.error.map { "\($0)" } ?? "",
                queued: isFirst ? (output.scheduled ?? now) - owner.arrived : .zero,
                cachedPromptTokens: isFirst ? UInt32(output.cachedPromptTokens) : 0)
            if output.finish != nil { sessions.remove(output.sequence) }
            if let index = batches.firstIndex(where: { $0.identity == owner.identity }) {
                batches[index].outputs.append(answer)
            } else {
                batches.append((owner.identity, [answer]))
            }
        }
        for batch in batches { tellLoad(batch.identity, outputs: batch.outputs, at: now) }
        checkDrained()
    }

    /// Tells those whom no output has told for a while how busy the rank is, with others' work.
    func tellLoads() {
        guard toldLoad != load else { return }
        let now = MonotonicClock.now()
        let untold = sessions.untold(for: Self.loadEvery, at: now)
        if untold.isEmpty { return }
        toldLoad = load
        for identity in untold { tellLoad(identity, outputs: [], at: now) }
    }

    private func tellLoad(_ identity: [UInt8], outputs: [RequestOutput], at now: Instant) {
        let known = sessions.knownSubmissions(
            of: identity, counting: load.submissions, at: now)
        sendToGateway(.outputs(outputs, load: load, knownSubmissions: known), identity)
    }
}
