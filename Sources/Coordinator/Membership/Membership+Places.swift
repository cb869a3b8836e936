import Protocol

/// Which worker a process becomes.
extension Membership {
    enum Place {
        case free(UInt32)
        case refused(Refusal)
    }

    /// The place that the process has its experts for, which a restarted coordinator doesn't know;
    /// else the one that the operator has chosen for it by the first rank of its node; else a free
    /// one, so that the workers of a DP rank are on one node as far as that goes.
    ///
    /// - Parameter own: its place, if it has said HELLO before: it may know already who it is.
    mutating func place(for hello: Hello, own: UInt32?) -> Place {
        if let own { return .free(own) }
        if let wanted = hello.worker, vacant.contains(wanted) { return .free(wanted) }
        if let startRank = hello.startRank { return chosenPlace(hello, startRank) }
        if let place = freePlace(onNode: hello.node) { return .free(place) }
        let text = "all \(placesMax) workers are here: \(workers.map(\.description))"
        return .refused(Refusal(reason: .groupFull, text: text))
    }

    private mutating func freePlace(onNode node: String) -> UInt32? {
        if tensorParallelSize == 1 { return vacant.first }
        var whole: UInt32?
        for rank in 0..<(placesMax / tensorParallelSize) {
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
        guard index < UInt64(placesMax) else {
            let ranks = placesMax / tensorParallelSize
            return .refused(
                Refusal(
                    reason: .configuration,
                    text: "\(asked), but \(ranks) DP ranks of \(tensorParallelSize) have workers "
                        + "0 to \(placesMax - 1): lower the start rank or start fewer devices"))
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

    /// A worker that hangs is not waited for; it is in a view again once it has said READY.
    mutating func doWithout(_ worker: UInt32) {
        guard let peer = self.worker(worker) else { return }
        awaited.remove(worker)
        awaitedMissing.remove(worker)
        update(peer.identity) { $0.isHung = true }
    }
}
