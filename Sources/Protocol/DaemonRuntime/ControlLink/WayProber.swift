internal import Protocol

/// Tries the ways to other workers for the coordinator, one round at a time, in a thread of its
/// own: connections take as long as they take, and the daemon's loop does not wait for them.
final class WayProber {
    /// For all connections together; less than what the coordinator waits for a round.
    static let limit = Interval.seconds(2)

    private let loop: EventLoop
    private let results = Mailbox<ProbeResult>(capacity: 1)
    private var taken: [ProbeResult] = []
    /// Of the round that runs.
    private var thread: NamedThread?
    var onResult: (ProbeResult) -> Void = { _ in }

    init(loop: EventLoop) {
        self.loop = loop
        loop.watch(results.descriptor, for: .readable) { [weak self] _ in self?.takeResult() }
    }

    func close() { loop.unwatch(results.descriptor) }

    /// While another round runs it is not begun: the coordinator has given that one up, and notes
    /// that this one is not answered.
    func tryWays(of probe: Probe) {
        if thread != nil { return }
        let results = results
        thread = NamedThread("probe") { _ = results.post(Self.result(of: probe)) }
    }

    private static func result(of probe: Probe) -> ProbeResult {
        let targets = probe.targets.map { ConnectionProbe.Target(endpoint: $0.endpoint) }
        let attempts = ConnectionProbe.connect(
            targets.compactMap { $0 }, within: limit, numericOnly: true)
        var next = attempts.makeIterator()
        let ways = zip(probe.targets, targets).map { target, place in
            switch place == nil ? nil : next.next() {
            case .connected(let time): ProbeWay(worker: target.worker, time: time)
            case .failed(let reason):
                ProbeWay(worker: target.worker, time: nil, problem: reason)
            case nil: ProbeWay(worker: target.worker, time: nil, problem: "it has no TCP endpoint")
            }
        }
        return ProbeResult(round: probe.round, ways: ProbeWay.bounded(ways))
    }

    private func takeResult() {
        taken.removeAll()
        results.takeAll(into: &taken)
        for result in taken {
            // It has nothing left to do, and is gone only when it has been waited for.
            thread?.join()
            thread = nil
            onResult(result)
        }
    }
}
