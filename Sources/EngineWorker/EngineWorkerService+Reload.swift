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
        control?.patience = .seconds(options.requiredInteger("ready-timeout"))
    }

    /// Those that the coordinator may change while this worker runs.
    func onLimits(_ entries: [ConfigurationEntry]) {
        guard stage != .joining else { return }
        do throws(OptionError) {
            let options = try options.adopting(entries)
            let most = EngineConfiguration.maxSequencesWaiting(options)
            guard UInt32(most) != requestsMax else { return }
            logger.notice(
                "the coordinator has another --max-num-queued-reqs",
                ["value": options.requiredInteger("max-num-queued-reqs")])
            requestsMax = UInt32(most)
            command(.limitWaiting(most))
            tellGateways()
        } catch {
            logger.error("the coordinator's limits are not taken over: \(error)")
        }
    }
}
