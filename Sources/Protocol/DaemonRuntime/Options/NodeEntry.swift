/// One entry of the file's `nodes`: a host of the deployment, and what is said of it alone.
public struct NodeEntry: Hashable, Sendable {
    static let devicesMax = 1024

    public let name: String
    /// Where others reach its workers, and the coordinator when it runs there.
    public let address: String
    /// Network interface of ``address``.
    public let interface: String?
    /// Indices of its accelerators, one worker each, in the order of their ranks.
    public let devices: [Int]
    /// "FILE line N".
    public let place: String
    let given: [Options.Given]

    /// Whether a host that calls itself `host` is this node: its full name, or its first label.
    public func isHost(_ host: String) -> Bool {
        name == host || name == host.prefix { $0 != "." }
    }

    /// DP ranks of this node: `--data-parallel-size-local`, else as many as its devices make.
    ///
    /// - Parameter everywhere: what stands beside `nodes`.
    public func localSize(tensorParallelSize: Int, everywhere: Int?) -> Int {
        let own = given.last { $0.name == "data-parallel-size-local" }.flatMap { Int($0.value) }
        return own ?? everywhere ?? devices.count / max(tensorParallelSize, 1)
    }

    /// `--data-parallel-start-rank`, where this node gives it itself.
    public var givenStartRank: Int? {
        given.last { $0.name == "data-parallel-start-rank" }.flatMap { Int($0.value) }
    }

    /// The first DP rank of each node: what it gives itself, else where the one before it ends.
    public static func startRanks(
        of nodes: [NodeEntry], tensorParallelSize: Int, everywhere: Int?
    ) -> [Int] {
        var next = 0
        return nodes.map { node in
            let start = node.givenStartRank ?? next
            let size = node.localSize(
                tensorParallelSize: tensorParallelSize, everywhere: everywhere)
            next = start + size
            return start
        }
    }
}
