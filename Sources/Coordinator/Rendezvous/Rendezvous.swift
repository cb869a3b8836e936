import Protocol

/// Turns ready workers into the member list of a view: addresses of the request plane for gateways,
/// collective addresses for the workers, so that no rank table is typed by hand.
enum Rendezvous {
    enum Outcome: Equatable {
        case members([Member])
        /// Named by `worker`, it does not have the model of the others.
        case otherModel(worker: UInt32, Refusal)
        case incomplete
    }

    static func members(of workers: [Peer], worldSize: UInt32, tensorParallelSize: UInt32)
        -> Outcome
    {
        var members: [Member] = []
        var reference: (worker: UInt32, digest: String)?
        for peer in workers {
            // Of two models the later READY is refused, so those that are there are compared even
            // while others are loading.
            guard let ready = peer.ready else { continue }
            if let reference, reference.digest != ready.modelDigest {
                return .otherModel(
                    worker: peer.worker,
                    Refusal(
                        reason: .model,
                        text:
                            "worker \(peer.worker) (node \(peer.node)) has a checkpoint with "
                            + "digest \(ready.modelDigest), worker \(reference.worker) one with "
                            + "\(reference.digest): copy the same model to all nodes"))
            }
            reference = reference ?? (peer.worker, ready.modelDigest)
            members.append(
                Member(
                    worker: peer.worker,
                    dpRank: peer.worker / tensorParallelSize,
                    tpRank: peer.worker % tensorParallelSize,
                    incarnation: peer.incarnation,
                    node: peer.node,
                    endpoint: ready.endpoint,
                    collectivesAddress: ready.collectivesAddress,
                    blockCount: ready.blockCount,
                    blockSize: ready.blockSize))
        }
        return members.count == Int(worldSize) ? .members(members) : .incomplete
    }
}
