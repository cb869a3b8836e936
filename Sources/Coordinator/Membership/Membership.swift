import Protocol

/// Who is in the deployment: admits peers by HELLO, gives workers their place, and notices who has
/// been silent for longer than the lease.
///
/// Pure: `(event, now)` in, values out. Peers are kept in the order of admission, so that every
/// decision has a defined order.
struct Membership {
    static let peersMax = 4096

    let worldSize: UInt32
    let tensorParallelSize: UInt32
    let configuration: [ConfigurationEntry]
    let lease: Interval

    private(set) var peers: [Peer] = []
    private var lastExpiry: Instant?

    init(
        worldSize: UInt32,
        tensorParallelSize: UInt32,
        configuration: [ConfigurationEntry],
        lease: Interval
    ) {
        precondition(worldSize > 0 && worldSize % tensorParallelSize == 0, "\(worldSize) workers")
        self.worldSize = worldSize
        self.tensorParallelSize = tensorParallelSize
        self.configuration = configuration
        self.lease = lease
    }

    enum HelloAction: Equatable {
        /// `replaced` is the process that drove the same device before, if it was still listed.
        case admit(Peer, replaced: Peer?)
        case refuse(Refusal)
    }

    mutating func onHello(
        _ hello: Hello, identity: PeerIdentity, incarnation: Incarnation, at now: Instant
    ) -> HelloAction {
        if let refusal = refusal(of: hello) { return .refuse(refusal) }
        if let refusal = refusalOfSecond(hello, identity, at: now) { return .refuse(refusal) }
        let replaced = remove { peer in
            peer.identity == identity
                || (peer.role == .worker && hello.role == .worker && peer.node == hello.node
                    && peer.device == hello.device)
        }
        guard peers.count < Self.peersMax else {
            return .refuse(Refusal(reason: .groupFull, text: "\(Self.peersMax) peers are here"))
        }
        var worker: UInt32 = 0
        if hello.role == .worker {
            switch place(for: hello) {
            case .free(let index): worker = index
            case .refused(let refusal):
                if let replaced { peers.append(replaced) }
                return .refuse(refusal)
            }
        }
        let peer = Peer(
            identity: identity,
            incarnation: incarnation,
            role: hello.role,
            node: hello.node,
            device: hello.device,
            pid: hello.pid,
            softwareVersion: hello.softwareVersion,
            worker: worker,
            lastHeard: now
        )
        peers.append(peer)
        return .admit(peer, replaced: replaced)
    }

    private func refusal(of hello: Hello) -> Refusal? {
        let known = ProtocolVersion.oldest...ProtocolVersion.current
        if hello.protocolMax < known.lowerBound || hello.protocolMin > known.upperBound {
            let theirs = "\(hello.protocolMin) to \(hello.protocolMax)"
            let ours = "\(known.lowerBound) to \(known.upperBound)"
            return Refusal(
                reason: .protocolVersion,
                text: "version \(hello.softwareVersion) speaks protocol \(theirs), "
                    + "the coordinator \(ours): install the same version on all nodes")
        }
        let differences = hello.declared.compactMap { entry -> ConfigurationDifference? in
            let ours = configuration.first { $0.key == entry.key }?.value ?? ""
            if ours == entry.value { return nil }
            return ConfigurationDifference(
                key: entry.key, coordinatorValue: ours, peerValue: entry.value)
        }
        if differences.isEmpty { return nil }
        return Refusal(
            reason: .configuration,
            text: "the configuration differs from the coordinator's in "
                + "\(differences.map(\.key).joined(separator: ", "))",
            differences: differences)
    }

    private enum Place {
        case free(UInt32)
        case refused(Refusal)
    }

    /// The place that the process has its experts for, which a restarted coordinator doesn't know;
    /// else the one that the operator has chosen for it by the first rank of its node; else a free
    /// one, so that the workers of a DP rank are on one node as far as that goes.
    private func place(for hello: Hello) -> Place {
        let taken = workers
        func isFree(_ index: UInt32) -> Bool { !taken.contains { $0.worker == index } }
        if let wanted = hello.worker, wanted < worldSize, isFree(wanted) { return .free(wanted) }
        if let startRank = hello.startRank { return chosenPlace(hello, startRank, taken) }
        let free = (0..<worldSize).filter(isFree)
        func nodes(_ index: UInt32) -> [String] {
            taken.filter { $0.worker / tensorParallelSize == index / tensorParallelSize }
                .map(\.node)
        }
        let here = free.first { index in
            let nodes = nodes(index)
            return !nodes.isEmpty && nodes.allSatisfy { $0 == hello.node }
        }
        if let place = here ?? free.first(where: { nodes($0).isEmpty }) ?? free.first {
            return .free(place)
        }
        let text = "all \(worldSize) workers are here: \(taken.map(\.description))"
        return .refused(Refusal(reason: .groupFull, text: text))
    }

