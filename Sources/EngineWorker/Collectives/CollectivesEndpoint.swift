internal import Glibc
public import Protocol

/// This process's end of a group that is about to form: made once for each attempt at a view.
///
/// Its ``address`` goes to all members through the coordinator; when all have all addresses, each
/// calls ``connect(view:rank:addresses:deadline:)``. After the view, or after an error,
/// ``close()`` releases everything and the next attempt makes a new endpoint: rings are never used
/// twice, so no message of an older attempt can be taken for one of this.
///
/// May be made on another thread than the one that connects, operates and closes.
public final class CollectivesEndpoint: @unchecked Sendable {
    // One thread at a time uses an endpoint; the caller hands it over.
    public let kind: CollectivesKind
    public let options: CollectivesOptions
    /// What the other members need to reach this worker.
    public let address: [UInt8]

    private var inbox: SharedMemoryInbox?
    private let waits: WaitBoard?
    private var worker: UCXWorker?
    private var group: (any ExchangingCollectives)?
    private var isSpent = false

    /// - Parameters:
    ///   - worldSizeMax: the largest group that this endpoint may join.
    ///   - incarnation: the worker's, so that an address names one life of it.
    ///   - waits: where operations say whom they wait for.
    public init(
        kind: CollectivesKind, worldSizeMax: Int, incarnation: UInt64,
        options: CollectivesOptions = CollectivesOptions(), waits: WaitBoard? = nil
    ) throws(CollectiveError) {
        precondition(
            (1...CollectiveLimits.worldSizeMax).contains(worldSizeMax),
            "a group of up to \(worldSizeMax) workers")
        self.kind = kind
        self.options = options
        self.waits = waits
        let host = try HostIdentity.current()
        var memory: SharedMemoryAddress?
        if kind != .ucx {
            let inbox = try SharedMemoryInbox(
                ringCount: worldSizeMax, ringBytes: options.ringBytes, incarnation: incarnation)
            memory = SharedMemoryAddress(
                pid: getpid(), fd: inbox.fd, byteCount: inbox.byteCount, key: inbox.key,
                incarnation: incarnation)
            self.inbox = inbox
        }
        if kind != .sharedMemory { worker = try UCXWorker(options: options) }
        address =
            WorkerAddress(
                requestedKind: kind, host: host, sharedMemory: memory, ucx: worker?.address ?? []
            ).blob
    }

    deinit { close() }

    /// Joins the group whose members have these addresses, in rank order, this worker's included.
    /// Returns when messages have passed between this worker and every other.
    ///
    /// - Throws: ``CollectiveError/timeout(peers:tag:)`` names the members that did not come,
    ///   ``CollectiveError/peerLost(peer:tag:reason:)`` one whose process or endpoint is gone, and
    ///   ``CollectiveError/setup(reason:)`` says which address is of no use, or that the members
    ///   were given different addresses. The endpoint is of no use after an error.
    public func connect(
        view: UInt32, rank: Int, addresses: [[UInt8]], deadline: Instant
    ) throws(CollectiveError) -> any Collectives {
        precondition(addresses.indices.contains(rank), "rank \(rank) of \(addresses.count)")
        guard !isSpent else {
            throw .setup(reason: "an endpoint connects once; make a new one for the next attempt")
        }
        isSpent = true
        guard addresses[rank] == address else {
            throw .setup(reason: "the address of rank \(rank) is not that of this worker")
        }
        guard addresses.count > 1 else { return SingleRankCollectives() }
        guard addresses.count <= CollectiveLimits.worldSizeMax else {
            throw .setup(
                reason: "\(addresses.count) workers, at most \(CollectiveLimits.worldSizeMax)")
        }
        var parsed: [WorkerAddress] = []
        for (peer, blob) in addresses.enumerated() {
            parsed.append(try WorkerAddress(parsing: blob, peer: peer))
        }
        let chosen = try GroupKind.decide(parsed)
        let group = try makeGroup(chosen, rank: rank, addresses: parsed, tag: .meeting(view: view))
        self.group = group
        try meet(group, view: view, addresses: addresses, deadline: deadline)
        return group
    }

    /// Releases memory, descriptors and connections; operations of the group fail from now on, and
    /// peers that wait for this worker are told. Does not wait for anybody.
    public func close() {
        group?.close()
        group = nil
        inbox = nil
        worker = nil
    }

    private func makeGroup(
        _ chosen: CollectivesKind, rank: Int, addresses: [WorkerAddress], tag: OperationTag
    ) throws(CollectiveError) -> any ExchangingCollectives {
        switch chosen {
        case .sharedMemory:
            guard let inbox else { throw .setup(reason: "the endpoint was closed") }
            // What only the other transport needs is given back now.
            worker = nil
            return try SharedMemoryCollectives(
                rank: rank, addresses: addresses.compactMap(\.sharedMemory), inbox: inbox,
                options: options, tag: tag, waits: waits)
        case .ucx, .automatic:
            guard let worker else { throw .setup(reason: "the endpoint was closed") }
            inbox = nil
            return try UCXCollectives(
                rank: rank, addresses: addresses, worker: worker, options: options, tag: tag,
                waits: waits)
        }
    }

    /// The first operations. One proves that every pair works and that all have the same addresses.
    /// The other keeps everybody here until all have heard of all: of two connections that a pair
    /// makes at once UCX drops one and sends what it carried again, which takes progress at an end
    /// that believes to have finished.
    private func meet(
        _ group: any ExchangingCollectives, view: UInt32, addresses: [[UInt8]], deadline: Instant
    ) throws(CollectiveError) {
        try compare(addresses, in: group, .meeting(view: view), deadline)
        try compare(addresses, in: group, .settling(view: view), deadline)
    }

    private func compare(
        _ addresses: [[UInt8]], in group: any ExchangingCollectives, _ tag: OperationTag,
        _ deadline: Instant
    ) throws(CollectiveError) {
        var digest = Digest.start
        for address in addresses { digest = Digest.of(address[...], after: digest) }
        var all = [UInt64](repeating: 0, count: addresses.count)
        var failure: CollectiveError?
        withUnsafeBytes(of: digest) { send in
            all.withUnsafeMutableBytes { receive in
                do throws(CollectiveError) {
                    try group.allGather(send, into: receive, tag: tag, deadline: deadline)
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
        if let other = all.firstIndex(where: { $0 != digest }) {
            throw .setup(reason: "rank \(other) was given other addresses for view \(tag.view)")
        }
    }
}

/// Which transport a group uses: a pure function of the addresses, so that all decide alike.
enum GroupKind {
    static func decide(_ addresses: [WorkerAddress]) throws(CollectiveError) -> CollectivesKind {
        let first = addresses[0]
        for (peer, address) in addresses.enumerated() {
            guard address.requestedKind == first.requestedKind else {
                throw .setup(
                    reason: "rank 0 is set to \(first.requestedKind) and rank \(peer) to "
                        + "\(address.requestedKind); use one setting for all workers")
            }
        }
        let isOneHost = addresses.allSatisfy { $0.host == first.host && $0.sharedMemory != nil }
        let haveUCX = addresses.allSatisfy { !$0.ucx.isEmpty }
        switch first.requestedKind {
        case .sharedMemory, .automatic:
            if isOneHost { return .sharedMemory }
            if first.requestedKind == .automatic, haveUCX { return .ucx }
            throw .setup(
                reason: "shared memory needs all workers on one host, in one process namespace "
                    + "and under one user; set automatic or ucx")
        case .ucx:
            guard haveUCX else { throw .setup(reason: "a worker has published no UCX address") }
            return .ucx
        }
    }
}
