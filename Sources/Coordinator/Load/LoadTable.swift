import Protocol

/// The last load of every DP rank, for gateways that have no output of that rank to read it from.
struct LoadTable {
    /// By DP rank.
    private var loads: [RankLoad?] = []
    private var changed = false

    /// - Parameter load: of a rank of this deployment.
    mutating func onHeartbeat(_ load: RankLoad) {
        let rank = Int(load.dpRank)
        while loads.count <= rank { loads.append(nil) }
        guard loads[rank] != load else { return }
        loads[rank] = load
        changed = true
    }

    /// All ranks' loads when one has changed since the last call.
    mutating func takeChanges() -> [RankLoad]? {
        guard changed else { return nil }
        changed = false
        return loads.compactMap { $0 }
    }

    mutating func removeAll() {
        loads = []
        changed = true
    }
}
