import Protocol

/// Who waits for whom inside a tick, and whom that makes a suspect.
///
/// In lock-step all wait when one hangs, and many of them for each other: whoever waits sends
/// nothing, so those behind it miss it too. The cause is at the root: somebody who is missed and
/// waits for nobody. Who is silent hangs as a whole, whatever it said last. If everybody who is
/// missed waits, messages are lost, and no worker is to blame.
///
/// Pure. The waits-for graph is that of deadlock detection in distributed systems (Chandy, Misra
/// and Haas, 1983), here in one place and with processes that fail.
struct WaitsForGraph {
    struct Worker: Equatable {
        let worker: UInt32
        /// Empty: it waits for nobody, as far as it has said.
        var waitsFor: [UInt32] = []
        /// It has missed heartbeats.
        var isSilent = false
    }

    enum Verdict: Equatable {
        /// Nobody is missed.
        case nothing
        /// These are missed, and wait for nobody.
        case suspects([UInt32])
        /// All who are missed wait.
        case circle([UInt32])
    }

    private let workers: [Worker]

    /// - Parameter workers: of a view, each once.
    init(_ workers: [Worker]) { self.workers = workers }

    /// Of workers that speak; what one said before it fell silent counts no more.
    private var waiting: [Worker] { workers.filter { !$0.isSilent && !$0.waitsFor.isEmpty } }

    /// Those of the view who are waited for, in the order of the workers.
    private var missed: [UInt32] {
        let awaited = Set(waiting.flatMap(\.waitsFor))
        return workers.map(\.worker).filter(awaited.contains)
    }

    var verdict: Verdict {
        let missed = missed
        if missed.isEmpty { return .nothing }
        let waiters = Set(waiting.map(\.worker))
        let roots = missed.filter { !waiters.contains($0) }
        return roots.isEmpty ? .circle(missed) : .suspects(roots)
    }

    /// How many wait for `worker`, and for somebody who waits for it.
    func waitingCount(for worker: UInt32) -> Int {
        var reached: Set<UInt32> = [worker]
        var (isGrowing, rest) = (true, waiting)
        while isGrowing {
            let next = rest.filter { $0.waitsFor.contains(where: reached.contains) }
            isGrowing = !next.isEmpty
            rest.removeAll { waiter in next.contains { $0.worker == waiter.worker } }
            for waiter in next { reached.insert(waiter.worker) }
        }
        return reached.count - 1
    }
}
