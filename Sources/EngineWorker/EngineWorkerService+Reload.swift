internal import DaemonRuntime
internal import Protocol

/// What a worker takes over while it runs.
extension EngineWorkerService {
    static let links = LinkOptions(
        role: .worker, peers: [.coordinator, .gateway],
        addresses: ["worker-address", "data-parallel-address"], listens: true)

    /// Of gateways here, and of this worker at the coordinator.
    var failedHandshakes: UInt64 {
        requests.failedHandshakes + (control?.failedHandshakes ?? 0)
    }

    func logFailedHandshakes() {
        requests.onHandshakeFailure = { [logger] failure in
            logger.throttledWarning("a handshake failed: \(failure.text)")
        }
    }

    func reload() {
        let reload = Reload.run(
            options, security, links: Self.links, logger: logger, notifier: notifier)
        guard let reload else { return }
        (options, security) = (reload.options, reload.security)
        authenticator?.adopt(security)
        requests.adopt(security.server(domain: Self.securityDomain))
        control?.adopt(security)
    }
}
