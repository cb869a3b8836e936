import Protocol
import Testing

@testable import DaemonRuntime

/// A link against a coordinator that says what the test wants.
@Suite final class ControlLinkTests {
    let loop = EventLoop()
    let context = ZeroMQContext()
    let coordinator: ZeroMQSocket
    let endpoint: String
    var received: [ControlMessage] = []
    var identities: [[UInt8]] = []
    var events: [ControlLink.Event] = []

    init() throws {
        coordinator = try ZeroMQSocket(.router, context: context, limits: SocketLimits())
        endpoint = try coordinator.bind("tcp://127.0.0.1:*")
        coordinator.attach(to: loop) { [unowned self] identity, frame in
            identities.append(identity)
            if let message = try? ControlMessage.decode(frame) { received.append(message) }
        }
    }

    func link() throws -> ControlLink {
        let hello = Hello(
            role: .worker, node: "n", device: 1, pid: 2, softwareVersion: "0", declared: [])
        return try ControlLink(
            endpoint: endpoint, hello: hello, incarnation: Incarnation(rawValue: 0x0102),
            context: context, loop: loop, logger: Logger(daemon: "test", threshold: .error)
        ) { [unowned self] in events.append($0) }
    }

    func answer(_ body: ControlBody) {
        let message = ControlMessage(
            incarnation: Incarnation(rawValue: 1), view: 0, sequence: 1, body: body)
        #expect(coordinator.send(message.encoded(), to: identities.last ?? []) == .sent)
    }

    static let configuration = AssignedConfiguration(
        worker: 3, dpRank: 3, tpRank: 0, entries: [], lease: .milliseconds(50),
        readyDeadline: .seconds(1), position: GroupPosition(rank: 3, worldSize: 4))

    func hellos() -> Int {
        received.count { message in
            if case .hello = message.body { true } else { false }
        }
    }

    func heartbeats() -> [UInt64] {
        received.compactMap { message in
            if case .heartbeat = message.body { message.sequence } else { nil }
        }
    }

    func configurations() -> Int {
        events.count { event in
            if case .configured = event { true } else { false }
        }
    }

    func configure() {
        #expect(loop.run(until: deadline()) { self.hellos() > 0 })
        let before = configurations()
        answer(.config(Self.configuration))
        #expect(loop.run(until: deadline()) { self.configurations() > before })
    }

    @Test func helloIsRepeatedUntilItIsAnswered() throws {
        let link = try link()
        #expect(loop.run(until: deadline()) { self.hellos() >= 2 })
        #expect(Set(identities).count == 1)
        #expect(heartbeats().isEmpty)
        configure()
        guard case .configured(let configuration) = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(configuration == Self.configuration)
        let before = hellos()
        let end = MonotonicClock.now() + ControlLink.helloEvery + .milliseconds(100)
        #expect(!loop.run(until: end) { self.hellos() > before })
        link.close()
    }

    /// A coordinator that was reloaded says anew what counts; an earlier release says nothing.
    @Test func limitsThatComeLaterAreTold() throws {
        let link = try link()
        configure()
        var changed = AssignedConfiguration(
            worker: 3, dpRank: 3, tpRank: 0,
            entries: [ConfigurationEntry(key: "max-logprobs", value: "5")], lease: .seconds(3600),
            readyDeadline: .seconds(1), position: GroupPosition(rank: 3, worldSize: 4))
        changed.protocolVersion = Self.configuration.protocolVersion
        answer(.config(changed))
        func limits() -> [ConfigurationEntry]? {
            for case .limits(let entries) in events { return entries }
            return nil
        }
        #expect(loop.run(until: deadline()) { limits() != nil })
        #expect(limits() == changed.entries && configurations() == 1)
        link.close()
    }

    @Test func theLastPlaceCounts() throws {
        let link = try link()
        configure()
        // The same again says nothing new.
        answer(.config(Self.configuration))
        answer(.config(Self.configuration.at(worker: 2)))
        #expect(loop.run(until: deadline()) { self.configurations() >= 2 })
        guard case .configured(let last) = events.last else {
            Issue.record("\(events)")
            return
        }
        #expect(last.worker == 2 && configurations() == 2)
        link.close()
    }

    @Test func whatIsSaidIsInTheVersionThatTheCoordinatorChose() throws {
        let link = try link()
        link.heartbeat = {
            Heartbeat(stage: .loading, percent: 7, load: RankLoad(), tickAge: .zero)
        }
        #expect(loop.run(until: deadline()) { self.hellos() > 0 })
        var chosen = Self.configuration
        chosen.protocolVersion = ProtocolVersion.current
        answer(.config(chosen))
        #expect(loop.run(until: deadline()) { self.heartbeats().count >= 1 })
        #expect(received.first?.protocolVersion == ProtocolVersion.oldest)
        #expect(received.last?.protocolVersion == ProtocolVersion.current)
        // A coordinator that knows nothing of it may be an older one.
        let before = hellos()
        answer(.refuse(Refusal(reason: .unknownPeer, text: "who?")))
        #expect(loop.run(until: deadline()) { self.hellos() > before })
        #expect(received.last?.protocolVersion == ProtocolVersion.oldest)
        link.close()
    }

