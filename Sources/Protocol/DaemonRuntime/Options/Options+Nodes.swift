/// What the file's `nodes` say to the processes of one node.
extension Options {
    /// The node that is called `name`, by default what `--node-name` says, else the host.
    public func node(
        named name: String?, host: String = HostName.current
    ) throws(OptionError) -> NodeEntry {
        let known = nodes.map(\.name).joined(separator: ", ")
        if let name = name ?? text("node-name") {
            if let node = nodes.first(where: { $0.name == name }) { return node }
            throw OptionError(description: "--node-name: no node \"\(name)\"; there are \(known)")
        }
        if let node = nodes.first(where: { $0.isHost(host) }) { return node }
        throw OptionError(
            description: "this host is called \"\(host)\", and the file has no such node; give "
                + "--node-name, one of \(known)")
    }

    /// These options as a process on `node` has them.
    public func applying(_ node: NodeEntry) throws(OptionError) -> Options {
        var applied = self
        try applied.take(node)
        return applied
    }

    /// The node on which the coordinator runs: the one with `--data-parallel-address`, by default
    /// the first. nil when the address is no node's.
    public var coordinatorNode: NodeEntry? {
        guard let address = values["data-parallel-address"]?.last else { return nodes.first }
        return nodes.first { $0.address == address }
    }

    private var localSizeEverywhere: Int? {
        values["data-parallel-size-local"]?.last.flatMap { Int($0) }
    }

    /// The first DP rank and the number of DP ranks of each of ``nodes``.
    public var nodeRanks: [(start: Int, size: Int)] {
        let tensorParallelSize = requiredInteger("tensor-parallel-size")
        let everywhere = localSizeEverywhere
        let starts = NodeEntry.startRanks(
            of: nodes, tensorParallelSize: tensorParallelSize, everywhere: everywhere)
        return zip(nodes, starts).map { node, start in
            let size = node.localSize(
                tensorParallelSize: tensorParallelSize, everywhere: everywhere)
            return (start, size)
        }
    }

    mutating func take(_ node: NodeEntry) throws(OptionError) {
        let coordinator = coordinatorNode
        if daemon == .coordinator, let coordinator, coordinator.name != node.name {
            throw OptionError(
                description: "the coordinator runs on node \"\(coordinator.name)\", and this is "
                    + "\"\(node.name)\"; see data-parallel-address")
        }
        let ranks = zip(nodes, nodeRanks).first { $0.0.name == node.name }?.1
        self.node = node
        for name in Set(node.given.map(\.name)) { values[name] = nil }
        for entry in node.given { try accept(entry) }
        if let interface = node.interface,
            !node.given.contains(where: { $0.name == "collectives-device" })
        {
            values["collectives-device"] = [interface]
        }
        let derived: [(name: String, value: String?)] = [
            ("node-name", node.name),
            ("worker-address", node.address),
            ("data-parallel-address", coordinator?.address),
            ("data-parallel-start-rank", ranks.map { "\($0.start)" }),
            ("data-parallel-size-local", ranks.map { "\($0.size)" }),
        ]
        for (name, value) in derived where values[name] == nil {
            values[name] = value.map { [$0] }
        }
        try takeFlags()
        if daemon == .worker, case let device = requiredInteger("device-index"),
            !node.devices.contains(device)
        {
            let known = node.devices.map(String.init).joined(separator: ", ")
            throw OptionError(
                description: "--device-index \(device): node \"\(node.name)\" (\(node.place)) has "
                    + "the devices \(known)")
        }
    }

    /// The place of the worker's device among those of its node: without a list, its index.
    public var devicePlace: Int {
        let device = requiredInteger("device-index")
        return node.flatMap { $0.devices.firstIndex(of: device) } ?? device
    }
}
