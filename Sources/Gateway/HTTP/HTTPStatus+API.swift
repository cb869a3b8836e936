extension HTTPStatus {
    /// The statuses that the API answers with.
    private static let ofAPI: [HTTPStatus] = [
        .ok, .badRequest, .unauthorized, .notFound, .methodNotAllowed, .contentTooLarge,
        .tooManyRequests, .internalServerError, .serviceUnavailable,
    ]

    /// - Parameter code: one that ``APIError`` names, or 200.
    static func of(_ code: Int) -> HTTPStatus {
        guard let status = ofAPI.first(where: { $0.code == code }) else {
            preconditionFailure("\(code) is no status of the API")
        }
        return status
    }
}