    private func chosenPlace(_ hello: Hello, _ startRank: UInt32, _ taken: [Peer]) -> Place {
        let first = UInt64(startRank) * UInt64(tensorParallelSize)
        let index = first + UInt64(hello.devicePlace)
        let asked =
            "--data-parallel-start-rank \(startRank) makes device \(hello.device) of node "
            + "\(hello.node) worker \(index)"
        guard index < UInt64(worldSize) else {
            let ranks = worldSize / tensorParallelSize
            return .refused(
                Refusal(
                    reason: .configuration,
                    text: "\(asked), but \(ranks) DP ranks of \(tensorParallelSize) have workers "
                        + "0 to \(worldSize - 1): lower the start rank or start fewer devices"))
        }
        if let holder = taken.first(where: { UInt64($0.worker) == index }) {
            return .refused(
                Refusal(
                    reason: .groupFull,
                    text: "\(asked), and that is \(holder.description): give each node a start "
                        + "rank of its own"))
        }
        return .free(UInt32(index))
    }

    /// Why a second process for the device of a living one is not let in: the two would take each
    /// other's place for ever. One that was killed is replaced as soon as it has missed a heartbeat
    /// or two (there are five a lease), long before its lease runs out.
    private func refusalOfSecond(
        _ hello: Hello, _ identity: PeerIdentity, at now: Instant
    ) -> Refusal? {
        let heardWithin = Interval(nanoseconds: lease.nanoseconds / 5 * 2)
        let living = peers.first { peer in
            peer.role == .worker && hello.role == .worker && peer.identity != identity
                && peer.node == hello.node && peer.device == hello.device
                && now - peer.lastHeard <= heardWithin
        }
        return living.map { peer in
            Refusal(
                reason: .groupFull,
                text: "\(peer.description) is driven by another process that is alive: stop it, or "
                    + "give this one another --device-index")
        }
    }

    // MARK: Reading

    /// In the order of their index.
    var workers: [Peer] {
        peers.filter { $0.role == .worker }.sorted { $0.worker < $1.worker }
    }

    var gateways: [Peer] { peers.filter { $0.role == .gateway } }

    func peer(_ identity: PeerIdentity) -> Peer? { peers.first { $0.identity == identity } }

    /// Every worker that is not ready to join a view, for people; empty when all are.
    func missing() -> [String] {
        let workers = workers
        return (0..<worldSize).compactMap { index in
            guard let peer = workers.first(where: { $0.worker == index }) else {
                return "worker \(index) has not said HELLO"
            }
            return peer.ready == nil ? peer.missingDescription : nil
        }
    }

    // MARK: Changing

    mutating func onHeard(_ identity: PeerIdentity, at now: Instant) {
        update(identity) { $0.lastHeard = now }
    }

    mutating func update(_ identity: PeerIdentity, _ change: (inout Peer) -> Void) {
        guard let index = peers.firstIndex(where: { $0.identity == identity }) else { return }
        change(&peers[index])
    }

    /// Every worker has to say READY again: the view they were ready for is gone.
    mutating func forgetReadiness() {
        for index in peers.indices where peers[index].role == .worker {
            peers[index].stage = .configured
        }
    }

    /// Takes out the peers whose lease has run out. To be called several times a lease: after half
    /// a lease without a call it was the coordinator that was away, and what the peers said
    /// meanwhile is yet to be read.
    mutating func expire(at now: Instant) -> [Peer] {
        let pause = lastExpiry.map { now - $0 } ?? .zero
        lastExpiry = now
        if pause > Interval(nanoseconds: lease.nanoseconds / 2) {
            for index in peers.indices { peers[index].lastHeard = now }
        }
        let lost = peers.filter { now - $0.lastHeard > lease }
        peers.removeAll { peer in lost.contains(peer) }
        return lost
    }

    mutating func remove(_ identity: PeerIdentity) -> Peer? {
        remove { $0.identity == identity }
    }

    private mutating func remove(where matches: (Peer) -> Bool) -> Peer? {
        guard let index = peers.firstIndex(where: matches) else { return nil }
        return peers.remove(at: index)
    }
}
