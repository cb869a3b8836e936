import Protocol

/// Turns ready workers into the member list of a view: addresses of the request plane for gateways,
/// collective addresses for the workers, so that no rank table is typed by hand.
enum Rendezvous {
    /// Why a worker that is ready cannot be in a view with another one; nil if it can.
    static func refusal(of newest: Peer, beside other: Peer) -> Refusal? {
        guard let ready = newest.ready, let reference = other.ready,
            ready.modelDigest != reference.modelDigest
        else { return nil }
        return Refusal(
            reason: .model,
            text: "worker \(newest.worker) (node \(newest.node)) has a checkpoint with digest "
                + "\(ready.modelDigest), worker \(other.worker) one with "
                + "\(reference.modelDigest): copy the same model to all nodes")
    }

    /// - Parameter workers: all of them, ready, in the order of their index.
    static func members(of workers: [Peer], tensorParallelSize: UInt32) -> [Member] {
        workers.compactMap { peer in
            guard let ready = peer.ready else { return nil }
            return Member(
                worker: peer.worker,
                dpRank: peer.worker / tensorParallelSize,
                tpRank: peer.worker % tensorParallelSize,
                incarnation: peer.incarnation,
                node: peer.node,
                endpoint: ready.endpoint,
                collectivesAddress: ready.collectivesAddress,
                blockCount: ready.blockCount,
                blockSize: ready.blockSize)
        }
    }
}
