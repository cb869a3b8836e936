import Protocol

/// Who is in the deployment: admits peers by HELLO, gives workers their place, and notices who has
/// been silent for longer than the lease.
///
/// Pure: `(event, now)` in, values out. A message of a peer costs the same however large the group
/// is: peers are found by identity, by device and by index, and who is ready is counted. What goes
/// over all peers goes over workers by their index, then gateways in the order of admission.
struct Membership {
    static let peersMax = 4096

    private struct Device: Hashable {
        let node: String
        let device: UInt32
    }

    let worldSize: UInt32
    let tensorParallelSize: UInt32
    let configuration: [ConfigurationEntry]
    let lease: Interval
    /// What the coordinator speaks, and its release.
    let protocols: ProtocolRange
    let softwareVersion: String

    /// Places of those who left are used again.
    private var slots: [Peer?] = []
    private var freeSlots: [Int] = []
    /// Looked up, never iterated.
    private var slotOfIdentity: [PeerIdentity: Int] = [:]
    private var slotOfDevice: [Device: Int] = [:]
    /// By worker index.
    private var workerSlots: [Int?]
    private var gatewaySlots: [Int] = []
    private var vacant: WorkerSet
    private var unready: WorkerSet
    private var ready: WorkerSet
    private var joined: WorkerSet
    private var lastExpiry: Instant?
    /// Peers looked at, which is what a decision costs.
    private(set) var visits: UInt64 = 0

    init(
        worldSize: UInt32,
        tensorParallelSize: UInt32,
        configuration: [ConfigurationEntry],
        lease: Interval,
        protocols: ProtocolRange = .ofThisBuild,
        softwareVersion: String = ""
    ) {
        self.protocols = protocols
        self.softwareVersion = softwareVersion
        precondition(worldSize > 0 && worldSize % tensorParallelSize == 0, "\(worldSize) workers")
        self.worldSize = worldSize
        self.tensorParallelSize = tensorParallelSize
        self.configuration = configuration
        self.lease = lease
        workerSlots = Array(repeating: nil, count: Int(worldSize))
        vacant = WorkerSet(worldSize: worldSize, isFull: true)
        unready = vacant
        ready = WorkerSet(worldSize: worldSize)
        joined = ready
    }

    enum HelloAction: Equatable {
        /// `replaced` is the process that drove the same device before, if it was still listed.
        case admit(Peer, replaced: Peer?)
        case refuse(Refusal)
    }

    mutating func onHello(
        _ hello: Hello, identity: PeerIdentity, incarnation: Incarnation, at now: Instant
    ) -> HelloAction {
        guard let spoken = hello.protocols,
            let protocolVersion = protocols.newestInCommon(with: spoken)
        else { return .refuse(refusalOfProtocols(hello)) }
        if let refusal = refusal(of: hello) { return .refuse(refusal) }
        if let refusal = refusalOfSecond(hello, identity, at: now) { return .refuse(refusal) }
        let replaced = remove(identity) ?? driver(of: hello).flatMap { remove($0.identity) }
        guard slotOfIdentity.count < Self.peersMax else {
            return .refuse(Refusal(reason: .groupFull, text: "\(Self.peersMax) peers are here"))
        }
        var worker: UInt32 = 0
        if hello.role == .worker {
            switch place(for: hello) {
            case .free(let index): worker = index
            case .refused(let refusal):
                if let replaced { insert(replaced) }
                return .refuse(refusal)
            }
        }
        var peer = Peer(
            identity: identity,
            incarnation: incarnation,
            role: hello.role,
            node: hello.node,
            device: hello.device,
            pid: hello.pid,
            softwareVersion: hello.softwareVersion,
            protocolVersion: protocolVersion,
            worker: worker,
            lastHeard: now
        )
        if let replaced, replaced.identity == identity { peer.mustKnow = replaced.mustKnow }
        insert(peer)
        return .admit(peer, replaced: replaced)
    }

