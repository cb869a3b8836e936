/// Handles to the weights of one model, by layer.
struct ModelWeights {
    struct Layer {
        let inputNorm: NormWeights
        let attention: AttentionWeights
        let postNorm: NormWeights
        let feedForward: FeedForward
    }

    enum FeedForward {
        case dense(MLPWeights)
        case experts(MoE)
    }

    struct MoE {
        let router: RouterWeights
        /// Which of the tables of the worker's ``ExpertShare`` is this layer's.
        let expertTable: Int
        let shared: MLPWeights?
    }

    let embedding: EmbeddingHandle
    let layers: [Layer]
    let finalNorm: NormWeights
    let head: LinearHandle
}