    @Test func aChoiceThatWasNotOfferedIsRefused() throws {
        let link = try link()
        #expect(loop.run(until: deadline()) { self.hellos() > 0 })
        var chosen = Self.configuration
        chosen.protocolVersion = ProtocolVersion.current + 1
        answer(.config(chosen))
        #expect(loop.run(until: deadline()) { !self.events.isEmpty })
        guard case .refused(let refusal) = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(refusal.reason == .protocolVersion)
        #expect(refusal.text.contains("protocol \(ProtocolVersion.current + 1)"))
        #expect(link.protocolVersion == ProtocolVersion.oldest)
        link.close()
    }

    /// Who knows a process's incarnation, which views and reports tell, cannot come as it.
    @Test func identitiesCannotBeGuessedFromIncarnations() throws {
        let links = [try link(), try link()]
        #expect(loop.run(until: deadline()) { Set(self.identities).count == 2 })
        for identity in identities {
            #expect(identity.count == 17)
            #expect(Array(identity.prefix(9)) == [1, 0, 0, 0, 0, 0, 0, 1, 2])
        }
        for link in links { link.close() }
    }

    /// What the coordinator wants tried is tried beside the loop, and answered by itself.
    @Test func theWaysToOtherWorkersAreTriedWhenAsked() throws {
        let link = try link()
        configure()
        func results() -> [ProbeResult] {
            received.compactMap { message in
                if case .probeResult(let result) = message.body { result } else { nil }
            }
        }
        for round in 1...2 as ClosedRange<UInt64> {
            answer(
                .probe(
                    Probe(
                        round: round,
                        targets: [
                            .init(worker: 0, endpoint: endpoint),
                            .init(worker: 1, endpoint: "ipc://x"),
                            .init(worker: 2, endpoint: "tcp://a.name.that.is.not.asked.for:1"),
                        ])))
            #expect(loop.run(until: deadline()) { results().count == Int(round) })
            let result = try #require(results().last)
            #expect(result.round == round)
            #expect(result.ways.map { $0.time != nil } == [true, false, false])
            #expect(result.ways[1].problem == "it has no TCP endpoint")
            #expect(!result.ways[2].problem.isEmpty)
        }
        link.close()
    }

    @Test func heartbeatsKeepTheLeaseOnceConfigured() throws {
        let link = try link()
        link.heartbeat = {
            Heartbeat(stage: .loading, percent: 7, load: RankLoad(), tickAge: .zero)
        }
        configure()
        link.view = 9
        #expect(loop.run(until: deadline()) { self.heartbeats().count >= 4 })
        let sequences = received.map(\.sequence)
        #expect(sequences == sequences.sorted() && Set(sequences).count == sequences.count)
        #expect(received.last?.view == 9)
        #expect(received.last?.incarnation == Incarnation(rawValue: 0x0102))
        link.close()
    }

    @Test func aCoordinatorThatDoesNotKnowThePeerGetsAnotherHello() throws {
        let link = try link()
        configure()
        let before = hellos()
        answer(.refuse(Refusal(reason: .unknownPeer, text: "who?")))
        #expect(loop.run(until: deadline()) { self.hellos() > before })
        configure()
        #expect(configurations() == 2)
        link.close()
    }

    @Test func everythingElseGoesToTheOwner() throws {
        let link = try link()
        configure()
        let view = View(
            number: 4, state: .retired, members: [], configurationDigest: 5, reason: "x")
        answer(.view(view))
        answer(.wake(view: 4, fromTick: 6))
        answer(.loadUpdate([RankLoad()]))
        answer(.heartbeatAck(sequence: 1))
        answer(.leave(reason: "only peers say this"))
        #expect(coordinator.send([0xFF], to: identities.last ?? []) == .sent)
        answer(.refuse(Refusal(reason: .groupFull, text: "wait")))
        answer(.refuse(Refusal(reason: .model, text: "another model")))
        #expect(loop.run(until: deadline()) { self.events.count == 5 })
        guard case .view(view) = events[1], case .wake(4, 6) = events[2],
            case .loads([RankLoad()]) = events[3], case .refused(let refusal) = events[4]
        else {
            Issue.record("\(events)")
            return
        }
        #expect(refusal == Refusal(reason: .model, text: "another model"))
        link.close()
    }
}

extension AssignedConfiguration {
    fileprivate func at(worker: UInt32) -> AssignedConfiguration {
        AssignedConfiguration(
            worker: worker, dpRank: worker, tpRank: tpRank, entries: entries, lease: lease,
            readyDeadline: readyDeadline, position: position)
    }
}