    private func refusalOfProtocols(_ hello: Hello) -> Refusal {
        let text = protocols.refusal(
            of: hello.protocols, peer: "version \(hello.softwareVersion) on \(hello.node)",
            this: "the coordinator (version \(softwareVersion))")
        return Refusal(reason: .protocolVersion, text: text ?? "no protocol in common")
    }

    private func refusal(of hello: Hello) -> Refusal? {
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
    private mutating func place(for hello: Hello) -> Place {
        if let wanted = hello.worker, vacant.contains(wanted) { return .free(wanted) }
        if let startRank = hello.startRank { return chosenPlace(hello, startRank) }
        if let place = freePlace(onNode: hello.node) { return .free(place) }
        let text = "all \(worldSize) workers are here: \(workers.map(\.description))"
        return .refused(Refusal(reason: .groupFull, text: text))
    }

    private mutating func freePlace(onNode node: String) -> UInt32? {
        if tensorParallelSize == 1 { return vacant.first }
        var whole: UInt32?
        for rank in 0..<(worldSize / tensorParallelSize) {
            let places = (rank * tensorParallelSize)..<((rank + 1) * tensorParallelSize)
            guard let free = places.first(where: vacant.contains) else { continue }
            visits += UInt64(places.count)
            let nodes = places.compactMap { worker($0)?.node }
            if nodes.isEmpty {
                whole = whole ?? free
            } else if nodes.allSatisfy({ $0 == node }) {
                return free
            }
        }
        return whole ?? vacant.first
    }

    private func chosenPlace(_ hello: Hello, _ startRank: UInt32) -> Place {
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
        if let holder = worker(UInt32(index)) {
            return .refused(
                Refusal(
                    reason: .groupFull,
                    text: "\(asked), and that is \(holder.description): give each node a start "
                        + "rank of its own"))
        }
        return .free(UInt32(index))
    }

    /// The worker that drives the device of the one that says HELLO.
    private func driver(of hello: Hello) -> Peer? {
        guard hello.role == .worker else { return nil }
        let device = Device(node: hello.node, device: hello.device)
        return slotOfDevice[device].flatMap { slots[$0] }
    }

    /// Why a second process for the device of a living one is not let in: the two would take each
    /// other's place for ever. One that was killed is replaced as soon as it has missed a heartbeat
    /// or two (there are five a lease), long before its lease runs out.
    private func refusalOfSecond(
        _ hello: Hello, _ identity: PeerIdentity, at now: Instant
    ) -> Refusal? {
        let heardWithin = Interval(nanoseconds: lease.nanoseconds / 5 * 2)
        let living = driver(of: hello).flatMap { peer in
            peer.identity != identity && now - peer.lastHeard <= heardWithin ? peer : nil
        }
        return living.map { peer in
            Refusal(
                reason: .groupFull,
                text: "\(peer.description) is driven by another process that is alive: stop it, or "
                    + "give this one another --device-index")
        }
    }

    // MARK: Reading

    var peers: [Peer] { mutating get { workers + gateways } }

    /// In the order of their index.
    var workers: [Peer] {
        mutating get {
            visits += UInt64(workerSlots.count)
            return workerSlots.compactMap { $0.flatMap { slots[$0] } }
        }
    }

    var gateways: [Peer] {
        mutating get {
            visits += UInt64(gatewaySlots.count)
            return gatewaySlots.compactMap { slots[$0] }
        }
    }

    func peer(_ identity: PeerIdentity) -> Peer? { slotOfIdentity[identity].flatMap { slots[$0] } }

    func worker(_ index: UInt32) -> Peer? {
        Int(index) < workerSlots.count ? workerSlots[Int(index)].flatMap { slots[$0] } : nil
    }

    /// Whether every worker is here and could join a view.
    var isReady: Bool { unready.isEmpty }

    /// Whether every worker has joined the view.
    var isJoined: Bool { joined.count == Int(worldSize) }

    /// The first worker that is ready, but for the one with an index.
    func readyWorker(but index: UInt32) -> Peer? {
        ready.first(2).first { $0 != index }.flatMap { worker($0) }
    }

    /// Every worker that is not ready to join a view, for people; empty when all are.
    ///
    /// - Parameter namedMax: how many are named; the others are counted.
    func missing(namedMax: Int = .max) -> [String] {
        var names = unready.first(min(namedMax, unready.count)).map { index in
            worker(index)?.missingDescription ?? "worker \(index) has not said HELLO"
        }
        if unready.count > names.count { names.append("\(unready.count - names.count) more") }
        return names
    }

    /// Of what the workers exchange with each other: the newest that all of them speak.
    var protocolVersionOfWorkers: UInt32 {
        workerSlots.reduce(protocols.newest) { newest, slot in
            min(newest, slot.flatMap { slots[$0] }?.protocolVersion ?? newest)
        }
    }

    // MARK: Changing

    mutating func onHeard(_ identity: PeerIdentity, at now: Instant) {
        update(identity) { $0.lastHeard = now }
    }

    mutating func update(_ identity: PeerIdentity, _ change: (inout Peer) -> Void) {
        guard let slot = slotOfIdentity[identity], var peer = slots[slot] else { return }
        change(&peer)
        slots[slot] = peer
        visits += 1
        noteStage(peer)
    }

    /// Every worker has to say READY again: the view they were ready for is gone.
    ///
    /// - Parameter view: the number of the retired one.
    mutating func forgetReadiness(of view: UInt32) {
        for peer in workers {
            update(peer.identity) { ($0.stage, $0.mustKnow) = (.configured, view) }
        }
    }

    /// Takes out the peers whose lease has run out. To be called several times a lease: after half
    /// a lease without a call it was the coordinator that was away, and what the peers said
    /// meanwhile is yet to be read.
    mutating func expire(at now: Instant) -> [Peer] {
        let pause = lastExpiry.map { now - $0 } ?? .zero
        lastExpiry = now
        let wasAway = pause > Interval(nanoseconds: lease.nanoseconds / 2)
        var lost: [Peer] = []
        for slot in workerSlots.compactMap({ $0 }) + gatewaySlots {
            visits += 1
            if wasAway { slots[slot]?.lastHeard = now }
            if let peer = slots[slot], now - peer.lastHeard > lease { lost.append(peer) }
        }
        for peer in lost { _ = remove(peer.identity) }
        return lost
    }

    mutating func remove(_ identity: PeerIdentity) -> Peer? {
        guard let slot = slotOfIdentity.removeValue(forKey: identity), let peer = slots[slot]
        else { return nil }
        visits += 1
        slots[slot] = nil
        freeSlots.append(slot)
        switch peer.role {
        case .gateway:
            gatewaySlots.removeAll { $0 == slot }
        case .worker:
            let device = Device(node: peer.node, device: peer.device)
            if slotOfDevice[device] == slot { slotOfDevice[device] = nil }
            workerSlots[Int(peer.worker)] = nil
            vacant.insert(peer.worker)
            unready.insert(peer.worker)
            ready.remove(peer.worker)
            joined.remove(peer.worker)
        }
        return peer
    }

    private mutating func insert(_ peer: Peer) {
        let slot = freeSlots.popLast() ?? slots.count
        if slot == slots.count { slots.append(nil) }
        slots[slot] = peer
        slotOfIdentity[peer.identity] = slot
        visits += 1
        switch peer.role {
        case .gateway:
            gatewaySlots.append(slot)
        case .worker:
            slotOfDevice[Device(node: peer.node, device: peer.device)] = slot
            workerSlots[Int(peer.worker)] = slot
            vacant.remove(peer.worker)
            noteStage(peer)
        }
    }

    private mutating func noteStage(_ peer: Peer) {
        guard peer.role == .worker else { return }
        switch peer.stage {
        case .configured:
            unready.insert(peer.worker)
            ready.remove(peer.worker)
            joined.remove(peer.worker)
        case .ready:
            unready.remove(peer.worker)
            ready.insert(peer.worker)
            joined.remove(peer.worker)
        case .joined:
            unready.remove(peer.worker)
            ready.insert(peer.worker)
            joined.insert(peer.worker)
        }
    }
}
