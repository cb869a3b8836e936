import Protocol

/// What version 2 writes otherwise than version 1, with every field set.

extension ControlFrames {
    static let ofVersionTwo: [GoldenFrame<ControlMessage>] = [
        configOfVersionTwo, readyOfVersionTwo, viewOfVersionTwo, statusReportOfVersionTwo,
        heartbeatOfVersionTwo, peerSilentOfVersionTwo,
    ]

    /// Messages that version 1 has not at all, and that are never sent in it.
    static let newInVersionTwo: [GoldenFrame<ControlMessage>] = [prepare, prepared, askToLeave]

    static let configOfVersionTwo = GoldenFrame(
        name: "config of version 2",
        message: envelopeOfVersionTwo(
            .config(
                {
                    var configuration = AssignedConfiguration(
                        worker: 5, dpRank: 2, tpRank: 1,
                        entries: [ConfigurationEntry(key: "block-size", value: "16")],
                        lease: .milliseconds(5000), readyDeadline: .seconds(600),
                        position: GroupPosition(rank: 5, worldSize: 8))
                    configuration.protocolVersion = 2
                    return configuration
                }())),
        version: 2,
        hex: "080211887766554433221118092081045a2708051002180122100a0a626c6f636b2d73"
            + "697a651202313628882730c0cf243802420408051008")

    static let readyOfVersionTwo = GoldenFrame(
        name: "ready of version 2",
        message: envelopeOfVersionTwo(
            .ready(
                Ready(
                    endpoint: "tcp://host:*", collectivesAddress: [0, 1, 0xFF],
                    modelDigest: "abc", blockCount: 1000, blockSize: 16,
                    position: GroupPosition(rank: 5, worldSize: 8)))),
        version: 2,
        hex: "080211887766554433221118092081046a230a0c7463703a2f2f686f73743a2a12030001"
            + "ff1a0361626320e80728103a0408051008")

    static let heartbeatOfVersionTwo = GoldenFrame(
        name: "heartbeat of version 2",
        message: envelopeOfVersionTwo(
            .heartbeat(
                Heartbeat(
                    stage: .loading, percent: 42, load: load, tickAge: .milliseconds(250),
                    failedHandshakes: 300,
                    wait: Heartbeat.Wait(workers: [1, 300], time: .milliseconds(1500))))),
        version: 2,
        hex: "080211887766554433221118092081048201520802102a1a3e08011002180320a01f2d00"
            + "00003f3006380740084809508080808020588080808040604d"
            + "6a05050000ac02700e789601800110880180800190011298011320fa0128ac023203"
            + "01ac0238dc0b")

    static let peerSilentOfVersionTwo = GoldenFrame(
        name: "peer_silent of version 2",
        message: envelopeOfVersionTwo(
            .peerSilent(view: 9, tick: 80, workers: [1, 300], reason: "late", isTimeout: true)),
        version: 2,
        hex: "08021188776655443322111809208104aa0111080910501a0301ac0222046c6174652801")

    static let prepare = GoldenFrame(
        name: "prepare",
        message: envelopeOfVersionTwo(.prepare(GroupPosition(rank: 5, worldSize: 8))),
        version: 2,
        hex: "08021188776655443322111809208104c201060a0408051008")

    static let prepared = GoldenFrame(
        name: "prepared",
        message: envelopeOfVersionTwo(
            .prepared(GroupPosition(rank: 5, worldSize: 8), failure: "no memory")),
        version: 2,
        hex: "08021188776655443322111809208104ca01110a040805100812096e6f206d656d6f7279")

    static let askToLeave = GoldenFrame(
        name: "ask_to_leave",
        message: envelopeOfVersionTwo(.askToLeave(reason: "stopped")),
        version: 2,
        hex: "08021188776655443322111809208104d201090a0773746f70706564")

    static let viewOfVersionTwo = GoldenFrame(
        name: "view of version 2",
        message: envelopeOfVersionTwo(
            .view(
                View(
                    number: 9, state: .active, members: [member(0)],
                    configurationDigest: 0xDEAD_BEEF_0000_0001, reason: "why", protocolVersion: 2,
                    hasServed: true))
        ),
        version: 2,
        hex: "080211887766554433221118092081047241080910021a292164000000000000002a06"
            + "6e6f64652d30320e7463703a2f2f6e6f64652d303a2a3a020002404048102101000000"
            + "efbeadde2a0377687930023801")

