import Protocol

/// A worker that comes to a group which serves must not end it: one that the others cannot connect
/// to, because a firewall or a device is in the way, is left out of the next view and tried again
/// later, each time after twice as long.
extension CoordinatorCore {
    static let holdBackMin = Interval.seconds(30)
    static let holdBackMax = Interval.seconds(3600)

    struct HeldBack: Equatable {
        let identity: PeerIdentity
        let until: Instant
    }

    /// To be called before the view that did not form is retired.
    ///
    /// - Parameter workers: who could not be connected, and who says so.
    mutating func holdBackNewcomers(among workers: [UInt32], at now: Instant) -> [Action] {
        guard view.state == .forming else { return [] }
        let old = view.members.filter { lastMembers.contains($0.incarnation) }
        let oldByRank = Dictionary(grouping: old, by: \.dpRank)
        let wholeRanks = oldByRank.values.count { $0.count == Int(settings.tensorParallelSize) }
        guard wholeRanks >= Int(settings.ranksMin) else { return [] }
        var actions: [Action] = []
        for member in view.members where workers.contains(member.worker) {
            guard !lastMembers.contains(member.incarnation),
                let peer = membership.worker(member.worker)
            else { continue }
            let doublings = Int64(min(peer.heldBackCount, 16))
            let delay = min(
                Interval(nanoseconds: Self.holdBackMin.nanoseconds << doublings),
                Self.holdBackMax)
            heldBack.append(HeldBack(identity: peer.identity, until: now + delay))
            membership.update(peer.identity) {
                $0.isHeldBack = true
                $0.heldBackCount += 1
            }
            actions.append(
                .warn(
                    "\(peer.description) is left out for \(Int(delay.seconds)) s: it could not be "
                        + "connected to those who have served"))
        }
        return actions
    }

    /// Those whose time is over, and all where there is no group without them any more.
    mutating func readmitNewcomers(at now: Instant) {
        if heldBack.isEmpty { return }
        let workersMin = Int(settings.ranksMin * settings.tensorParallelSize)
        let areNeeded =
            view.state == .retired && membership.isSettled
            && membership.usableWorkers.count < workersMin
        for held in heldBack where areNeeded || now >= held.until {
            membership.update(held.identity) { $0.isHeldBack = false }
        }
        heldBack.removeAll { membership.peer($0.identity)?.isHeldBack != true }
    }

    mutating func noteMembers() {
        lastMembers = Set(view.members.map(\.incarnation))
        for member in view.members {
            guard let peer = membership.worker(member.worker), peer.heldBackCount > 0 else {
                continue
            }
            membership.update(peer.identity) { $0.heldBackCount = 0 }
        }
    }
}
