import Protocol

extension ControlFrames {
    static let statusRequest = GoldenFrame(
        name: "status_request", message: envelope(.statusRequest),
        hex: "08011188776655443322111809208104f20100")

    static let statusReport = GoldenFrame(
        name: "status_report", message: envelope(.statusReport(report)),
        hex: "08011188776655443322111809208104fa01ec010a05302e312e30108080f9c0c1c48203"
            + "18c8dc032006280230882738c0cf2440094801504d5a046c6f73746208776f726b657220"
            + "306208776f726b65722031684672090a04736565641201377a9201080112066e6f64652d"
            + "61180120052802300139020100000000000040e7244a05302e312e305002582a60fa0168"
            + "840770017a097463703a2f2f613a2a820109746865206d6f64656c8a013e080110021803"
            + "20a01f2d0000003f3006380740084809508080808020588080808040604d6a05050000ac"
            + "02700e78960180011088018080019001129801139201036162639801097a0508028a01008001ac02")

    static let drainRequest = GoldenFrame(
        name: "drain_request", message: envelope(.drainRequest(dpRank: 300)),
        hex: "0801118877665544332211180920810482020308ac02")

    static let drainReport = GoldenFrame(
        name: "drain_report",
        message: envelope(
            .drainReport(
                DrainReport(
                    dpRank: 3, isAccepted: true, text: "asked",
                    incarnations: [Incarnation(rawValue: 7), Incarnation(rawValue: .max)]))),
        hex: "080111887766554433221118092081048a021d080310011a0561736b6564221007000000"
            + "00000000ffffffffffffffff")

    static let drain = GoldenFrame(
        name: "drain", message: envelope(.drain(reason: "an operator")),
        hex: "0801118877665544332211180920810492020d0a0b616e206f70657261746f72")

    private static let report: StatusReport = {
        var worker = PeerStatus(role: .worker)
        worker.node = "node-a"
        worker.device = 1
        worker.worker = 5
        worker.dpRank = 2
        worker.tpRank = 1
        worker.incarnation = Incarnation(rawValue: 0x0102)
        worker.pid = 4711
        worker.softwareVersion = "0.1.0"
        worker.stage = .loading
        worker.percent = 42
        worker.tickAge = .milliseconds(250)
        worker.silence = .milliseconds(900)
        worker.isMember = true
        worker.endpoint = "tcp://a:*"
        worker.waitsFor = "the model"
        worker.load = load
        worker.modelDigest = "abc"
        worker.failedHandshakes = 9
        var report = StatusReport()
        report.softwareVersion = "0.1.0"
        report.wallClockMicroseconds = 1_700_000_000_000_000
        report.uptime = .seconds(61)
        report.worldSize = 6
        report.tensorParallelSize = 2
        report.lease = .seconds(5)
        report.readyDeadline = .seconds(600)
        report.view = 9
        report.viewState = .forming
        report.viewAge = .milliseconds(77)
        report.viewReason = "lost"
        report.missing = ["worker 0", "worker 1"]
        report.missingCount = 70
        report.configuration = [ConfigurationEntry(key: "seed", value: "7")]
        report.peers = [worker, PeerStatus(role: .gateway)]
        report.failedHandshakes = 300
        return report
    }()
}
