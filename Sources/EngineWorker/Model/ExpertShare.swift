internal import Protocol

/// The routed experts that a worker has for one place in a group, loaded beside a model that
/// computes with those for another place. What the places of a view are changes with its members;
/// everything else of a model stays.
///
/// One thread has it at a time: it is made on the engine's, loaded on another, and handed back.
final class ExpertShare: @unchecked Sendable {
    let layout: ParallelLayout
    let division: ExpertDivision
    /// Holds the memory.
    let loader: any Backend
    /// One a MoE layer.
    private(set) var tables: [ExpertsHandle] = []

    /// - Parameters:
    ///   - division: in a group of one worker every expert is whole.
    ///   - loader: see ``Backend/makeExpertLoader(isUrgent:)``.
    init(layout: ParallelLayout, division: ExpertDivision, loader: any Backend) {
        self.layout = layout
        self.division = layout.worldSize == 1 ? .byExpert : division
        self.loader = loader
    }

    /// - Parameter checkpoint: the model's.
    func load(_ checkpoint: Checkpoint) throws(ModelLoadError) {
        try check(checkpoint.config)
        var weights = try WeightLoader(
            checkpoint: checkpoint, backend: loader, layout: layout, division: division,
            progress: { _ in })
        try load(by: &weights)
    }

    func load(by weights: inout WeightLoader) throws(ModelLoadError) {
        tables = try weights.loadExperts()
    }

    /// Everything that is divided has a part for every worker.
    func check(_ config: ModelConfig) throws(ModelLoadError) {
        guard config.headCount >= layout.tensorParallelSize else {
            throw .layout(
                "\(config.headCount) attention heads cannot be divided among the "
                    + "\(layout.tensorParallelSize) workers of a DP rank: lower "
                    + "--tensor-parallel-size")
        }
        let smallest = min(config.expertInnerSize, config.hiddenSize)
        guard division == .byExpert || smallest >= layout.worldSize else {
            throw .layout(
                "experts with \(smallest) inner activations cannot be sliced for "
                    + "\(layout.worldSize) workers: use --enable-expert-parallel")
        }
    }
}
