internal import DaemonRuntime
internal import Protocol

/// Coordinator, clocks, ports, addresses and connections. What is judged stands in functions
/// without I/O, beside the closures that look.
enum NetworkChecks {
    static let all = [
        DoctorCheck(name: "coordinator") { coordinator($0) },
        DoctorCheck(name: "configuration") { configuration($0) },
        DoctorCheck(name: "clock") { context in
            guard let coordinator = context.coordinator else { return [] }
            return [clock(coordinator.clockOffset, roundTrip: coordinator.roundTrip)]
        },
        DoctorCheck(name: "port") { ports($0) },
        DoctorCheck(name: "address") { addresses($0) },
        DoctorCheck(name: "interface") { context in
            NetworkProbe.interfaces().filter { $0.isUp }.map {
                interface($0, carriesCollectives: carriesCollectives($0, context))
            }
        },
        DoctorCheck(name: "device") { devices($0) },
        DoctorCheck(name: "worker") { workers($0) },
        DoctorCheck(name: "pairs") { context in
            guard let report = context.coordinator?.report else { return [] }
            return PairChecks.pairs(report, context.probes)
        },
    ]

    // MARK: The coordinator

    private static func coordinator(_ context: DoctorContext) -> [Finding] {
        if let coordinator = context.coordinator {
            let health = DeploymentHealth(coordinator.report)
            let answered = Finding.ok(
                context.endpoint,
                "version \(coordinator.report.softwareVersion) answers in "
                    + "\(Readable.time(coordinator.roundTrip))")
            return [answered]
                + health.problems.map {
                    .warning("deployment", $0, "phalanxctl status shows who is missing")
                }
        }
        guard let (host, port) = NetworkProbe.parts(of: context.endpoint) else { return [] }
        switch ConnectionProbe.connect(host, port, within: context.timeout) {
        case .connected:
            return [
                .error(
                    context.endpoint, "something takes connections there and is no coordinator",
                    "another --data-parallel-rpc-port, or stop it")
            ]
        case .failed(let reason):
            if NetworkProbe.isLocal(host) {
                return [
                    .note(
                        context.endpoint, "no coordinator runs (\(reason))",
                        "start phalanx-coordinator here")
                ]
            }
            return [
                .error(
                    context.endpoint, "no coordinator is reached: \(reason)",
                    "start it there, or look at routes and firewalls for its port")
            ]
        }
    }

    private static func configuration(_ context: DoctorContext) -> [Finding] {
        guard let report = context.coordinator?.report else { return [] }
        return context.declared.compactMap { entry in
            let theirs = report.option(entry.key) ?? ""
            guard theirs != StatusReport.cut(entry.value, toBytes: StatusReport.valueBytesMax)
            else { return nil }
            return .error(
                "--\(entry.key)",
                "this host has \"\(entry.value)\", the coordinator \"\(theirs)\"",
                "remove it here: daemons of this host would be refused")
        }
    }

    /// Clocks matter to people who compare logs; no deadline depends on them.
    static func clock(_ offset: Interval, roundTrip: Interval) -> Finding {
        let apart = Interval(nanoseconds: abs(offset.nanoseconds))
        let text =
            "the coordinator's is \(Readable.time(apart)) \(offset < .zero ? "behind" : "ahead"), "
            + "known to within \(Readable.time(Interval(nanoseconds: roundTrip.nanoseconds / 2)))"
        if apart > .seconds(1) {
            return .warning("clock", text, "run chrony or systemd-timesyncd on both hosts")
        }
        return apart > .milliseconds(100)
            ? .note("clock", text, "logs of the two hosts do not line up") : .ok("clock", text)
    }

    // MARK: This host

    private static func ports(_ context: DoctorContext) -> [Finding] {
        var findings: [Finding] = []
        if let (host, port) = NetworkProbe.parts(of: context.endpoint), port > 0,
            NetworkProbe.isLocal(host)
        {
            findings.append(
                self.port(
                    "coordinator's port \(port)", owners: PortOwners.owners(of: port),
                    daemon: DaemonKind.coordinator.rawValue, isNeeded: true))
        }
        // Whether a gateway is to run on this host is not known.
        if let port = context.options.integer("port"), port > 0 {
            findings.append(
                self.port(
                    "gateway's port \(port)", owners: PortOwners.owners(of: port),
                    daemon: DaemonKind.gateway.rawValue, isNeeded: false))
        }
        return findings
    }

