import Protocol

/// Who is in the deployment: admits peers by HELLO, gives workers their place, and notices who has
/// been silent for longer than the lease.
///
/// At first it waits for all configured workers. Once they have served, the group is as large as
/// there are whole DP ranks: more workers may come, and those who go are not waited for.
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

    /// Workers that the deployment begins with.
    let worldSize: UInt32
    let placesMax: UInt32
    let tensorParallelSize: UInt32
    var configuration: [ConfigurationEntry]
    var lease: Interval
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
    private(set) var vacant: WorkerSet
    private var present: WorkerSet
    private var ready: WorkerSet
    private var joined: WorkerSet
    private var ranks: RankTable
    /// Those without whom no view is formed.
    var awaited: WorkerSet
    /// Of these, who could not be in it yet.
    var awaitedMissing: WorkerSet
    /// Until all configured workers have served together.
    private(set) var isFirst = true
    /// There has been a view, of this coordinator or of the one before.
    private var hasServed = false
    private var lastExpiry: Instant?
    /// Peers looked at, which is what a decision costs.
    var visits: UInt64 = 0

    init(
        worldSize: UInt32,
        placesMax: UInt32,
        tensorParallelSize: UInt32,
        configuration: [ConfigurationEntry],
        lease: Interval,
        protocols: ProtocolRange = .ofThisBuild,
        softwareVersion: String = ""
    ) {
        self.protocols = protocols
        self.softwareVersion = softwareVersion
        precondition(worldSize > 0 && worldSize % tensorParallelSize == 0, "\(worldSize) workers")
        precondition(placesMax >= worldSize && placesMax % tensorParallelSize == 0, "\(placesMax)")
        self.worldSize = worldSize
        self.placesMax = placesMax
        self.tensorParallelSize = tensorParallelSize
        self.configuration = configuration
        self.lease = lease
        workerSlots = Array(repeating: nil, count: Int(placesMax))
        vacant = WorkerSet(worldSize: placesMax, isFull: true)
        present = WorkerSet(worldSize: placesMax)
        ready = present
        joined = present
        ranks = RankTable(rankCount: placesMax / tensorParallelSize, size: tensorParallelSize)
        awaited = present
        for worker in 0..<worldSize { awaited.insert(worker) }
        awaitedMissing = awaited
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
            let own = replaced.flatMap { $0.identity == identity ? $0.worker : nil }
            switch place(for: hello, own: own) {
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
        // It was in a view of which this coordinator may know nothing.
        if hello.role == .worker, hello.worker != nil { expect(worker) }
        return .admit(peer, replaced: replaced)
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
            visits += UInt64(present.count)
            return present.members.compactMap { worker($0) }
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

    /// Places to count: those that the deployment begins with, and those of workers behind them.
    var extent: UInt32 {
        let last = present.last.map { $0 / tensorParallelSize + 1 } ?? 0
        return max(worldSize, last * tensorParallelSize)
    }

    /// Whether nobody is waited for.
    var isSettled: Bool { awaitedMissing.isEmpty }

    /// Whether a worker is here that could not be in a view yet.
    var isSomebodyLoading: Bool { ready.count < present.count }

    var joinedCount: Int { joined.count }

    /// Grows whenever other workers could be in the next view.
    var composition: UInt64 { ranks.version }

    /// The workers of all whole DP ranks, which could be in the next view.
    var usableWorkers: [UInt32] {
        mutating get {
            let members = ranks.whole.members
            visits += UInt64(members.count) * UInt64(tensorParallelSize)
            return members.flatMap {
                ($0 * tensorParallelSize)..<(($0 + 1) * tensorParallelSize)
            }
        }
    }

    /// What a worker should load experts for: its position among those who are here, which will be
    /// that of its first view if nobody else comes or goes.
    mutating func expectedPosition(of worker: UInt32) -> GroupPosition {
        if isFirst && worker < worldSize {
            return GroupPosition(rank: worker, worldSize: worldSize)
        }
        let own = worker / tensorParallelSize
        visits += UInt64(ranks.staying.count)
        let others = ranks.staying.members.filter { $0 != own }
        let before = UInt32(others.count { $0 < own })
        return GroupPosition(
            rank: before * tensorParallelSize + worker % tensorParallelSize,
            worldSize: UInt32(others.count + 1) * tensorParallelSize)
    }

    /// The first worker that is ready, but for the one with an index.
    func readyWorker(but index: UInt32) -> Peer? {
        ready.first(2).first { $0 != index }.flatMap { worker($0) }
    }

    /// Every worker that is waited for, for people; empty when a view can be formed.
    ///
    /// - Parameters:
    ///   - ranksMin: fewer DP ranks are no group.
    ///   - namedMax: how many are named; the others are counted.
    func missing(ranksMin: UInt32, namedMax: Int = .max) -> [String] {
        var absent = awaitedMissing.members
        if absent.isEmpty && ranks.whole.count < Int(ranksMin) {
            absent = (0..<worldSize).filter { worker($0)?.isUsable != true }
        }
        var names = absent.prefix(namedMax).map { index in
            worker(index)?.missingDescription ?? "worker \(index) has not said HELLO"
        }
        if absent.count > names.count { names.append("\(absent.count - names.count) more") }
        return names
    }

    /// Of what these workers exchange with each other: the newest that all of them speak.
    func protocolVersion(of workers: [UInt32]) -> UInt32 {
        workers.reduce(protocols.newest) { min($0, worker($1)?.protocolVersion ?? $0) }
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

    /// Every worker has to say READY again: the view they were ready for is gone. Who was ready for
    /// it is waited for.
    ///
    /// - Parameter view: the number of the retired one.
    mutating func forgetReadiness(of view: UInt32) {
        if !isFirst { awaited = WorkerSet(worldSize: placesMax) }
        for peer in workers {
            if !isFirst && peer.isUsable { awaited.insert(peer.worker) }
            update(peer.identity) { ($0.stage, $0.mustKnow) = (.configured, view) }
        }
        awaitedMissing = awaited
    }

    /// All have served: from now on the group is who is here.
    mutating func onServing() { (isFirst, hasServed) = (false, true) }

    /// A worker has come that was in a view of another coordinator.
    mutating func onServedBefore() { hasServed = true }

    /// Who is not here by now is not waited for: they have served without them before.
    mutating func takeThoseWhoAreHere() {
        guard isFirst else { return }
        isFirst = false
        awaited = WorkerSet(worldSize: placesMax)
        awaitedMissing = awaited
        for peer in workers { expect(peer.worker) }
    }

    private mutating func expect(_ worker: UInt32) {
        awaited.insert(worker)
        if let peer = self.worker(worker) {
            noteAwaited(peer)
        } else {
            awaitedMissing.insert(worker)
        }
    }

    /// Who drains is not waited for, nor who loads while others could go on as they did before.
    private mutating func noteAwaited(_ peer: Peer) {
        let isLoading = hasServed && !isFirst && peer.reported?.stage == .loading
        if peer.isUsable || peer.isDraining || peer.isHeldBack || isLoading {
            awaitedMissing.remove(peer.worker)
        } else if awaited.contains(peer.worker) {
            awaitedMissing.insert(peer.worker)
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
            present.remove(peer.worker)
            ready.remove(peer.worker)
            joined.remove(peer.worker)
            ranks.onGone(peer.worker)
            if !isFirst { awaited.remove(peer.worker) }
            if awaited.contains(peer.worker) {
                awaitedMissing.insert(peer.worker)
            } else {
                awaitedMissing.remove(peer.worker)
            }
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
            present.insert(peer.worker)
            noteStage(peer)
        }
    }

    private mutating func noteStage(_ peer: Peer) {
        guard peer.role == .worker else { return }
        let worker = peer.worker
        ranks.onWorker(worker, isUsable: peer.isUsable, isDraining: peer.isDraining)
        noteAwaited(peer)
        switch peer.stage {
        case .configured:
            ready.remove(worker)
            joined.remove(worker)
        case .ready:
            ready.insert(worker)
            joined.remove(worker)
        case .joined:
            ready.insert(worker)
            joined.insert(worker)
        }
    }
}