    static let statusReportOfVersionTwo = GoldenFrame(
        name: "status_report of version 2",
        message: envelopeOfVersionTwo(
            .statusReport(
                {
                    var peer = PeerStatus(role: .gateway)
                    peer.protocolVersion = 2
                    peer.failedHandshakes = 9
                    peer.waited = .milliseconds(1500)
                    peer.isSuspected = true
                    peer.waitingWorkers = 7
                    var report = StatusReport()
                    report.worldSize = 1
                    report.protocolVersion = 2
                    report.viewProtocolVersion = 2
                    report.failedHandshakes = 300
                    report.peers = [peer]
                    return report
                }())),
        version: 2,
        hex: "08021188776655443322111809208104fa01272001280148037a1508028a0100980102"
            + "a00109a801dc0bb00101b801078001028801029001ac02")

    // MARK: Messages that came with version 2

    static let probes: [GoldenFrame<ControlMessage>] = [
        probeRequest, probe, probeResult, probeReport,
    ]

    static let probeRequest = GoldenFrame(
        name: "probe_request",
        message: envelopeOfVersionTwo(
            .probeRequest),
        version: 2,
        hex: "080211887766554433221118092081049a0200")

    static let probe = GoldenFrame(
        name: "probe",
        message: envelopeOfVersionTwo(
            .probe(
                Probe(
                    round: 7,
                    targets: [
                        .init(worker: 0, endpoint: "tcp://a:*"),
                        .init(worker: 300, endpoint: "tcp://b:*"),
                    ]))),
        version: 2,
        hex: "08021188776655443322111809208104a20226090700000000000000120b1209746370"
            + "3a2f2f613a2a120e08ac0212097463703a2f2f623a2a")

    static let probeResult = GoldenFrame(
        name: "probe_result",
        message: envelopeOfVersionTwo(
            .probeResult(
                ProbeResult(
                    round: 7,
                    ways: [
                        ProbeWay(worker: 300, time: Interval(nanoseconds: 1_500_000)),
                        ProbeWay(worker: 2, time: nil, problem: "refused"),
                    ]))),
        version: 2,
        hex: "08021188776655443322111809208104aa021e090700000000000000120608ac0210dd"
            + "0b120b08021a0772656675736564")

    static let probeReport = GoldenFrame(
        name: "probe_report",
        message: envelopeOfVersionTwo(
            .probeReport(
                ProbeReport(
                    round: 7,
                    rows: [
                        .init(
                            worker: 0,
                            ways: [
                                ProbeWay(worker: 300, time: Interval(nanoseconds: 1_500_000))
                            ]),
                        .init(worker: 1, problem: "is missing"),
                    ]))),
        version: 2,
        hex: "08021188776655443322111809208104b2022309070000000000000012081a0608ac02"
            + "10dd0b120e0801120a6973206d697373696e67")

    static func envelopeOfVersionTwo(_ body: ControlBody) -> ControlMessage {
        ControlMessage(
            protocolVersion: 2, incarnation: Incarnation(rawValue: 0x1122_3344_5566_7788),
            view: 9, sequence: 513, body: body)
    }
}

extension GatewayFrames {
    static let openOfVersionTwo = GoldenFrame(
        name: "open of version 2",
        message: GatewayMessage.open(
            protocols: ProtocolRange(oldest: 1, newest: 2),
            gateway: Incarnation(rawValue: 0xA0B0_C0D0_E0F0_0102), view: 4),
        version: 2,
        hex: "0a0f0801110201f0e0d0c0b0a018042002")
}

extension LeaderFrames {
    static let openedOfVersionTwo = GoldenFrame(
        name: "opened of version 2",
        message: LeaderMessage.opened(
            {
                var opened = Opened(worker: Incarnation(rawValue: 12), view: 4, requestsMax: 1280)
                opened.protocolVersion = 2
                opened.refusal = "no"
                return opened
            }()),
        version: 2,
        hex: "0a14090c00000000000000100418800a20022a026e6f")
}
