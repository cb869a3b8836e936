/// How large the group of workers may be, with the defaults that depend on other options.
extension Options {
    /// Workers of a group at most.
    public static let workersMax = 512

    /// DP ranks without which nothing is served. Half of those that a deployment begins with hold
    /// the whole model, unless the operator knows better.
    public var dataParallelSizeMin: Int {
        integer("data-parallel-size-min") ?? (requiredInteger("data-parallel-size") + 1) / 2
    }

    /// DP ranks at most.
    public var dataParallelSizeMax: Int {
        integer("data-parallel-size-max")
            ?? Self.workersMax / requiredInteger("tensor-parallel-size")
    }
}
