import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import Control

/// What is looked at before a daemon starts, and what keeps it from starting.
@Suite struct PreflightTests {
    private static func port(
        _ problem: Int32, _ owners: [String] = [], mayBePassed: Bool = false, isUnit: Bool = false
    ) -> Finding {
        PreflightChecks.port(
            "port", problem: problem, owners: owners, mayBePassed: mayBePassed, isUnit: isUnit)
    }

    struct Judgement: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let severity: Finding.Severity
        let finding: Finding
        init(_ what: String, _ severity: Finding.Severity, _ finding: Finding) {
            (testDescription, self.severity, self.finding) = (what, severity, finding)
        }
    }

    static let judgements: [Judgement] = [
        Judgement("a free port", .ok, port(0)),
        Judgement("a stranger's port", .error, port(EADDRINUSE, ["python3 (7)"])),
        Judgement("a port of nobody known", .error, port(EADDRINUSE)),
        Judgement("a foreign address", .error, port(EADDRNOTAVAIL)),
        Judgement("a port below 1024", .error, port(EACCES)),
        Judgement(
            "a socket unit's port", .ok, port(EADDRINUSE, ["systemd (1)"], mayBePassed: true)),
        Judgement(
            "a port that a socket unit may hold", .warning,
            port(EADDRINUSE, [PortOwners.ofRoot], mayBePassed: true)),
        Judgement(
            "root's port, seen from a service", .ok,
            port(EADDRINUSE, [PortOwners.ofRoot], mayBePassed: true, isUnit: true)),
        Judgement(
            "another user's port, seen from a service", .warning,
            port(EADDRINUSE, [PortOwners.ofAnother], mayBePassed: true, isUnit: true)),
        Judgement(
            "root's port that the daemon must open", .error,
            port(EADDRINUSE, [PortOwners.ofRoot], isUnit: true)),
        Judgement(
            "a stranger's port, where a socket unit might be", .error,
            port(EADDRINUSE, ["python3 (7)"], mayBePassed: true)),
        Judgement(
            "a certificate", .ok,
            PreflightChecks.certificate("c", isReadable: true, isOpenToOthers: false)),
        Judgement(
            "no certificate", .error,
            PreflightChecks.certificate("c", isReadable: false, isOpenToOthers: false)),
        Judgement(
            "everybody's key", .warning,
            PreflightChecks.certificate("c", isReadable: true, isOpenToOthers: true)),
        Judgement("the processors", .ok, PreflightChecks.device("cpu", 3) { _ in false }),
        Judgement("a device", .ok, PreflightChecks.device("ascend", 3) { $0 == 3 }),
        Judgement("no device", .error, PreflightChecks.device("ascend", 3) { $0 == 4 }),
        Judgement(
            "a folder of packed weights", .ok,
            PreflightChecks.packedWeights("p", isFolder: true, isWritable: true)),
        Judgement(
            "one that is read only", .warning,
            PreflightChecks.packedWeights("p", isFolder: true, isWritable: false)),
    ]

    @Test(arguments: judgements)
    func aJudgementIsWhatTheTableSays(judgement: Judgement) {
        #expect(judgement.finding.severity == judgement.severity)
        #expect(judgement.severity == .ok || !judgement.finding.remedy.isEmpty)
    }

    /// A hardened unit sees less of `/proc`; that is no error.
    @Test func whatIsHiddenIsNotJudged() {
        #expect(PreflightChecks.memory(nil, weights: 1, cache: 1).isEmpty)
        let unknown = ModelChecks.Memory(total: 0, available: 0, groupLimit: nil)
        #expect(PreflightChecks.memory(unknown, weights: 1, cache: 1).isEmpty)
        let small = ModelChecks.Memory(total: 10, available: 10, groupLimit: nil)
        #expect(PreflightChecks.memory(small, weights: 8, cache: 8).map(\.severity) == [.error])
        #expect(HostMemory.current.total > 0)
    }

    @Test func theSmallestLimitOfTheControlGroupsCounts() {
        let limits = ["/a": 70, "/a/b": 90, "/a/b/c": 80]
        let table = "0::/a/b/c\n"
        #expect(HostMemory.groupLimit(of: table) { limits[$0] } == 70)
        #expect(HostMemory.groupLimit(of: "0::/\n") { $0.isEmpty ? 5 : nil } == 5)
        #expect(HostMemory.groupLimit(of: "") { $0.isEmpty ? 6 : nil } == 6)
        #expect(HostMemory.groupLimit(of: table) { _ in nil } == nil)
    }

    // MARK: What refuses

    @Test func theSettingDecidesWhatRefuses() {
        let severities: [Finding.Severity] = [.ok, .note, .warning, .error]
        func refused(_ refusal: PreflightCommand.Refusal) -> [Finding.Severity] {
            severities.filter { refusal.refuses($0) }
        }
        #expect(refused(.error) == [.error])
        #expect(refused(.warning) == [.warning, .error])
        #expect(refused(.never).isEmpty)
    }

    @Test func findingsAreLinesOfTheJournal() {
        let report = PreflightReport(
            daemon: .gateway,
            entries: [
                .init(check: "a", finding: .ok("x", "fine")),
                .init(check: "b", finding: .note("x", "slow")),
                .init(check: "c", finding: .warning("x", "low\nroom", "more")),
                .init(check: "d", finding: .error("x", "gone", "bring it")),
            ])
        #expect(
            report.text == """
                <5>preflight of phalanx-gateway: b: x: slow
                <4>preflight of phalanx-gateway: c: x: low?room -> more
                <3>preflight of phalanx-gateway: d: x: gone -> bring it
                <6>preflight of phalanx-gateway: 4 things looked at, 2 to mend

                """)
        #expect(report.worst == .error)
    }

    // MARK: The command

    private static let model = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Fixtures/models/tiny-w8a8").path

    @Test func aCoordinatorThatCouldStartMayStart() {
        let run = ControlRun([
            "doctor", "--preflight", "coordinator", Self.model, "--data-parallel-rpc-port", "0",
        ])
        #expect(run.exit == .success, "\(run.output)")
        #expect(run.output.hasPrefix("<6>preflight of phalanx-coordinator: "))
    }

    @Test func aPortThatSomebodyHoldsKeepsACoordinatorFromStarting() throws {
        let loop = EventLoop()
        let socket = try ZeroMQSocket(
            .router, context: ZeroMQContext(), limits: SocketLimits())
        let endpoint = try socket.bind("tcp://127.0.0.1:*")
        socket.attach(to: loop) { _, _ in }
        let port = try #require(endpoint.split(separator: ":").last.map(String.init))
        let line = [
            "doctor", "--preflight=coordinator", Self.model, "--data-parallel-rpc-port", port,
        ]
        let run = ControlRun(line)
        #expect(run.exit == .finding)
        #expect(run.output.contains("<3>preflight of phalanx-coordinator: port: "))
        #expect(ControlRun(line + ["--preflight-refuse", "never"]).exit == .success)
        socket.detach()
    }

    @Test func everythingThatIsWrongWithAWorkerIsSaidAtOnce() {
        let run = ControlRun([
            "doctor", "--preflight", "worker", "--model", "/no/such/model", "--worker-address",
            "192.0.2.1", "--plaintext-links", "--collectives-device", "nosuch0", "--keys",
            "/no/such/keys",
        ])
        #expect(run.exit == .finding)
        for check in ["checkpoint", "address", "network device", "keys"] {
            #expect(
                run.output.contains("<3>preflight of phalanx-engine-worker: \(check): "),
                "\(run.output)")
        }
    }

    @Test func aCheckThatHangsIsAWarningAndKeepsNobody() {
        let held = Mailbox<Int>(capacity: 1)
        let checks = [
            PreflightCheck(name: "stuck") { _ in
                held.wait(until: MonotonicClock.now() + .seconds(30))
                return []
            },
            PreflightCheck(name: "quick") { _ in [.ok("x", "y")] },
        ]
        guard let options = try? Options(daemon: .worker, arguments: []) else {
            Issue.record("no options")
            return
        }
        let began = MonotonicClock.now()
        let entries = PreflightCommand.entries(checks, options, within: .milliseconds(50))
        #expect(MonotonicClock.now() - began < .seconds(10))
        #expect(entries.map(\.finding.severity) == [.warning, .ok])
        _ = held.post(1)
    }

    static let refusals: [(arguments: [String], part: String)] = [
        (["--preflight"], "takes coordinator, gateway or worker"),
        (["--preflight", "cook"], "not \"cook\""),
        (["--preflight=worker", "--preflight-refuse=maybe"], "error, warning, never"),
        (["--preflight-refuse", "never"], "takes coordinator, gateway or worker"),
        (["--preflight", "gateway", "--lease", "1"], "no option of phalanx-gateway"),
    ]

    @Test(arguments: refusals)
    func aRefusedLineEndsWith64(arguments: [String], part: String) {
        let run = ControlRun(["doctor"] + arguments)
        #expect(run.exit == .usage)
        #expect(run.complaints.contains(part), "\(run.complaints)")
    }
}
