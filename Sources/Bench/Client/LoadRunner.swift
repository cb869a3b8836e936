internal import DaemonRuntime
internal import Protocol

/// Sends prompts when they are due, at most so many at once, and collects what comes back.
///
/// A request that waits for its turn has not begun: its wait is in no latency, as in vLLM.
final class LoadRunner {
    private let client: HTTPClient
    private let messages: [[UInt8]]
    private let arrivals: [Double]
    private let limit: Int
    private let onChange: (LoadRunner) -> Void

    private(set) var records: [RequestRecord]
    private(set) var endedCount = 0
    private(set) var start = Instant(nanoseconds: 0)
    private(set) var lastEnd = Instant(nanoseconds: 0)
    /// The next that is not due yet, and the next that has not begun.
    private var nextDue = 0
    private var nextToBegin = 0
    private var underWay = 0

    /// - Parameters:
    ///   - arrivals: seconds after the start, ascending, one a message.
    ///   - onChange: after each request that has ended.
    init(
        client: HTTPClient, messages: [[UInt8]], promptLengths: [Int], arrivals: [Double],
        limit: Int?, onChange: @escaping (LoadRunner) -> Void
    ) {
        precondition(
            messages.count == arrivals.count && messages.count == promptLengths.count,
            "\(messages.count) messages, \(arrivals.count) arrivals")
        self.client = client
        self.messages = messages
        self.arrivals = arrivals
        self.limit = limit ?? Int.max
        self.onChange = onChange
        records = promptLengths.map { RequestRecord(promptLength: $0) }
    }

    var isDone: Bool { endedCount == records.count }

    func begin() {
        start = MonotonicClock.now()
        lastEnd = start
        releaseDue()
    }

    /// From the start to the last end.
    var durationSeconds: Double { (lastEnd - start).seconds }

    private func releaseDue() {
        let elapsed = (MonotonicClock.now() - start).seconds
        while nextDue < arrivals.count, arrivals[nextDue] <= elapsed { nextDue += 1 }
        beginAllowed()
        guard nextDue < arrivals.count else { return }
        let due = Interval(nanoseconds: Int64(arrivals[nextDue] * 1e9))
        client.loop.schedule(at: start + due) { [weak self] in self?.releaseDue() }
    }

    private func beginAllowed() {
        while nextToBegin < nextDue, underWay < limit {
            let index = nextToBegin
            nextToBegin += 1
            underWay += 1
            let request = BenchRequest(
                message: messages[index], promptLength: records[index].promptLength
            ) { [weak self] record in self?.onEnded(index, record) }
            request.begin(on: client)
        }
    }

    private func onEnded(_ index: Int, _ record: RequestRecord) {
        records[index] = record
        endedCount += 1
        underWay -= 1
        lastEnd = MonotonicClock.now()
        beginAllowed()
        onChange(self)
    }
}
