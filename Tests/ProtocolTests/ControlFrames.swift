import Protocol

/// One frame of every kind of control message, with every field set, as version 1 writes it.
/// A frame that changes here breaks a deployment of mixed versions: raise `ProtocolVersion`.
enum ControlFrames {
    static let all: [GoldenFrame<ControlMessage>] = [
        hello, placedHello, config, refuse, ready, view, viewJoined, heartbeat, heartbeatAck,
        wakeRequest, wake, wakeAck, peerSilent, loadUpdate, leave, statusRequest, statusReport,
        drainRequest, drainReport, drain,
    ]

    static let hello = GoldenFrame(
        name: "hello",
        message: envelope(
            .hello(
                Hello(
                    role: .worker, node: "node-a", device: 3, pid: 4711, softwareVersion: "0.1.0",
                    declared: [
                        ConfigurationEntry(key: "model", value: "/models/köln"),
                        ConfigurationEntry(key: "seed", value: "7"),
                    ]))),
        hex: "08011188776655443322111809208104523d080112066e6f64652d61180320e7242a0530"
            + "2e312e303001380142160a056d6f64656c120d2f6d6f64656c732f6bc3b66c6e42090a04"
            + "73656564120137")

    /// Of a worker that has been told where it belongs.
    static let placedHello = GoldenFrame(
        name: "placedHello",
        message: envelope(
            .hello(
                {
                    var hello = Hello(
                        role: .worker, node: "b", device: 1, pid: 2, softwareVersion: "0",
                        declared: [])
                    (hello.worker, hello.startRank, hello.devicePlace) = (9, 2, 3)
                    return hello
                }())),
        hex: "0801118877665544332211180920810452160801120162180120022a0130300138014"
            + "80a50035803")

    static let config = GoldenFrame(
        name: "config",
        message: envelope(
            .config(
                AssignedConfiguration(
                    worker: 5, dpRank: 2, tpRank: 1,
                    entries: [ConfigurationEntry(key: "block-size", value: "16")],
                    lease: .milliseconds(5000), readyDeadline: .seconds(600)))),
        hex: "080111887766554433221118092081045a1f08051002180122100a0a626c6f636b2d7369"
            + "7a651202313628882730c0cf24")

    static let refuse = GoldenFrame(
        name: "refuse",
        message: envelope(
            .refuse(
                Refusal(
                    reason: .configuration, text: "differs",
                    differences: [
                        ConfigurationDifference(
                            key: "seed", coordinatorValue: "1", peerValue: "2")
                    ]))),
        hex: "08011188776655443322111809208104621908021207646966666572731a0c0a04736565"
            + "641201311a0132")

    static let ready = GoldenFrame(
        name: "ready",
        message: envelope(
            .ready(
                Ready(
                    endpoint: "tcp://host:*", collectivesAddress: [0, 1, 0xFF],
                    modelDigest: "abc", blockCount: 1000, blockSize: 16))),
        hex: "080111887766554433221118092081046a1d0a0c7463703a2f2f686f73743a2a12030001"
            + "ff1a0361626320e8072810")

    static let view = GoldenFrame(
        name: "view",
        message: envelope(
            .view(
                View(
                    number: 9, state: .active, members: [member(0), member(1)],
                    configurationDigest: 0xDEAD_BEEF_0000_0001, reason: "why"))),
        hex: "08011188776655443322111809208104726c080910021a292164000000000000002a066e"
            + "6f64652d30320e7463703a2f2f6e6f64652d303a2a3a020002404048101a2d0801100121"
            + "65000000000000002a066e6f64652d31320e7463703a2f2f6e6f64652d313a2a3a020102"
            + "404048102101000000efbeadde2a03776879")

    static let viewJoined = GoldenFrame(
        name: "view_joined",
        message: envelope(.viewJoined(view: 9)),
        hex: "080111887766554433221118092081047a020809")

    static let heartbeat = GoldenFrame(
        name: "heartbeat",
        message: envelope(
            .heartbeat(
                Heartbeat(
                    stage: .loading, percent: 42, load: load, tickAge: .milliseconds(250),
                    failedHandshakes: 300))),
        hex: "0801118877665544332211180920810482014a0802102a1a3e08011002180320a01f2d00"
            + "00003f3006380740084809508080808020588080808040604d"
            + "6a05050000ac02700e789601800110880180800190011298011320fa0128ac02")

    static let heartbeatAck = GoldenFrame(
        name: "heartbeat_ack",
        message: envelope(.heartbeatAck(sequence: .max)),
        hex: "080111887766554433221118092081048a010b08ffffffffffffffffff01")

    static let wakeRequest = GoldenFrame(
        name: "wake_request",
        message: envelope(.wakeRequest(view: 9, fromTick: 1 << 40)),
        hex: "08011188776655443322111809208104920109080910808080808020")

    static let wake = GoldenFrame(
        name: "wake",
        message: envelope(.wake(view: 9, fromTick: 77)),
        hex: "080111887766554433221118092081049a01040809104d")

    static let wakeAck = GoldenFrame(
        name: "wake_ack",
        message: envelope(.wakeAck(view: 9, fromTick: 78)),
        hex: "08011188776655443322111809208104a201040809104e")

    static let peerSilent = GoldenFrame(
        name: "peer_silent",
        message: envelope(.peerSilent(view: 9, tick: 80, workers: [1, 300], reason: "late")),
        hex: "08011188776655443322111809208104aa010f080910501a0301ac0222046c617465")

    static let loadUpdate = GoldenFrame(
        name: "load_update",
        message: envelope(.loadUpdate([load, RankLoad()])),
        hex: "08011188776655443322111809208104b201420a3e08011002180320a01f2d0000003f30"
            + "06380740084809508080808020588080808040604d"
            + "6a05050000ac02700e78960180011088018080019001129801130a00")

    static let leave = GoldenFrame(
        name: "leave",
        message: envelope(.leave(reason: "SIGTERM")),
        hex: "08011188776655443322111809208104ba01090a075349475445524d")

    static let load: RankLoad = {
        var load = RankLoad()
        load.dpRank = 1
        load.running = 2
        load.waiting = 3
        load.pendingPrefillTokens = 4000
        load.kvCacheUsage = 0.5
        load.tick = 6
        load.dummyTicks = 7
        load.preemptions = 8
        load.promptTokens = 9
        load.generationTokens = 1 << 33
        load.prefixCacheQueries = 1 << 34
        load.prefixCacheHits = 77
        load.stageTimes[.schedule] = 5
        load.stageTimes[.attentionProjection] = 300
        load.paddedTokens = 14
        load.exchangeWait = Interval(nanoseconds: 150)
        load.tickTokens = 16
        load.tickTokensMax = 1 << 14
        load.tickTokensGroup = 18
        load.submissions = 19
        return load
    }()

    static func envelope(_ body: ControlBody) -> ControlMessage {
        ControlMessage(
            protocolVersion: 1, incarnation: Incarnation(rawValue: 0x1122_3344_5566_7788),
            view: 9, sequence: 513, body: body)
    }

    static func member(_ worker: UInt32) -> Member {
        Member(
            worker: worker, dpRank: worker, tpRank: 0,
            incarnation: Incarnation(rawValue: 100 + UInt64(worker)), node: "node-\(worker)",
            endpoint: "tcp://node-\(worker):*", collectivesAddress: [UInt8(worker), 2],
            blockCount: 64, blockSize: 16)
    }
}
