internal import CKernels
internal import Glibc

/// The model's stages on the CPU, by the kernels of one instruction set.
///
/// At level ``KernelLevel/reference`` it is the double against which every other backend is
/// tested. The residual stream and all sums are F32. With ``ElementType/float32`` so is everything
/// else but int8 layers; with ``ElementType/bfloat16`` the inputs of products and the latent cache
/// are rounded to BF16. Weights are packed for the kernels when they are loaded.
public final class CPUBackend: Backend {
    public enum KernelLevel: Int32, CaseIterable, Sendable {
        case reference = 0
        case portable = 1
        case avx2 = 2
        case avx512 = 3
        case avx512BF16 = 4
        case amx = 5

        /// The best one that this CPU runs.
        public static var best: KernelLevel {
            KernelLevel(rawValue: ck_kernels_best()) ?? .portable
        }
        public var isAvailable: Bool { ck_kernels_select(rawValue) != nil }
        /// Its name as an option.
        public var name: String {
            switch self {
            case .reference: "reference"
            case .portable: "portable"
            case .avx2: "avx2"
            case .avx512: "avx512"
            case .avx512BF16: "avx512_bf16"
            case .amx: "amx"
            }
        }
        /// What it needs and does not find here; nil where it runs.
        var refusal: String? { ck_kernels_refusal(rawValue).map { String(cString: $0) } }
    }

    public enum ElementType: Hashable, Sendable {
        case float32
        case bfloat16

        /// The cache of `--kv-cache-dtype auto`.
        var cacheType: CacheType { self == .float32 ? .float32 : .bfloat16 }
    }

    /// What the latent cache stores, in the words of `--kv-cache-dtype`.
    public enum CacheType: String, CaseIterable, Hashable, Sendable {
        case float32
        case bfloat16
        /// Latents as int8 with a scale a position, rotated keys in BF16.
        case int8

        var kind: Int32 {
            switch self {
            case .float32: Int32(CK_F32)
            case .bfloat16: Int32(CK_BF16)
            case .int8: Int32(CK_INT8_DYNAMIC)
            }
        }

        /// What a cache of this type is for a model: products of BF16 take pairs, so one of odd
        /// width stays F32.
        func stored(for config: ModelConfig) -> CacheType {
            config.cacheWidth % 2 == 0 ? self : .float32
        }

        /// Of one position in one layer.
        func byteCount(for config: ModelConfig) -> Int {
            ck_latent_entry_bytes(
                stored(for: config).kind, config.latentRank, config.ropeHeadSize)
        }
    }

    struct Embedding {
        /// `[vocabulary, columns]`
        let rows: UnsafeRawPointer
        let kind: Int32
    }

    public static let threadCountMax = Int(CK_THREADS_MAX)

    public let kernels: KernelLevel
    /// Of the inputs of products.
    public let elementType: ElementType
    public let cacheType: CacheType
    /// Whether float weights become int8 with a scale an output, and their inputs int8 a token.
    public let quantizesWeights: Bool
    public let failure: BackendError? = nil

    private(set) var engine: OpaquePointer
    var linears: [ck_linear] = []
    var embeddings: [Embedding] = []
    /// `[2 * heads]` each: queries to the latent space, then latents to values.
    var keyValues: [UnsafeMutablePointer<ck_linear>] = []
    var vectors: [UnsafeMutablePointer<Float>] = []
    var expertTables: [UnsafeMutablePointer<ck_mlp>] = []
    /// Whose experts are computed with; nil: its own.
    private var expertLoader: CPUBackend?
    private let weightsCache: PackedWeightsCache?
    let packed: PackedWeights
    var step: CPUStep?

    /// - Parameters:
    ///   - threads: threads that compute, the caller's included.
    ///   - cacheType: default: as `elementType`.
    ///   - weightsCache: where packed weights are shared; nil: this process has its own.
    public init(
        kernels: KernelLevel, threads: Int, elementType: ElementType = .float32,
        cacheType: CacheType? = nil, quantizesWeights: Bool = false,
        weightsCache: PackedWeightsCache? = nil
    ) throws(BackendError) {
        precondition((1...Self.threadCountMax).contains(threads), "\(threads) threads")
        if let refusal = kernels.refusal {
            throw .unsupported("this CPU does not run the \(kernels.name) kernels: \(refusal)")
        }
        guard let engine = ck_engine_create(kernels.rawValue, threads) else {
            throw .device("\(threads) threads cannot be started; raise the limit on tasks")
        }
        self.kernels = kernels
        self.elementType = elementType
        self.cacheType = cacheType ?? elementType.cacheType
        self.quantizesWeights = quantizesWeights
        self.engine = engine
        self.weightsCache = weightsCache
        packed = PackedWeights(cache: weightsCache)
    }

    deinit {
        ck_engine_destroy(engine)
        for table in expertTables { table.deallocate() }
        for table in keyValues { table.deallocate() }
    }

    /// What one block of the latent cache takes over all layers.
    public static func bytesPerBlock(
        _ config: ModelConfig, blockSize: Int, cacheType: CacheType
    ) -> Int {
        config.layerCount * blockSize * cacheType.byteCount(for: config)
    }

    public func prepare(_ config: ModelConfig, limits: BackendLimits) throws(BackendError) {
        precondition(step == nil, "prepared twice")
        step = try CPUStep(
            config: config, limits: limits, cacheType: cacheType.stored(for: config))
    }

    /// Fills the latent cache with small numbers of any type. Until it is written to, all of it is
    /// one page of zeros, which measurements would find in the processor's own caches.
    public func fillCache() {
        guard let cache = step?.cache else { preconditionFailure("not prepared") }
        memset(cache.address, 0x3c, cache.byteCount)
    }

    public func makeExpertLoader(isUrgent: Bool) throws(BackendError) -> any Backend {
        try CPUBackend(
            kernels: kernels, threads: isUrgent ? threadCount : 1, elementType: elementType,
            cacheType: cacheType, quantizesWeights: quantizesWeights, weightsCache: weightsCache)
    }

    public func adoptExperts(of loader: any Backend) {
        guard let loader = loader as? CPUBackend, loader !== self else {
            preconditionFailure("experts of another device")
        }
        loader.retireThreads()
        expertLoader = loader
    }

    /// Nothing is computed here any more.
    private func retireThreads() {
        guard threadCount > 1, let single = ck_engine_create(kernels.rawValue, 1) else { return }
        ck_engine_destroy(engine)
        engine = single
    }

    func expertTable(_ experts: ExpertsHandle) -> UnsafeMutablePointer<ck_mlp> {
        (expertLoader ?? self).expertTables[experts.index]
    }

    public func makeMatrix(rows: Int, columns: Int) throws(BackendError) -> DeviceMatrix {
        let buffer = try packed.own(byteCount: rows * columns * 4, purpose: "activations")
        return DeviceMatrix(address: buffer.address, rowCapacity: rows, columns: columns)
    }
}
