internal import DaemonRuntime
internal import Protocol

/// What a gateway takes over while it runs.
extension GatewayService {
    static let linkOptions = LinkOptions(
        role: .gateway, peers: [.coordinator, .worker], addresses: ["data-parallel-address"],
        listens: false)

    /// To its metrics, and to who asks.
    @discardableResult
    func tellFailedHandshakes() -> UInt64 {
        let (coordinator, leaders) = (
            control?.failedHandshakes ?? 0, links?.failedHandshakes ?? 0
        )
        metrics?.onFailedHandshakes(coordinator: coordinator, leaders: leaders)
        return coordinator + leaders
    }

    /// Those that the coordinator may change while this gateway runs.
    func onLimits(_ entries: [ConfigurationEntry]) {
        do throws(OptionError) {
            let most = try options.adopting(entries).requiredInteger("max-logprobs")
            guard let model, model.defaults.maxLogprobs != most else { return }
            logger.notice("the coordinator has another --max-logprobs", ["value": most])
            self.model?.defaults.maxLogprobs = most
        } catch {
            logger.error("the coordinator's limits are not taken over: \(error)")
        }
    }

    func reload() {
        let reload = Reload.run(
            options, security, links: Self.linkOptions, logger: logger, notifier: notifier
        ) { options, _ in
            // Also with the same names: a certificate is renewed in its place.
            let tls = try Self.tls(options)
            guard (tls == nil) == (server?.tls == nil) else {
                throw OptionError(
                    description: "--ssl-certfile turns HTTPS on or off: that needs a restart")
            }
            let keys = APIKeys(options.list("api-key"))
            return { [self] in
                server?.adopt(tls)
                self.keys = keys
            }
        }
        guard let reload else { return }
        (options, security) = (reload.options, reload.security)
        control?.adopt(security)
        links?.adopt(security)
    }
}
