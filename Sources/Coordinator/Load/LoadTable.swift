import Protocol

/// The last load of every DP rank, for gateways that have no output of that rank to read it from.
struct LoadTable {
    private var loads: [RankLoad] = []
    private var changed = false

    mutating func onHeartbeat(_ load: RankLoad) {
        if let index = loads.firstIndex(where: { $0.dpRank == load.dpRank }) {
            guard loads[index] != load else { return }
            loads[index] = load
        } else {
            loads.append(load)
            loads.sort { $0.dpRank < $1.dpRank }
        }
        changed = true
    }

    /// All ranks' loads when one has changed since the last call.
    mutating func takeChanges() -> [RankLoad]? {
        guard changed else { return nil }
        changed = false
        return loads
    }

    mutating func removeAll() {
        loads = []
        changed = true
    }
}
