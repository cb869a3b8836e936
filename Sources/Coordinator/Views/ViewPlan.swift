import Protocol

/// The view that should be next: its workers, and who of them has no experts for it yet.
///
/// Pure.
struct ViewPlan: Equatable {
    /// A worker that has not answered is told again; one that could not do it, later.
    static let repeatEvery = Interval.seconds(1)
    static let retryEvery = Interval.seconds(30)

    /// In rank order.
    let workers: [UInt32]
    /// Of the membership that it was made from; see ``Membership/composition``.
    let composition: UInt64
    /// Those without the experts.
    private(set) var unprepared: WorkerSet
    private var repeatAt: Instant

    init(_ workers: [UInt32], composition: UInt64, placesMax: UInt32, at now: Instant) {
        self.workers = workers
        self.composition = composition
        unprepared = WorkerSet(worldSize: placesMax)
        repeatAt = now + Self.repeatEvery
    }

    func position(at rank: Int) -> GroupPosition {
        GroupPosition(rank: UInt32(rank), worldSize: UInt32(workers.count))
    }

    /// Nil for a worker that is not in it.
    func position(of worker: UInt32) -> GroupPosition? {
        var (low, high) = (0, workers.count)
        while low < high {
            let middle = (low + high) / 2
            if workers[middle] < worker { low = middle + 1 } else { high = middle }
        }
        return low < workers.count && workers[low] == worker ? position(at: low) : nil
    }

    mutating func expect(_ worker: UInt32) { unprepared.insert(worker) }

    mutating func onPrepared(_ worker: UInt32, _ position: GroupPosition) {
        if position == self.position(of: worker) { unprepared.remove(worker) }
    }

    mutating func onFailed(at now: Instant) { repeatAt = now + Self.retryEvery }

    /// Who is to be told again.
    mutating func repeats(at now: Instant) -> [UInt32] {
        guard now >= repeatAt else { return [] }
        repeatAt = now + Self.repeatEvery
        return unprepared.members
    }
}
