internal import DaemonRuntime
internal import Protocol

/// From a request to its endpoint; everything but generation is answered on the spot.
extension GatewayService: HTTPHandler {
    public func onRequest(_ request: HTTPRequest, exchange: HTTPExchangeID) {
        do throws(APIError) {
            let endpoint = try APIRoutes.match(method: request.method, target: request.path)
            try keys.check(
                method: request.method, target: request.path,
                authorization: request.headers["authorization"])
            try answer(endpoint, request, exchange)
        } catch {
            respond(exchange, error)
        }
    }

    public func onHangUp(exchange: HTTPExchangeID) {
        guard let call = calls[exchange] else { return }
        abandon(call)
    }

    public func onDrained(exchange: HTTPExchangeID) {}

    private func answer(
        _ endpoint: APIEndpoint, _ request: HTTPRequest, _ exchange: HTTPExchangeID
    ) throws(APIError) {
        switch endpoint {
        case .health, .ping:
            respond(exchange, status: 200, type: "text/plain", body: [])
        case .ready:
            try ready(exchange)
        case .version:
            json(exchange, ServerResponses.version(DaemonProcess.version))
        case .load:
            json(exchange, ServerResponses.load(router.sequenceCount + parked.count))
        case .metrics:
            tellFailedHandshakes()
            let type = "text/plain; version=0.0.4; charset=utf-8"
            respond(exchange, status: 200, type: type, body: metrics?.page() ?? [])
        case .models:
            json(exchange, ServerResponses.models(cards(of: try served())))
        case .model(let id):
            json(exchange, try ServerResponses.model(id, of: cards(of: try served())))
        case .tokenize:
            try tokenize(request, exchange)
        case .detokenize:
            let model = try served()
            let call = try DetokenizeCall.parse(body: request.body, defaults: model.defaults)
            let text = model.tokenizer.decode(call.tokens, skipSpecialTokens: false)
            json(exchange, DetokenizeCall.response(prompt: text))
        case .completions, .chatCompletions:
            try generate(endpoint, request, exchange)
        }
    }

    private func ready(_ exchange: HTTPExchangeID) throws(APIError) {
        if admission.isDraining {
            throw .notReady(reason: "the gateway is stopping", retryAfterSeconds: 5)
        }
        if let reason = admission.notReadyReason,
            !admission.isBetweenViews(at: MonotonicClock.now())
        {
            throw .notReady(reason: reason, retryAfterSeconds: 5)
        }
        // What runs goes on, but an idle group cannot be woken without it.
        if control?.coordinatorIsSilent == true {
            throw .notReady(reason: "the coordinator is silent", retryAfterSeconds: 5)
        }
        respond(exchange, status: 200, type: "text/plain", body: [])
    }

    func served() throws(APIError) -> ServedModel {
        guard let model else {
            let reason = admission.notReadyReason ?? "the model is not known"
            throw .notReady(reason: reason, retryAfterSeconds: 5)
        }
        return model
    }

    private func cards(of model: ServedModel) -> [ModelCard] {
        model.defaults.servedModelNames.map {
            ModelCard(
                id: $0, root: model.folder, created: model.created,
                contextLength: model.defaults.contextLength)
        }
    }

    private func tokenize(_ request: HTTPRequest, _ exchange: HTTPExchangeID) throws(APIError) {
        let model = try served()
        let call = try TokenizeCall.parse(body: request.body, defaults: model.defaults)
        let tokens: [Int32]
        switch call.input {
        case .prompt(let text):
            tokens = try model.encode(text, addSpecialTokens: call.addSpecialTokens)
        case .messages(let messages):
            let text = try model.render(
                messages, addGenerationPrompt: call.addGenerationPrompt,
                continueFinalMessage: call.continueFinalMessage)
            tokens = try model.encode(text, addSpecialTokens: call.addSpecialTokens)
        }
        let strings = call.returnTokenStrings ? tokens.map(model.tokenizer.tokenText) : nil
        json(
            exchange,
            TokenizeCall.response(
                tokens: tokens, tokenStrings: strings, contextLength: model.defaults.contextLength))
    }

    // MARK: Answers

    func json(_ exchange: HTTPExchangeID, _ body: [UInt8]) {
        respond(exchange, status: 200, type: "application/json", body: body)
    }

    func respond(_ exchange: HTTPExchangeID, _ error: APIError) {
        metrics?.onAnswer(status: error.status)
        var headers: HTTPHeaderFields = ["content-type": "application/json"]
        for (name, value) in error.headers { headers.append(name, value) }
        server?.respond(
            exchange, status: HTTPStatus.of(error.status), headers: headers, body: error.body)
    }

    private func respond(
        _ exchange: HTTPExchangeID, status: Int, type: String, body: [UInt8]
    ) {
        metrics?.onAnswer(status: status)
        server?.respond(
            exchange, status: HTTPStatus.of(status), headers: ["content-type": type], body: body)
    }
}
