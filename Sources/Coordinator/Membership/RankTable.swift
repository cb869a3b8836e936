/// The DP ranks by what their workers could do. A rank is as whole as its tensor-parallel workers,
/// and drains when one of them does.
///
/// Pure. Every change costs the same, whatever the number of ranks.
struct RankTable {
    private let size: UInt32
    /// By worker.
    private var usable: WorkerSet
    private var draining: WorkerSet
    private var present: WorkerSet
    /// By rank.
    private var usableCounts: [UInt32]
    private var drainingCounts: [UInt32]
    private var presentCounts: [UInt32]
    /// Ranks all of whose workers are usable.
    private(set) var whole: WorkerSet
    /// Ranks with workers none of whom drains.
    private(set) var staying: WorkerSet
    /// Grows whenever ``whole`` changes.
    private(set) var version: UInt64 = 0

    /// - Parameter size: workers a rank.
    init(rankCount: UInt32, size: UInt32) {
        self.size = size
        usable = WorkerSet(worldSize: rankCount * size)
        draining = usable
        present = usable
        usableCounts = Array(repeating: 0, count: Int(rankCount))
        drainingCounts = usableCounts
        presentCounts = usableCounts
        whole = WorkerSet(worldSize: rankCount)
        staying = whole
    }

    mutating func onWorker(_ worker: UInt32, isUsable: Bool, isDraining: Bool) {
        Self.set(worker, isUsable, &usable, &usableCounts, size)
        Self.set(worker, isDraining, &draining, &drainingCounts, size)
        Self.set(worker, true, &present, &presentCounts, size)
        judge(worker / size)
    }

    mutating func onGone(_ worker: UInt32) {
        Self.set(worker, false, &usable, &usableCounts, size)
        Self.set(worker, false, &draining, &drainingCounts, size)
        Self.set(worker, false, &present, &presentCounts, size)
        judge(worker / size)
    }

    private static func set(
        _ worker: UInt32, _ value: Bool, _ workers: inout WorkerSet, _ counts: inout [UInt32],
        _ size: UInt32
    ) {
        guard workers.contains(worker) != value else { return }
        if value {
            workers.insert(worker)
            counts[Int(worker / size)] += 1
        } else {
            workers.remove(worker)
            counts[Int(worker / size)] -= 1
        }
    }

    private mutating func judge(_ rank: UInt32) {
        let isWhole = usableCounts[Int(rank)] == size
        if isWhole != whole.contains(rank) {
            if isWhole { whole.insert(rank) } else { whole.remove(rank) }
            version += 1
        }
        if presentCounts[Int(rank)] > 0 && drainingCounts[Int(rank)] == 0 {
            staying.insert(rank)
        } else {
            staying.remove(rank)
        }
    }
}
