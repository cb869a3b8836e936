internal import Protocol

/// What SIGHUP does in a daemon: it reads the configuration file and the keys again, and takes over
/// what a running process can. A file that is broken changes nothing at all.
public struct Reload {
    public let options: Options
    public let security: LinkSecurity

    /// - Parameters:
    ///   - options: those that the process runs with.
    ///   - prepare: makes of the new options what can still fail, and returns what takes it over.
    /// - Returns: what counts now; nil when nothing has changed, because something was wrong.
    public static func run(
        _ options: Options, _ security: LinkSecurity, links: LinkOptions, logger: Logger,
        notifier: ServiceNotifier,
        prepare: (Options, [OptionChange]) throws -> () -> Void = { _, _ in {} }
    ) -> Reload? {
        notifier.reloading()
        defer { notifier.reloaded() }
        do {
            let (fresh, changes) = try options.reread()
            let secured = try links.security(fresh, isReload: true)
            let takeOver = try prepare(fresh, changes)
            takeOver()
            let name = fresh.requiredText("log-level")
            if let level = Logger.Level(name: name) { logger.setThreshold(level) }
            report(changes, security, secured, links, logger)
            return Reload(options: fresh, security: secured)
        } catch {
            logger.error("the configuration is not reloaded and stays as it was: \(error)")
            return nil
        }
    }

    private static func report(
        _ changes: [OptionChange], _ before: LinkSecurity, _ after: LinkSecurity,
        _ links: LinkOptions, _ logger: Logger
    ) {
        for change in changes {
            let what = "--\(change.name): \(change.before) becomes \(change.after)"
            switch change.effect {
            case .taken: logger.notice("reloaded \(what)")
            case .ofCoordinator: logger.notice("reloaded \(what); what counts is the coordinator's")
            case .needsRestart:
                logger.warning("\(what) needs a restart; until then it stays as it was")
            }
        }
        let keys = before.changes(to: after)
        for change in keys { logger.notice("reloaded --keys: \(change)") }
        if links.listens, before.hasOtherOwnKey(than: after) {
            logger.warning(
                "\(links.role.rawValue).secret is another one: the sockets that listen keep the "
                    + "old key until a restart, the others have the new one with their next "
                    + "connection")
        }
        if changes.isEmpty && keys.isEmpty { logger.notice("reloaded: nothing has changed") }
    }
}

/// What a daemon's links are made from, at the start and at each reload.
public struct LinkOptions: Sendable {
    let role: KeyRole
    let peers: [KeyRole]
    let addresses: [String]
    /// It has a socket that others connect to.
    let listens: Bool

    public init(role: KeyRole, peers: [KeyRole], addresses: [String], listens: Bool) {
        self.role = role
        self.peers = peers
        self.addresses = addresses
        self.listens = listens
    }

    public func security(
        _ options: Options, isReload: Bool = false
    ) throws(KeyError) -> LinkSecurity {
        try LinkSecurity(
            options, role: role, peers: peers, addresses: addresses, isReload: isReload)
    }
}
