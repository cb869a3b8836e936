internal import DaemonRuntime

/// Makes the planner's description out of options and of what the host says. Without `nodes` in
/// the file, the options describe this node alone, as one line of `vllm serve` does.
struct DeploymentReader {
    let options: Options
    let host: HostFacts
    /// Folder of the daemons; nil: that of this program, if they are there.
    let binaries: String?
    /// Which node this host is, where the command line says so.
    let localName: String?

    func read() throws(ControlError) -> Deployment {
        if let localName, options.nodes.isEmpty {
            throw .usage("--node \(localName): there is no file with nodes; see --node-name")
        }
        do throws(OptionError) {
            return options.nodes.isEmpty ? single() : try whole()
        } catch {
            throw .usage(error.description)
        }
    }

    /// The name of the file's node that is this host; nil where there is none.
    func localNodeName() throws(ControlError) -> String? {
        if options.nodes.isEmpty { return nil }
        do throws(OptionError) {
            return try local()
        } catch {
            throw .usage(error.description)
        }
    }

    private func local() throws(OptionError) -> String? {
        if let name = localName ?? options.text("node-name") {
            return try options.node(named: name).name
        }
        return options.nodes.first { $0.isHost(host.name) }?.name
    }

    private func whole() throws(OptionError) -> Deployment {
        let here = try local()
        var nodes: [Deployment.Node] = []
        for (entry, ranks) in zip(options.nodes, options.nodeRanks) {
            let own = try options.applying(entry)
            let isCoordinators = options.coordinatorNode?.name == entry.name
            let headless = own.isGiven("headless") ? own.flag("headless") : !isCoordinators
            nodes.append(
                Deployment.Node(
                    name: entry.name, place: entry.place, address: entry.address,
                    parsedAddress: NetworkAddress(entry.address), interface: entry.interface,
                    devices: entry.devices, startRank: ranks.start, localSize: ranks.size,
                    runsCoordinator: isCoordinators, runsGateway: !headless,
                    httpHost: own.requiredText("host"), httpPort: own.requiredInteger("port"),
                    hostInterfaces: entry.name == here ? host.interfaces : nil,
                    commands: commands(
                        own, local: ["--node-name=\(entry.name)"], workers: entry.devices.count,
                        isHere: entry.name == here)))
        }
        let address = options.coordinatorNode?.address
        return deployment(
            nodes, isWhole: true,
            coordinator: address ?? options.requiredText("data-parallel-address"),
            looksAtModel: here != nil)
    }

    private func single() -> Deployment {
        let dataParallelSize = options.requiredInteger("data-parallel-size")
        let tensorParallelSize = options.requiredInteger("tensor-parallel-size")
        let start = options.integer("data-parallel-start-rank") ?? 0
        let size = options.integer("data-parallel-size-local") ?? dataParallelSize
        let headless = options.flag("headless")
        let coordinator = options.requiredText("data-parallel-address")
        let runsCoordinator = !headless && start == 0
        let address = workerAddress(coordinator: coordinator, isHere: runsCoordinator)
        var local = ["--worker-address=\(address)"]
        var interface = options.text("collectives-device")
        let known = host.interfaces.first { $0.address.text == address }
        if interface == nil, let known, !known.address.isLoopback {
            interface = known.name
            local += ["--collectives-device=\(known.name)"]
        }
        if options.isGiven("data-parallel-start-rank") || headless || size < dataParallelSize {
            local += ["--data-parallel-start-rank=\(start)"]
        }
        let node = Deployment.Node(
            name: options.text("node-name") ?? host.name, place: "the command line",
            address: address, parsedAddress: NetworkAddress(address),
            // UCX has names of its own, such as mlx5_0:1.
            interface: known?.name, devices: Array(0..<size * tensorParallelSize),
            startRank: start, localSize: size, runsCoordinator: runsCoordinator,
            runsGateway: !headless, httpHost: options.requiredText("host"),
            httpPort: options.requiredInteger("port"), hostInterfaces: host.interfaces,
            commands: commands(
                options, local: local, workers: size * tensorParallelSize, isHere: true,
                declares: !runsCoordinator))
        return deployment(
            [node], isWhole: false, coordinator: coordinator, looksAtModel: true)
    }

    /// Where this node's workers are reached: where the coordinator is, or from where packets
    /// reach it.
    private func workerAddress(coordinator: String, isHere: Bool) -> String {
        if options.isGiven("worker-address") { return options.requiredText("worker-address") }
        if isHere { return coordinator }
        return HostFacts.sourceAddress(towards: coordinator) ?? coordinator
    }

    private func deployment(
        _ nodes: [Deployment.Node], isWhole: Bool, coordinator: String, looksAtModel: Bool
    ) -> Deployment {
        let path = options.text("model")
        return Deployment(
            dataParallelSize: options.requiredInteger("data-parallel-size"),
            tensorParallelSize: options.requiredInteger("tensor-parallel-size"),
            maxNumSeqs: options.requiredInteger("max-num-seqs"),
            maxNumBatchedTokens: options.requiredInteger("max-num-batched-tokens"),
            // Another host's folders are not this one's.
            model: looksAtModel
                ? ModelFacts(folder: path) : ModelFacts(path: path, problem: nil, experts: nil),
            coordinatorAddress: coordinator,
            coordinatorPort: options.requiredInteger("data-parallel-rpc-port"), nodes: nodes,
            isWhole: isWhole)
    }

    // MARK: Command lines

    /// What a daemon needs beyond the file: the command line's options that are its own, and what
    /// follows from the node.
    ///
    /// - Parameters:
    ///   - local: options that tell this node's workers who they are.
    ///   - declares: the workers repeat the deployment's options, so that the coordinator, which
    ///     another command line started, refuses those that differ.
    private func commands(
        _ own: Options, local: [String], workers: Int, isHere: Bool, declares: Bool = false
    ) -> [Deployment.Role: [String]] {
        let isFile = !options.nodes.isEmpty
        var commands: [Deployment.Role: [String]] = [:]
        for role in Deployment.Role.allCases {
            guard let daemon = DaemonKind(rawValue: role.rawValue) else { continue }
            var command = [DaemonFolder.program(role, in: binaries)]
            for (name, value) in options.commandLine {
                guard let specification = OptionTable.specification(of: name),
                    specification.belongs(to: daemon), !isDerived(name, isFile)
                else { continue }
                let isTheirs =
                    specification.scope != .deployment || role == .coordinator
                    || (role == .worker && (declares || name == "tensor-parallel-size"))
                guard isTheirs else { continue }
                // Units are started in another folder.
                let meant = name == "config" ? host.absolutePath(value) : value
                command.append(Self.flag(specification, meant))
            }
            if isFile || role == .worker { command += local }
            if role == .worker, isHere, own.requiredInteger("worker-threads") == 0, workers > 0 {
                command += ["--worker-threads=\(max(1, host.processors / workers))"]
            }
            commands[role] = command
        }
        return commands
    }

    /// What ``local`` and the planner say for each process.
    private func isDerived(_ name: String, _ isFile: Bool) -> Bool {
        switch name {
        case "device-index": true
        case "node-name": isFile
        case "data-parallel-start-rank", "worker-address": !isFile
        default: false
        }
    }

    private static func flag(_ specification: OptionSpecification, _ value: String) -> String {
        guard specification.kind == .flag else { return "--\(specification.name)=\(value)" }
        return value == "true" ? "--\(specification.name)" : "--no-\(specification.name)"
    }
}