    static func port(
        _ place: String, owners: [String], daemon: String, isNeeded: Bool
    ) -> Finding {
        if owners.isEmpty { return .ok(place, "free") }
        let names = owners.joined(separator: ", ")
        // The kernel cuts no names here, so a daemon is known by its own.
        if owners.allSatisfy({ $0.hasPrefix(daemon + " ") }) {
            return .ok(place, "held by \(names)")
        }
        let text = "held by \(names), where \(daemon) would listen"
        let remedy = "stop that process, or take another port"
        return isNeeded ? .error(place, text, remedy) : .note(place, text, remedy)
    }

    private static func addresses(_ context: DoctorContext) -> [Finding] {
        let address = context.options.requiredText("worker-address")
        let coordinator = context.options.requiredText("data-parallel-address")
        let isLocal =
            NetworkProbe.isLocal(address)
            || NetworkProbe.interfaces().contains { $0.name == address }
        return [
            workerAddress(
                address, isLocal: isLocal,
                coordinatorIsElsewhere: !NetworkProbe.isLocal(coordinator))
        ]
    }

    static func workerAddress(
        _ address: String, isLocal: Bool, coordinatorIsElsewhere: Bool
    ) -> Finding {
        let place = "--worker-address \(address)"
        if !isLocal {
            return .error(
                place, "no interface of this host has it",
                "give the worker an address of this host (ip address shows them)")
        }
        if NetworkProbe.isLoopback(address) && coordinatorIsElsewhere {
            return .error(
                place, "the coordinator is on another host, whose gateways cannot reach it",
                "give --worker-address an address of this host's network")
        }
        return .ok(place, "this host has it")
    }

    private static func carriesCollectives(
        _ interface: NetworkProbe.Interface, _ context: DoctorContext
    ) -> Bool {
        let devices = context.options.text("collectives-device") ?? ""
        if !devices.isEmpty {
            return devices.split(separator: ",").contains { $0 == interface.name }
        }
        return interface.addresses.contains(context.options.requiredText("worker-address"))
    }

    static func interface(
        _ interface: NetworkProbe.Interface, carriesCollectives: Bool
    ) -> Finding {
        let addresses = interface.addresses.joined(separator: " ")
        let text = "MTU \(interface.mtu), \(addresses.isEmpty ? "no address" : addresses)"
        guard carriesCollectives, !interface.isLoopback else { return .ok(interface.name, text) }
        if interface.mtu < 1500 {
            return .warning(
                interface.name, text + "; it carries the workers' exchanges",
                "an MTU of 1500 at least, 9000 where the network takes it")
        }
        if interface.mtu < 9000 {
            return .note(
                interface.name, text + "; it carries the workers' exchanges",
                "an MTU of 9000 costs less CPU where the network takes it")
        }
        return .ok(interface.name, text)
    }

    private static func devices(_ context: DoctorContext) -> [Finding] {
        let devices = context.options.text("collectives-device") ?? ""
        let known =
            SystemFiles.entries(of: "/sys/class/net")
            + SystemFiles.entries(of: "/sys/class/infiniband")
        return devices.split(separator: ",").map { device in
            collectivesDevice(String(device), known: known)
        }
    }

    /// UCX names an RDMA device with its port, as in `mlx5_0:1`.
    static func collectivesDevice(_ name: String, known: [String]) -> Finding {
        let place = "--collectives-device \(name)"
        let device = String(name.prefix { $0 != ":" })
        if name == "all" || known.contains(device) { return .ok(place, "this host has it") }
        return .error(
            place, "this host has \(known.joined(separator: ", "))",
            "one of these: UCX would find no network")
    }

    // MARK: The other hosts

    private static func workers(_ context: DoctorContext) -> [Finding] {
        context.connections.map { connection in
            worker(
                connection.peer, host: connection.target.host, from: context.node,
                connection.attempt)
        }
    }

    /// - Parameter node: this host, as workers of it call it.
    static func worker(
        _ peer: PeerStatus, host: String, from node: String, _ attempt: ConnectionProbe.Attempt
    ) -> Finding {
        let place = "\(DeploymentHealth.name(peer)) at \(peer.endpoint)"
        if NetworkProbe.isLoopback(host), peer.node != node {
            return .error(
                place, "a loopback address, which no gateway of another host reaches",
                "give that worker a --worker-address of its network")
        }
        switch attempt {
        case .connected(let time):
            return .ok(place, "connected in \(Readable.time(time))")
        case .failed(let reason):
            return .error(
                place, "not reached from here: \(reason)",
                "a gateway here cannot use it: look at routes and firewalls")
        }
    }
}
