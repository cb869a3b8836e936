import DaemonRuntime
import Protocol
import Testing

@testable import Control

@Suite struct StatusTests {
    @Test func anActiveViewWithAGatewayServes() {
        let health = DeploymentHealth(ReportFixture.active())
        #expect(health.serves)
        #expect(health.notes.isEmpty)
        #expect(
            StatusScreen.text(ReportFixture.active(), endpoint: "tcp://c:1").hasPrefix("serving\n"))
    }

    /// What changes in a deployment that serves, and what the problem is then.
    struct Sickness: Sendable, CustomTestStringConvertible {
        let problem: String
        let change: @Sendable (inout StatusReport) -> Void
        var testDescription: String { problem }
    }

    static let sicknesses = [
        Sickness(problem: "no gateway is here") { $0.peers.removeLast() },
        Sickness(problem: "view 3 is forming") { $0.viewState = .forming },
        // Another thread sends heartbeats while the engine hangs.
        Sickness(problem: "worker 1 (node node-1, device 1) has been in the tick after 0 for 12 s")
        {
            $0.peers[1].tickAge = .seconds(12)
        },
        // Who waits is not named beside the one that it waits for.
        Sickness(
            problem: "worker 1 (node node-1, device 1) keeps 1 worker waiting, for 11 s: it hangs"
        ) {
            for peer in 0..<2 { $0.peers[peer].tickAge = .seconds(12) }
            $0.peers[0].waited = .seconds(11)
            ($0.peers[1].isSuspected, $0.peers[1].waitingWorkers) = (true, 1)
        },
        Sickness(problem: "worker 0 (node node-0, device 0) has been silent for 2.5 s") {
            $0.peers[0].silence = .milliseconds(2500)
        },
        Sickness(problem: "the gateway on front has been silent for 4.0 s") {
            $0.peers[2].silence = .seconds(4)
        },
    ]

    @Test(arguments: sicknesses)
    func whatIsWrongIsTheReason(sickness: Sickness) {
        var report = ReportFixture.active()
        sickness.change(&report)
        let health = DeploymentHealth(report)
        #expect(health.problems.count == 1)
        #expect(health.problems[0].hasPrefix(sickness.problem), "\(health.problems)")
    }

    @Test func aTickIsSuspiciousAtTheExchangesDeadline() {
        var report = ReportFixture.active()
        report.configuration[2] = ConfigurationEntry(key: "exchange-timeout", value: "3000")
        report.peers[0].tickAge = .milliseconds(3100)
        #expect(!DeploymentHealth(report).serves)
        report.peers[0].tickAge = .milliseconds(2900)
        #expect(DeploymentHealth(report).serves)
    }

    /// Two workers that wait for each other: nobody is to blame, so both are named.
    @Test func whereNobodyIsSuspectedAllWhoHangAreNamed() {
        var report = ReportFixture.active()
        for peer in 0..<2 {
            report.peers[peer].tickAge = .seconds(12)
            report.peers[peer].waited = .seconds(11)
        }
        #expect(DeploymentHealth(report).problems.count == 2)
    }

    @Test func aShortWaitAndAWorkerThatIsDoneWithoutAreNotes() {
        var report = ReportFixture.active()
        report.peers[0].waited = .seconds(3)
        (report.peers[1].isSuspected, report.peers[1].waitingWorkers) = (true, 1)
        #expect(DeploymentHealth(report).serves)
        #expect(DeploymentHealth(report).notes.first?.contains("keeps 1 worker waiting") == true)
        report.peers[0].waited = .zero
        report.peers[1].waitingWorkers = 0
        #expect(DeploymentHealth(report).serves)
        #expect(DeploymentHealth(report).notes.first?.contains("do without it") == true)
    }

    @Test func aShortLeaseMakesNoNoise() {
        var report = ReportFixture.active()
        report.lease = .milliseconds(500)
        report.peers[0].silence = .milliseconds(400)
        #expect(DeploymentHealth(report).serves)
    }

    @Test func otherVersionsAndDrainsAreNotes() {
        var report = ReportFixture.active()
        report.peers[0].softwareVersion = "0.0.9"
        report.peers[1].stage = .draining
        let health = DeploymentHealth(report)
        #expect(health.serves)
        #expect(health.notes.count == 2)
        #expect(health.notes[0].contains("0.0.9"))
        #expect(health.notes[1].contains("drains"))
    }

    @Test func theScreenBeginsWithTheReasonAndHasALineAWorker() {
        let text = StatusScreen.text(ReportFixture.retired(), endpoint: "tcp://c:1")
        #expect(text.hasPrefix("not serving: worker 1 has not said HELLO\n"), "\(text)")
        #expect(text.contains("note: the last view ended: worker 1 (node b, device 0) left"))
        let lines = text.split(separator: "\n").filter { $0.hasPrefix("0 ") || $0.hasPrefix("1 ") }
        #expect(lines.count == 2)
        #expect(lines[0].contains("standby") && lines[0].hasSuffix("the other workers"))
        #expect(lines[1].contains("missing") && lines[1].hasSuffix("its HELLO"))
    }

    @Test func bothRanksOfAWorkerAreShown() {
        var report = ReportFixture.active(workers: 4)
        report.tensorParallelSize = 2
        report.peers =
            (0..<4).map { ReportFixture.worker($0, tensorParallelSize: 2) } + [
                ReportFixture.gateway()
            ]
        let text = StatusScreen.text(report, endpoint: "tcp://c:1")
        #expect(text.contains("demo, DP 2 x TP 2, experts over 4 workers"))
        #expect(text.contains("\n3       1   1   node-3"), "\(text)")
    }

    @Test func moreMissingWorkersThanAreNamedAreCounted() {
        var report = ReportFixture.retired()
        report.missingCount = 500
        #expect(DeploymentHealth(report).problems[0].hasSuffix("HELLO; and 499 more"))
    }

    @Test func theJSONHoldsWhatTheReportHolds() throws {
        var report = ReportFixture.retired()
        report.peers[0].node = "a \"quoted\"\n\u{1} node"
        report.peers[0].load.tickTokens = 5
        report.peers[0].load.tickTokensMax = 10
        report.peers[0].load.tickTokensGroup = 16
        let text = StatusJSON.text(report, endpoint: "tcp://c:1")
        #expect(text.filter { $0 == "\n" }.count == 1)
        let root = try JSONDocument(Array(text.utf8)).root
        #expect(root["serving"]?.bool == false)
        #expect(root["view"]?["number"]?.integer == 3)
        let worker = try #require(root["workers"]?.array?.first)
        #expect(worker["node"]?.string == "a \"quoted\"\n\u{1} node")
        #expect(worker["load"]?["imbalance"]?.double == 1.25)
        #expect(root["problems"]?.array?.first?.string == "worker 1 has not said HELLO")
    }

    @Test func failedHandshakesAreShownWhereThereAreSome() throws {
        var report = ReportFixture.active()
        #expect(!StatusScreen.text(report, endpoint: "tcp://c:1").contains("handshakes"))
        (report.failedHandshakes, report.peers[1].failedHandshakes) = (3, 20)
        let line =
            "failed handshakes: 3 of the coordinator, 20 of worker 1 (node node-1, device 1)\n"
        #expect(StatusScreen.text(report, endpoint: "tcp://c:1").contains(line))
        let root = try JSONDocument(Array(StatusJSON.text(report, endpoint: "x").utf8)).root
        #expect(root["coordinator"]?["failed_handshakes"]?.integer == 3)
        #expect(root["workers"]?.array?.last?["failed_handshakes"]?.integer == 20)
    }

    @Test func aNodesNameDoesNotDriveTheTerminal() {
        var report = ReportFixture.active()
        report.peers[0].node = "evil\u{1B}[2J\u{9B}x"
        report.peers[0].tickAge = .seconds(60)
        let text = StatusScreen.text(report, endpoint: "tcp://c:1")
        #expect(!text.contains("\u{1B}") && !text.contains("\u{9B}"))
        #expect(text.contains("evil?[2J?x"))
    }

    @Test func numbersAreReadable() {
        #expect(Readable.time(.zero) == "0.0 ms")
        #expect(Readable.time(Interval(nanoseconds: 1_250_000)) == "1.3 ms")
        #expect(Readable.time(.milliseconds(99)) == "99 ms")
        #expect(Readable.time(.milliseconds(1500)) == "1.5 s")
        #expect(Readable.time(.seconds(59)) == "59 s")
        #expect(Readable.time(.seconds(185)) == "3 min 5 s")
        #expect(Readable.time(.seconds(7800)) == "2 h 10 min")
        #expect(Readable.number(-0.04) == "0.0")
        #expect(Readable.number(.infinity) == "-")
        #expect(Readable.number(12.345, decimals: 2) == "12.35")
        #expect(Readable.bytes(1536) == "1.5 KiB")
        #expect(Readable.bytes(5) == "5 B")
    }
}
