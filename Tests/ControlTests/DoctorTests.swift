import CLinux
import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import Control

/// What the doctor makes of what it sees, without looking.
@Suite struct DoctorTests {
    /// A judgement, and what it must be.
    struct Judgement: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let severity: Finding.Severity
        let finding: Finding

        init(_ what: String, _ severity: Finding.Severity, _ finding: Finding) {
            testDescription = what
            self.severity = severity
            self.finding = finding
        }
    }

    private static func milliseconds(_ count: Int) -> Interval { .milliseconds(count) }

    private static func port(_ owners: [String], isNeeded: Bool = true) -> Finding {
        NetworkChecks.port(
            "port 1", owners: owners, daemon: "phalanx-coordinator", isNeeded: isNeeded)
    }

    private static func interface(_ mtu: Int, carries: Bool, isLoopback: Bool = false) -> Finding {
        NetworkChecks.interface(
            NetworkProbe.Interface(
                name: "eth0", addresses: ["10.0.0.1"], mtu: mtu, isUp: true,
                isLoopback: isLoopback),
            carriesCollectives: carries)
    }

    private static func worker(_ host: String, _ attempt: ConnectionProbe.Attempt) -> Finding {
        NetworkChecks.worker(ReportFixture.worker(0), host: host, from: "here", attempt)
    }

    private static func memory(
        _ weights: Int, available: Int = 90, limit: Int? = nil, areRunning: Bool = false
    ) -> Finding {
        ModelChecks.memory(
            ModelChecks.Memory(total: 100, available: available, groupLimit: limit),
            weights: weights, cache: 10, workers: 2, areRunning: areRunning)
    }

    static let network: [Judgement] = [
        Judgement(
            "a clock 50 ms off", .ok, NetworkChecks.clock(milliseconds(50), roundTrip: .zero)),
        Judgement(
            "a clock 500 ms off", .note, NetworkChecks.clock(milliseconds(-500), roundTrip: .zero)),
        Judgement(
            "a clock 2 s off", .warning,
            NetworkChecks.clock(milliseconds(-2000), roundTrip: .zero)),
        Judgement("a free port", .ok, port([])),
        Judgement("the coordinator's own port", .ok, port(["phalanx-coordinator (7)"])),
        Judgement("somebody else's port", .error, port(["python3 (7)"])),
        Judgement("two owners", .error, port(["phalanx-coordinator (7)", "python3 (8)"])),
        Judgement("a port that may not be needed", .note, port(["python3 (7)"], isNeeded: false)),
        Judgement(
            "a foreign address", .error,
            NetworkChecks.workerAddress("10.1.1.1", isLocal: false, coordinatorIsElsewhere: false)),
        Judgement(
            "loopback in a cell of several hosts", .error,
            NetworkChecks.workerAddress("127.0.0.1", isLocal: true, coordinatorIsElsewhere: true)),
        Judgement(
            "loopback in a cell of one host", .ok,
            NetworkChecks.workerAddress("127.0.0.1", isLocal: true, coordinatorIsElsewhere: false)),
        Judgement("a small MTU", .warning, interface(1400, carries: true)),
        Judgement("a small MTU elsewhere", .ok, interface(1400, carries: false)),
        Judgement("a common MTU", .note, interface(1500, carries: true)),
        Judgement("jumbo frames", .ok, interface(9000, carries: true)),
        Judgement(
            "an RDMA port", .ok, NetworkChecks.collectivesDevice("mlx5_0:1", known: ["mlx5_0"])),
        Judgement("no device", .error, NetworkChecks.collectivesDevice("eth9", known: ["eth0"])),
        Judgement("a worker", .ok, worker("10.0.0.1", .connected(.milliseconds(1)))),
        Judgement("a worker behind a wall", .error, worker("10.0.0.1", .failed("refused"))),
        Judgement(
            "a worker with its own loopback", .error,
            worker("127.0.0.1", .connected(.milliseconds(1)))),
        Judgement("an active view", .ok, PairChecks.pairs(ReportFixture.active())),
        Judgement("no active view", .note, PairChecks.pairs(ReportFixture.retired())),
    ]

    static let host: [Judgement] = [
        Judgement("it fits", .ok, memory(30)),
        Judgement("it does not fit", .error, memory(41)),
        Judgement("nor into the control group", .error, memory(30, limit: 60)),
        Judgement("others use the memory", .warning, memory(30, available: 50)),
        Judgement("the workers use it", .ok, memory(30, available: 50, areRunning: true)),
        Judgement(
            "pages on request", .ok,
            HostChecks.hugePages(setting: "always [madvise] never\n", path: "p")),
        Judgement(
            "small pages", .note, HostChecks.hugePages(setting: "always madvise [never]", path: "p")
        ),
        Judgement("no such file", .note, HostChecks.hugePages(setting: "", path: "p")),
        Judgement("a container's 64 MiB", .ok, HostChecks.sharedMemoryFolder(free: 64 << 20)),
        Judgement("a full folder", .warning, HostChecks.sharedMemoryFolder(free: 1 << 20)),
        Judgement("few descriptors", .warning, HostChecks.descriptors(256)),
        Judgement("Debian's descriptors", .note, HostChecks.descriptors(1024)),
        Judgement("many descriptors", .ok, HostChecks.descriptors(65_536)),
        Judgement("little locked memory", .warning, HostChecks.lockedMemory(8 << 20)),
        Judgement("all locked memory", .ok, HostChecks.lockedMemory(.max)),
        Judgement(
            "a new library", .ok, HostChecks.library("x", version: [4, 3, 4], atLeast: [4, 3, 3])),
        Judgement(
            "its minor", .ok, HostChecks.library("x", version: [5, 0, 0], atLeast: [4, 3, 3])),
        Judgement(
            "an old library", .error,
            HostChecks.library("x", version: [4, 2, 9], atLeast: [4, 3, 3])),
        Judgement("no library", .error, HostChecks.library("x", version: nil, atLeast: [1])),
        Judgement("auto", .ok, HostChecks.processor(wanted: "auto", best: "avx2")),
        Judgement("too much", .error, HostChecks.processor(wanted: "avx512", best: "avx2")),
        Judgement("less", .ok, HostChecks.processor(wanted: "avx2", best: "avx512_bf16")),
        Judgement("an old one", .warning, HostChecks.processor(wanted: "auto", best: "reference")),
        Judgement(
            "the same digest", .ok,
            ModelChecks.digest("abc", folder: "f", others: [ReportFixture.worker(0)])),
        Judgement(
            "another digest", .error,
            ModelChecks.digest("xyz", folder: "f", others: [ReportFixture.worker(0)])),
    ]

    @Test(arguments: network + host)
    func theJudgementIs(judgement: Judgement) {
        #expect(judgement.finding.severity == judgement.severity, "\(judgement.finding)")
        #expect(!judgement.finding.place.isEmpty && !judgement.finding.text.isEmpty)
        // Who is told that something is wrong is told what to do.
        if judgement.severity >= .warning { #expect(!judgement.finding.remedy.isEmpty) }
    }

    @Test func expertsAreSharedAndTheRestIsNot() {
        #expect(ModelChecks.WeightSizes(experts: 800, common: 50).perWorker(of: 8) == 150)
    }

    private func report(_ findings: Finding...) -> DoctorReport {
        DoctorReport(entries: findings.map { .init(check: "check", finding: $0) })
    }

    @Test func theExitCodeIsTheWorstFindings() {
        let note = report(.ok("p", "fine"), .note("p", "so so"))
        let warning = report(.ok("p", "fine"), .warning("p", "bad", "mend"))
        let error = report(.error("p", "worse", "mend"), .warning("p", "bad", "mend"))
        #expect(note.exit(isStrict: true) == .success)
        #expect(warning.exit(isStrict: false) == .success)
        #expect(warning.exit(isStrict: true) == .finding)
        #expect(error.exit(isStrict: false) == .finding)
        #expect(report().exit(isStrict: true) == .success)
    }

    @Test func whatIsWrongStandsAgainAtTheEnd() throws {
        let report = report(
            .warning("p", "bad", "mend"), .ok("q", "fine"), .error("r", "worse", "now"))
        let lines = report.text().split(separator: "\n").map(String.init)
        #expect(lines.count == 6)
        #expect(lines[3] == "error   check         r: worse -> now")
        #expect(lines[5] == "1 error, 1 warning, 0 notes")
        #expect(report.json.contains("\"worst\":\"error\",\"errors\":1,\"warnings\":1"))
    }

    @Test func theMatrixShowsWhatTheWorkersHaveTried() {
        let probes = ProbeReport(
            round: 1,
            rows: [
                .init(worker: 0, ways: [ProbeWay(worker: 1, time: .milliseconds(4))]),
                .init(worker: 1, ways: [ProbeWay(worker: 0, time: nil, problem: "refused")]),
                .init(worker: 2, problem: "is missing"),
            ])
        let report = ReportFixture.active()
        let text = ReachabilityMatrix(report, ways: [], probes: probes).text
        #expect(text.contains("worker 0   -         4.0 ms"), "\(text)")
        #expect(text.contains("worker 1   FAILED    -"), "\(text)")
        let findings = PairChecks.pairs(report, probes)
        #expect(findings.map(\.severity) == [.error, .note])
        #expect(findings[0].place.hasPrefix("worker 1 (node node-1"))
        #expect(findings[0].text == "not connected: refused")
        let many = ProbeReport(
            round: 1,
            rows: [
                .init(worker: 0, ways: (1..<30).map { ProbeWay(worker: $0, time: nil) })
            ])
        #expect(PairChecks.pairs(report, many).count == PairChecks.namedMax + 1)
    }

    @Test func theMatrixShowsWhatIsKnown() {
        let way = ReachabilityMatrix.Way(worker: 0, attempt: .connected(.milliseconds(2)))
        let lost = ReachabilityMatrix.Way(worker: 1, attempt: .failed("refused"))
        let text = ReachabilityMatrix(ReportFixture.active(), ways: [way, lost]).text
        #expect(
            text == """
                FROM \\ TO  worker 0  worker 1
                this host  2.0 ms    FAILED
                worker 0   -         view 3
                worker 1   view 3    -

                """)
        var report = ReportFixture.active()
        report.peers[1].isMember = false
        #expect(ReachabilityMatrix(report, ways: []).text.contains("worker 0   -         ?"))
        #expect(ReachabilityMatrix(ReportFixture.active(workers: 17), ways: []).text.isEmpty)
    }

    @Test func theKernelsTableOfListenersIsRead() {
        let table = """
              sl  local_address rem_address st tx_queue tr retrnsmt uid timeout inode
               0: 0100007F:1F90 00000000:0000 0A 0:0 00:00 0 1000 0 4242 1
               1: 0100007F:1F91 00000000:0000 01 0:0 00:00 0 1000 0 4243 1
              broken
            """
        let listener = PortOwners.Listener(port: 0x1F90, user: 1000, inode: "4242")
        #expect(PortOwners.listeners(in: table) == [listener])
    }

    @Test func endpointsAreTakenApart() throws {
        let plain = try #require(NetworkProbe.parts(of: "tcp://10.0.0.1:70"))
        #expect(plain == ("10.0.0.1", 70))
        let bracketed = try #require(NetworkProbe.parts(of: "tcp://[fd00::1]:70"))
        #expect(bracketed == ("fd00::1", 70))
        for text in ["", "tcp://", "tcp://:70", "tcp://a:x", "ipc://a:70"] {
            #expect(NetworkProbe.parts(of: text) == nil, "\(text)")
        }
    }

    // MARK: Looking

    @Test func aListenerIsReachedAndNamedAndAClosedPortIsNot() throws {
        let listener = cl_listen_tcp("127.0.0.1", 0, 1)
        try #require(listener >= 0)
        let port = Int(cl_local_port(listener))
        let targets = [
            ConnectionProbe.Target(host: "127.0.0.1", port: port),
            ConnectionProbe.Target(host: "256.0.0.1.invalid", port: port),
        ]
        let attempts = ConnectionProbe.connect(targets, within: .seconds(20))
        guard case .connected = attempts[0], case .failed = attempts[1] else {
            Issue.record("\(attempts)")
            return
        }
        #expect(PortOwners.owners(of: port).contains { $0.hasSuffix("(\(getpid()))") })
        close(listener)
        #expect(
            ConnectionProbe.connect("127.0.0.1", port, within: .seconds(20))
                == .failed("Connection refused"))
        #expect(PortOwners.owners(of: port).isEmpty)
    }

    @Test func whoDoesNotAnswerIsGivenUpAtTheDeadline() throws {
        // A listener whose queue is full lets further connections wait.
        let listener = cl_listen_tcp("127.0.0.1", 0, 0)
        try #require(listener >= 0)
        defer { close(listener) }
        let target = ConnectionProbe.Target(host: "127.0.0.1", port: Int(cl_local_port(listener)))
        let attempts = ConnectionProbe.connect(
            Array(repeating: target, count: 8), within: .milliseconds(200))
        #expect(attempts.contains(.failed("no answer within 0.2 s")), "\(attempts)")
    }

    @Test func theHostHasItsLoopbackAndItsLibraries() {
        let loopback = NetworkProbe.interfaces().first { $0.isLoopback }
        #expect(loopback?.addresses.contains("127.0.0.1") == true)
        #expect(NetworkProbe.isLocal("127.0.0.1"))
        #expect(!NetworkProbe.isLocal("203.0.113.7"))
        #expect(LibraryVersions.zeroMQ().count == 3)
        #expect(LibraryVersions.ucx()?.first == 1)
        #expect(LibraryVersions.openSSL()?.first == 3)
        #expect(
            SystemFiles.kilobytes("MemTotal", in: SystemFiles.read("/proc/meminfo") ?? "") ?? 0 > 0)
    }
}
