import DaemonRuntime
import Protocol
import Testing

@testable import Control

/// The operator's connection against a coordinator's socket on loopback, in one loop.
@Suite struct OperatorLinkTests {
    private final class Answering {
        var questions: [ControlMessage] = []
        var identities: [[UInt8]] = []
    }

    private func router() throws -> (socket: ZeroMQSocket, endpoint: String) {
        let socket = try ZeroMQSocket(.router, context: ZeroMQContext(), limits: SocketLimits())
        return (socket, try socket.bind("tcp://127.0.0.1:*"))
    }

    private func message(_ body: ControlBody) -> [UInt8] {
        ControlMessage(
            incarnation: Incarnation(rawValue: 1), view: 0, sequence: 1, body: body
        ).encoded()
    }

    @Test func aQuestionThatIsNotAnsweredIsAskedAgain() throws {
        let (socket, endpoint) = try router()
        let link = try OperatorLink(endpoint: endpoint, security: .plaintext)
        let heard = Answering()
        socket.attach(to: link.loop) { identity, frame in
            if let question = try? ControlMessage.decode(frame) { heard.questions.append(question) }
            heard.identities.append(identity)
            // The first is lost, then comes something that is no answer.
            if heard.questions.count == 2 {
                _ = socket.send([0xFF, 0xFF], to: identity)
                _ = socket.send(message(.drain(reason: "")), to: identity)
                _ = socket.send(message(.statusReport(ReportFixture.active())), to: identity)
            }
        }
        let report = try link.status(within: .seconds(30))
        #expect(report == ReportFixture.active())
        #expect(heard.questions.map(\.body) == [.statusRequest, .statusRequest])
        #expect(Set(heard.identities).count == 1)
        #expect(heard.identities[0].first == ControlIdentity.operatorRole)
        socket.detach()
        link.close()
    }

    @Test func silenceIsAnErrorWithTheAddressAndTheRemedy() throws {
        // Bound and never read: nobody answers.
        let (socket, endpoint) = try router()
        let link = try OperatorLink(endpoint: endpoint, security: .plaintext)
        do throws(ControlError) {
            _ = try link.status(within: .milliseconds(50))
            Issue.record("answered")
        } catch {
            #expect(error.description.contains("no coordinator answers at \(endpoint)"))
            #expect(error.description.contains("--data-parallel-address"))
            #expect(error.exit == .finding)
        }
        socket.detach()
        link.close()
    }

    @Test func anAddressThatIsNoneIsRefused() {
        let run = ControlRun(["status", "--data-parallel-address", "no such host"])
        #expect(run.exit == .finding)
        #expect(run.complaints.contains("--data-parallel-address"), "\(run.complaints)")
    }

    static let refusals: [(arguments: [String], part: String)] = [
        (["status", "--jsn"], "did you mean --json?"),
        (["status", "--port", "1"], "unknown option \"--port\""),
        (["status", "x"], "one argument too many"),
        (["status", "--timeout", "0"], "--timeout takes 1...86400 whole seconds"),
        (["status", "--timeout"], "not nothing"),
        (["status", "--data-parallel-rpc-port", "70000"], "is not in 0...65535"),
        (["drain"], "which DP rank?"),
        (["drain", "-1"], "unknown option"),
        (["drain", "x"], "\"x\" is no DP rank"),
        (["drain", "1", "2"], "one argument too many"),
        (["top", "--json"], "unknown option"),
        (["doctor", "--worker-adress", "x"], "did you mean \"worker-address\"?"),
        (["doctor", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
    ]

    @Test(arguments: refusals)
    func aRefusedCommandLineEndsWith64(arguments: [String], part: String) {
        let run = ControlRun(arguments)
        #expect(run.exit == .usage)
        #expect(run.complaints.contains(part), "\(run.complaints)")
        #expect(run.output.isEmpty)
    }
}
