/// What the coordinator asks of a worker: to try the ways to the others.
public struct Probe: Hashable, Sendable {
    public struct Target: Hashable, Sendable {
        public let worker: UInt32
        /// Of its request plane, as gateways get it.
        public let endpoint: String
        public init(worker: UInt32, endpoint: String) {
            self.worker = worker
            self.endpoint = endpoint
        }
    }

    /// Names what is answered.
    public let round: UInt64
    public let targets: [Target]
    public init(round: UInt64, targets: [Target]) {
        self.round = round
        self.targets = targets
    }
}

/// How one way between two hosts is.
public struct ProbeWay: Hashable, Sendable {
    /// Failures of a row that say why; the others are only failures, so that a report of the
    /// largest group fits a control message.
    public static let problemsMax = 8
    public static let problemBytesMax = 64

    /// Where it leads.
    public let worker: UInt32
    /// What a TCP connection took; nil: there was none.
    public let time: Interval?
    public let problem: String
    public init(worker: UInt32, time: Interval?, problem: String = "") {
        self.worker = worker
        self.time = time
        self.problem = problem
    }

    /// Ways with as many and as long problems as a message may have.
    public static func bounded(_ ways: [ProbeWay]) -> [ProbeWay] {
        var problems = 0
        return ways.prefix(CodecLimits.probeWaysMax).map { way in
            guard way.time == nil, !way.problem.isEmpty else {
                return ProbeWay(worker: way.worker, time: way.time)
            }
            problems += 1
            let problem = problems > problemsMax ? "" : way.problem
            return ProbeWay(
                worker: way.worker, time: nil,
                problem: StatusReport.cut(problem, toBytes: problemBytesMax))
        }
    }
}

/// A worker's answer to ``Probe``.
public struct ProbeResult: Hashable, Sendable {
    public let round: UInt64
    public let ways: [ProbeWay]
    public init(round: UInt64, ways: [ProbeWay]) {
        self.round = round
        self.ways = ways
    }
}

/// The coordinator's answer to an operator: who reaches whom, a row a worker.
public struct ProbeReport: Hashable, Sendable {
    public struct Row: Hashable, Sendable {
        public let worker: UInt32
        /// Why there are no ways; empty where there are.
        public let problem: String
        public let ways: [ProbeWay]
        public init(worker: UInt32, problem: String = "", ways: [ProbeWay] = []) {
            self.worker = worker
            self.problem = problem
            self.ways = ways
        }
    }

    public let round: UInt64
    public let rows: [Row]
    public init(round: UInt64, rows: [Row]) {
        self.round = round
        self.rows = rows
    }
}
