/// The environment that a recipe for vLLM-Ascend has an operator type on every node, derived. The
/// CPU reads none of it.
enum AscendEnvironment {
    /// HCCL's own default, in MiB.
    static let bufferMinimum = 200
    /// Rows a rank of the fused dispatch takes at most; larger batches go another way.
    static let dispatchRowsMax = 256

    static func variables(
        of node: Deployment.Node, _ deployment: Deployment
    ) -> [DeploymentPlan.Variable] {
        let (interface, origin) = interface(of: node)
        let interfaceVariables = [
            "HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME",
        ].map { DeploymentPlan.Variable(name: $0, value: interface, origin: origin) }
        let noThreads = "without effect: kernels have their own threads, see --worker-threads"
        return [
            DeploymentPlan.Variable(
                name: "HCCL_IF_IP", value: node.address,
                origin: "address of node \"\(node.name)\" (\(node.place))")
        ] + interfaceVariables + [
            buffer(deployment),
            DeploymentPlan.Variable(name: "OMP_PROC_BIND", value: nil, origin: noThreads),
            DeploymentPlan.Variable(name: "OMP_NUM_THREADS", value: nil, origin: noThreads),
        ]
    }

    private static func interface(of node: Deployment.Node) -> (name: String?, origin: String) {
        if let name = node.interface {
            return (name, "interface of node \"\(node.name)\" (\(node.place))")
        }
        if let found = node.hostInterfaces?.first(where: {
            $0.address.bytes == node.parsedAddress?.bytes
        }) {
            return (found.name, "the interface of this host that has address \(node.address)")
        }
        return (nil, "known on node \"\(node.name)\" alone, or from `interface` of it")
    }

    /// Of the fused dispatch on Atlas A2: each rank sends every row to as many experts of every
    /// other rank as a token can choose there; two such buffers of 16-bit values, and 2 MiB of
    /// state each.
    private static func buffer(_ deployment: Deployment) -> DeploymentPlan.Variable {
        let name = "HCCL_BUFFSIZE"
        let ranks = deployment.dataParallelSize * deployment.tensorParallelSize
        guard let experts = deployment.model.experts else {
            return DeploymentPlan.Variable(
                name: name, value: nil, origin: "unknown without the model's config.json")
        }
        let rows = min(deployment.maxNumSeqs, dispatchRowsMax)
        let local = (experts.count + ranks - 1) / ranks
        let choices = min(local, experts.perToken)
        let needed = 2 * (rows * ranks * choices * experts.hiddenSize * 2 + 2 << 20)
        let mebibytes = max((needed + (1 << 20) - 1) >> 20, bufferMinimum)
        return DeploymentPlan.Variable(
            name: name, value: "\(mebibytes)",
            origin: "2 x (\(rows) rows x \(ranks) ranks x \(choices) experts x hidden size "
                + "\(experts.hiddenSize) x 2 bytes + 2 MiB) in MiB (Atlas A2), at least "
                + "\(bufferMinimum)")
    }
}
