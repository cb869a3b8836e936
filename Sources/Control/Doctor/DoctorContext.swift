internal import DaemonRuntime
internal import Protocol

/// What all checks stand on: the options as this host has them, and what the coordinator answered,
/// asked once.
struct DoctorContext {
    struct Coordinator {
        let report: StatusReport
        let roundTrip: Interval
        /// Its clock minus this host's, read in the middle of the round trip.
        let clockOffset: Interval
    }

    /// With the deployment-wide values of the coordinator where it answers.
    let options: Options
    /// Deployment-wide options as this host gives them.
    let declared: [ConfigurationEntry]
    let endpoint: String
    let coordinator: Coordinator?
    /// For each connection and for the coordinator's answer.
    let timeout: Interval
    let node: String
    /// Tried once, to every worker that has said where it is.
    let connections: [Connection]
    /// By the workers, to each other; nil where nobody can be asked.
    let probes: ProbeReport?

    struct Connection {
        let peer: PeerStatus
        let target: ConnectionProbe.Target
        let attempt: ConnectionProbe.Attempt
    }

    init(_ arguments: ControlArguments) throws(ControlError) {
        endpoint = arguments.endpoint
        timeout = arguments.timeout
        declared = arguments.options.declared
        node = DaemonProcess.nodeName(arguments.options)
        coordinator = try Self.ask(endpoint, try arguments.security(), within: timeout)
        guard let report = coordinator?.report else {
            options = arguments.options
            connections = []
            probes = nil
            return
        }
        connections = Self.connections(report, within: timeout)
        probes = try Self.probes(report, endpoint, try arguments.security())
        do throws(OptionError) {
            options = try arguments.options.adopting(report.configuration)
        } catch {
            throw .failed(
                "doctor: the coordinator's configuration is not understood: \(error); install one "
                    + "release everywhere")
        }
    }

    private static func connections(
        _ report: StatusReport, within timeout: Interval
    ) -> [Connection] {
        let known = report.workers.compactMap { peer in
            NetworkProbe.parts(of: peer.endpoint).map {
                (peer: peer, target: ConnectionProbe.Target(host: $0.host, port: $0.port))
            }
        }
        let attempts = ConnectionProbe.connect(known.map(\.target), within: timeout)
        return zip(known, attempts).map { known, attempt in
            Connection(peer: known.peer, target: known.target, attempt: attempt)
        }
    }

    /// A round takes its connections' deadline and the coordinator's, whatever `--timeout` says.
    private static let probesWithin = Interval.seconds(6)

    private static func probes(
        _ report: StatusReport, _ endpoint: String, _ security: LinkSecurity
    ) throws(ControlError) -> ProbeReport? {
        guard report.protocolVersion >= ControlBody.probeRequest.firstVersion,
            report.workers.count > 1
        else { return nil }
        let link = try OperatorLink(endpoint: endpoint, security: security)
        defer { link.close() }
        return try? link.ask(.probeRequest, within: probesWithin) { body -> ProbeReport? in
            guard case .probeReport(let report) = body else { return nil }
            return report
        }
    }

    /// The table of who reaches whom; empty without a coordinator.
    var matrix: String {
        guard let report = coordinator?.report else { return "" }
        let ways = connections.map {
            ReachabilityMatrix.Way(worker: $0.peer.worker, attempt: $0.attempt)
        }
        return ReachabilityMatrix(report, ways: ways, probes: probes).text
    }

    /// nil when nobody answers, which is a finding and no failure.
    private static func ask(
        _ endpoint: String, _ security: LinkSecurity, within timeout: Interval
    ) throws(ControlError) -> Coordinator? {
        let link = try OperatorLink(endpoint: endpoint, security: security)
        defer { link.close() }
        guard (try? link.status(within: timeout)) != nil else { return nil }
        // The first question waited for the connection; the second shows the round trip.
        let began = MonotonicClock.now()
        let wall = MonotonicClock.wallMicroseconds()
        guard let report = try? link.status(within: timeout) else { return nil }
        let roundTrip = MonotonicClock.now() - began
        let middle = wall + roundTrip.nanoseconds / 2000
        let offset = Interval(
            nanoseconds: (report.wallClockMicroseconds &- middle).multipliedReportingOverflow(
                by: 1000
            ).partialValue)
        return Coordinator(report: report, roundTrip: roundTrip, clockOffset: offset)
    }

    /// Workers of this deployment that run on this host: those that are known, else one.
    var localWorkers: (count: Int, areRunning: Bool) {
        let here = coordinator?.report.workers.filter { $0.node == node } ?? []
        return here.isEmpty ? (1, false) : (here.count, true)
    }

    var worldSize: Int {
        options.requiredInteger("data-parallel-size")
            * options.requiredInteger("tensor-parallel-size")
    }
}
